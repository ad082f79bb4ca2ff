/**
 * Owns the files that command tests work on: a folder for each test, with a base, another image and cowfiles in several
 * states in it; and pictures of a folder, to see what a command changed. Must not run commands.
 */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, beforeEach } from "vitest";
import { create } from "../../../src/lib/index.ts";
import { noise } from "../random.ts";
import { scratchDirectory, sha256 } from "../scratch.ts";

const BLOCK_BYTES = 1024;
/** More than one byte of bitmap, less than one block of it; no multiple of eight. */
const BLOCKS = 300;
const BITMAP_BYTE = 1024;
const MAP_BYTES = 1024;
const DATA_BYTE = 4096;
const PAGE_BYTES = 4096;
const HEAD_BYTES = 56;
const FLAGS_BYTE = 6;

/** Writes a file with holes where whole pages of it are zeros, as a driver leaves it. */
function writeSparse(file: string, bytes: Uint8Array): void {
  const fd = openSync(file, "w");
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const page = bytes.subarray(at, at + PAGE_BYTES);
    if (page.some((byte) => byte !== 0)) writeSync(fd, page, 0, page.length, at);
  }
  ftruncateSync(fd, bytes.length);
  closeSync(fd);
}

/** The bytes of a file, edited at one place. */
function edited(file: string, edit: (bytes: Buffer) => Buffer | undefined): Buffer {
  const bytes = readFileSync(file);
  return edit(bytes) ?? bytes;
}

function setBit(bytes: Buffer, block: number, isSet: boolean): void {
  const at = BITMAP_BYTE + (block >> 3);
  const mask = 1 << (block & 7);
  bytes[at] = isSet ? (bytes[at] ?? 0) | mask : (bytes[at] ?? 0) & ~mask;
}

/** The blocks that `vm.cow` holds, by number: the fingerprint's first one, a run, a zero, the last one. */
export const HELD: readonly number[] = [0, 10, 11, 12, 13, 14, 15, 50, 100, 299];

/**
 * Fills `dir`:
 * `base.img`, `changed.img` (another image of its size), `vm.cow` (their difference), `sibling.cow` (another over the
 * same base), `rival.cow` (one that changed block 12 to something else), `top.cow` (over base and vm), `dirty.cow` (vm, not
 * closed: blocks 11 to 13 not marked), `lost.cow` (block 299 is marked, but the file ends before), `hostile.cow` (2^63 blocks),
 * `be32.cow`, `plain.pack` and `gzip.pack` (vm, packed), `random.img`, `zero.img`, `empty.img`
 */
async function makeImages(dir: string): Promise<void> {
  const at = (name: string): string => join(dir, name);
  const base = Buffer.from(noise(BLOCKS * BLOCK_BYTES, 1));
  base.fill(0, 200 * BLOCK_BYTES, 240 * BLOCK_BYTES);
  writeFileSync(at("base.img"), base);
  const changed = Buffer.from(base);
  for (const block of HELD) changed.set(noise(BLOCK_BYTES, 100 + block), block * BLOCK_BYTES);
  changed.fill(0, 50 * BLOCK_BYTES, 51 * BLOCK_BYTES);
  writeFileSync(at("changed.img"), changed);
  const other = Buffer.from(base);
  other.set(noise(2 * BLOCK_BYTES, 3), 20 * BLOCK_BYTES);
  writeFileSync(at("other.img"), other);

  await create(at("base.img"), at("vm.cow"), { from: at("changed.img") }, {});
  await create(at("base.img"), at("be32.cow"), { from: at("changed.img"), abi: "be32" }, {});
  const rival = Buffer.from(base);
  rival.set(noise(BLOCK_BYTES, 7), 12 * BLOCK_BYTES);
  writeFileSync(at("rival.img"), rival);
  await create(at("base.img"), at("rival.cow"), { from: at("rival.img") }, {});
  await create(at("base.img"), at("sibling.cow"), { from: at("other.img") }, {});
  await create(`${at("base.img")},${at("vm.cow")}`, at("top.cow"), { from: at("other.img") }, {});
  const cow = (edit: (bytes: Buffer) => Buffer | undefined): Buffer => edited(at("vm.cow"), edit);
  writeSparse(
    at("dirty.cow"),
    cow((bytes) => {
      bytes[FLAGS_BYTE] = 1;
      for (const block of [11, 12, 13]) setBit(bytes, block, false);
      return undefined;
    }),
  );
  writeSparse(
    at("lost.cow"),
    cow((bytes) => bytes.subarray(0, DATA_BYTE + 250 * BLOCK_BYTES)),
  );
  writeSparse(
    at("hostile.cow"),
    cow((bytes) => {
      bytes.writeBigUInt64LE(2n ** 63n, 32);
      return undefined;
    }),
  );
  writePacks(at("vm.cow"), at("plain.pack"), at("gzip.pack"));
  writeFileSync(at("random.img"), noise(BLOCKS * BLOCK_BYTES, 2));
  writeFileSync(at("zero.img"), new Uint8Array(BLOCKS * BLOCK_BYTES));
  writeFileSync(at("empty.img"), "");
}

/** The two packed forms of a le64 cowfile, as the original cowpack writes them. */
function writePacks(cow: string, plain: string, gzip: string): void {
  const bytes = readFileSync(cow);
  bytes[FLAGS_BYTE] = 2;
  const upToData = bytes.subarray(0, DATA_BYTE);
  const blocks = HELD.map((block) => bytes.subarray(DATA_BYTE + block * BLOCK_BYTES).subarray(0, BLOCK_BYTES));
  writeFileSync(plain, Buffer.concat([upToData, ...blocks]));
  const bitmap = bytes.subarray(BITMAP_BYTE, BITMAP_BYTE + MAP_BYTES);
  writeFileSync(gzip, gzipSync(Buffer.concat([bytes.subarray(0, HEAD_BYTES), bitmap, ...blocks])));
}

/** A path in the current test's folder; `""` is the folder itself. */
export type At = (name: string) => string;

/** A fresh folder for each test: the first time that one of the images of makeImages() is named, a copy of it appears. */
export function useImages(): At {
  const at = scratchDirectory();
  let current = "";
  let count = 0;
  beforeAll(async () => {
    mkdirSync(at("masters"));
    await makeImages(at("masters"));
  });
  beforeEach(() => {
    current = at(`${count++}`);
    mkdirSync(current);
  });
  return (name) => {
    const path = join(current, name);
    const master = join(at("masters"), name);
    if (name !== "" && !existsSync(path) && existsSync(master)) writeSparse(path, readFileSync(master));
    return path;
  };
}

/** What is known of one directory entry; equal for two pictures only if nobody touched it. */
export interface Entry {
  readonly kind: string;
  readonly mode: number;
  readonly mtimeMs: number;
  /** SHA-256 of a file, target of a symbolic link. */
  readonly content: string;
}

export type Picture = Readonly<Record<string, Entry>>;

/** Everything in a folder, with content and time of change. */
export function pictureOf(dir: string): Picture {
  const names = readdirSync(dir).sort();
  return Object.fromEntries(
    names.map((name) => {
      const path = join(dir, name);
      const stat = lstatSync(path);
      const kind = stat.isFile() ? "file" : stat.isSymbolicLink() ? "link" : stat.isDirectory() ? "directory" : "other";
      const content = kind === "file" ? sha256(path) : kind === "link" ? readlinkSync(path) : "";
      return [name, { kind, mode: stat.mode, mtimeMs: stat.mtimeMs, content }];
    }),
  );
}
