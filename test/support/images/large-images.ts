/**
 * Owns images that keep a real process busy for some tenths of a second, so that a signal meets it at work. Must stay
 * cheap to make: the same few bytes over and over, written once a test file.
 */
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { create } from "../../../src/lib/index.ts";
import { noise } from "../random.ts";

const BLOCK_BYTES = 1024;
const BITMAP_BYTE = 1024;
const FLAGS_BYTE = 6;
const USED_BYTE = 48;
const TILE_BYTES = 1 << 20;
const PAGE_BYTES = 4096;

export interface LargeImages {
  /** The base, all data. */
  readonly base: string;
  /** An le64 cowfile over it that holds every other block */
  readonly cow: string;
  /** What a merge gives. */
  readonly merged: string;
  readonly blocks: number;
  /** How many of them the cowfile holds. */
  readonly held: number;
}

function writeTiles(file: string, sizeBytes: number, seed: number): void {
  const tile = noise(TILE_BYTES, seed);
  const fd = openSync(file, "w");
  for (let at = 0; at < sizeBytes; at += TILE_BYTES) writeSync(fd, tile, 0, Math.min(TILE_BYTES, sizeBytes - at), at);
  closeSync(fd);
}

/** Makes `large.img`, `large.cow` and `large.merged`, of `mebibytes` each. */
export async function makeLargeImages(at: (name: string) => string, mebibytes: number): Promise<LargeImages> {
  const blocks = mebibytes * 1024;
  const held = blocks / 2;
  const images = { base: at("large.img"), cow: at("large.cow"), merged: at("large.merged"), blocks, held };
  const sizeBytes = mebibytes * TILE_BYTES;
  writeTiles(images.base, sizeBytes, 1);
  const { data_offset } = await create(images.base, images.cow, {}, {});
  const cow = Buffer.alloc(data_offset + sizeBytes - BLOCK_BYTES);
  readFileSync(images.cow).copy(cow);
  cow.fill(0x55, BITMAP_BYTE, BITMAP_BYTE + images.blocks / 8);
  cow.writeBigUInt64LE(BigInt(images.held), USED_BYTE);
  const merged = readFileSync(images.base);
  const tile = Buffer.from(noise(TILE_BYTES, 2));
  for (let block = 0; block < images.blocks; block += 2) {
    const from = (block * BLOCK_BYTES) % TILE_BYTES;
    tile.copy(cow, data_offset + block * BLOCK_BYTES, from, from + BLOCK_BYTES);
    tile.copy(merged, block * BLOCK_BYTES, from, from + BLOCK_BYTES);
  }
  writeFileSync(images.cow, cow);
  writeFileSync(images.merged, merged);
  return images;
}

/**
 * Makes an le64 cowfile that was never closed, and no block of it is marked: 4 KiB of data, 4 KiB of hole, and so on. It
 * is the number of extents that keeps a survey busy; their bytes go by at some GiB a second.
 */
export async function makeDirtyCowfile(at: (name: string) => string, name: string, mebibytes: number): Promise<void> {
  const base = at("sparse.img");
  writeFileSync(base, "");
  truncateSync(base, mebibytes * TILE_BYTES);
  const { data_offset } = await create(base, at(name), {}, {});
  const page = noise(PAGE_BYTES, 2);
  const fd = openSync(at(name), "r+");
  writeSync(fd, Uint8Array.of(1), 0, 1, FLAGS_BYTE);
  for (let offset = 0; offset < mebibytes * TILE_BYTES; offset += 2 * PAGE_BYTES)
    writeSync(fd, page, 0, PAGE_BYTES, data_offset + offset);
  closeSync(fd);
}
