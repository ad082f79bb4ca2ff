/**
 * Owns the files that an exploration begins with (a base with data, zeros and holes; perhaps a layer; a cowfile) and the
 * content of requests: every sector says who wrote it, so that nothing can be taken for something else.
 */
import { isDirty } from "../../src/lib/formats/cowfile/head.ts";
import { CowfileLayer, openCowfile } from "../../src/lib/formats/cowfile/layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "../../src/lib/formats/cowfile/layout.ts";
import { journalPath } from "../../src/lib/formats/cowfile/live/journal.ts";
import { isOfThisBoot, readStamp } from "../../src/lib/formats/cowfile/live/stamp.ts";
import {
  ABI_NAMES,
  create,
  dataOffsetFor,
  MemoryDevice,
  MemoryStorage,
  mapSizeFor,
  SparseBytes,
} from "../../src/lib/index.ts";
import { assembleImage } from "../../src/lib/stack/live/assemble.ts";
import type { FoundState } from "../../src/lib/stack/live/found-state.ts";
import type { LiveImage } from "../../src/lib/stack/live/image.ts";
import { WritableCowfile } from "../../src/lib/stack/live/open-cowfile.ts";
import { type Files, type Random, SECTOR_BYTES } from "./disk.ts";
import type { RawCowfile } from "./foreign.ts";
import { LookStorage } from "./look-storage.ts";
import type { Window } from "./oracle.ts";

const BASE = "base";
export const COW = "vm.cow";
export const JOURNAL = journalPath(COW);
const MIDDLE = "middle.cow";
const REGION_BLOCKS = 256;
/** The first block whose mark lies in the second page of the bitmap. */
const PAGE_BLOCK = (4096 - BITMAP_OFFSET_BYTES) * 8;

export interface World {
  readonly files: Files;
  /** Bottom to top, the cowfile last. */
  readonly parts: readonly string[];
  readonly blockCount: number;
  readonly dataOffsetBytes: number;
  /** Where requests are made. */
  readonly windows: readonly Window[];
  /** What the windows read as at first. */
  readonly initial: Buffer;
  /** What they read as where the cowfile holds nothing. */
  readonly below: Buffer;
  readonly partOf: (path: string, offset: number) => string;
}

export function whole(next: Random, from: number, to: number): number {
  return from + Math.floor(next() * (to - from));
}

export function pick<Item>(next: Random, items: readonly Item[]): Item {
  return items[Math.floor(next() * items.length)] as Item;
}

/** Fills bytes so that every four of them differ from those of every other author and place. */
export function sign(bytes: Uint8Array, author: number, place: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i + 4 <= bytes.length; i += 4)
    view.setUint32(i, Math.imul(author, 0x9e37_79b1) ^ ((place + i) >>> 2));
  for (let i = bytes.length - (bytes.length % 4); i < bytes.length; i++) bytes[i] = 0x80 | author;
}

export function paint(
  content: SparseBytes,
  windows: readonly Window[],
  next: Random,
  author: number,
  share: number,
): void {
  for (const { fromSector, count } of windows) {
    const end = (fromSector + count) * SECTOR_BYTES;
    for (let at = fromSector * SECTOR_BYTES; at < end; ) {
      const length = Math.min(whole(next, 1, 24) * BLOCK_BYTES, end - at);
      const chance = next();
      if (chance < share) {
        const bytes = new Uint8Array(length);
        if (chance < share * 0.8) sign(bytes, author, at);
        content.write(bytes, at);
      }
      at += length;
    }
  }
}

function chooseWindows(next: Random): { readonly blockCount: number; readonly windows: readonly Window[] } {
  const window = (fromBlock: number, blocks: number): Window => ({ fromSector: fromBlock * 2, count: blocks * 2 });
  if (next() < 0.85) {
    const blockCount = pick(next, [
      whole(next, 8, 64),
      whole(next, 64, 255),
      whole(next, 250, 300),
      whole(next, 300, 600),
    ]);
    return { blockCount, windows: [window(0, blockCount)] };
  }
  const blockCount = PAGE_BLOCK + whole(next, 40, 1200);
  return {
    blockCount,
    windows: [
      window(0, 24),
      window(3 * REGION_BLOCKS - 16, 32),
      window(PAGE_BLOCK - 24, 48),
      window(blockCount - 12, 12),
    ],
  };
}

export async function makeWorld(next: Random): Promise<World> {
  const { blockCount, windows } = chooseWindows(next);
  const storage = new MemoryStorage();
  const base = new SparseBytes();
  paint(base, windows, next, 1, 0.7);
  base.resize(blockCount * BLOCK_BYTES + (next() < 0.3 ? whole(next, 1, BLOCK_BYTES) : 0));
  storage.put(BASE, base);
  const changed = base.clone();
  paint(changed, windows, next, 2, 0.3);
  storage.put("changed", changed);
  const kind = pick(next, ["empty", "empty", "filled", "layered"] as const);
  const abi = next() < 0.8 ? "le64" : pick(next, ABI_NAMES);
  const context = { storage };
  const parts = kind === "layered" ? [BASE, MIDDLE, COW] : [BASE, COW];
  if (kind === "layered") await create(BASE, MIDDLE, { from: "changed" }, context);
  await create(parts.slice(0, -1).join(","), COW, { abi, from: kind === "filled" ? "changed" : undefined }, context);
  const dataOffsetBytes = dataOffsetFor(mapSizeFor(blockCount));
  const readAll = (image: SparseBytes): Buffer =>
    Buffer.concat(
      windows.map(({ fromSector, count }) => {
        const bytes = new Uint8Array(count * SECTOR_BYTES);
        image.read(bytes, fromSector * SECTOR_BYTES);
        return bytes;
      }),
    );
  return {
    files: new Map(parts.map((path) => [path, storage.content(path) ?? new SparseBytes()])),
    parts,
    blockCount,
    dataOffsetBytes,
    windows,
    initial: readAll(kind === "empty" ? base : changed),
    below: readAll(kind === "layered" ? changed : base),
    partOf: (path, offset) => (path === COW ? partOfCowfile(offset, dataOffsetBytes) : path),
  };
}

function partOfCowfile(offset: number, dataOffsetBytes: number): string {
  if (offset < BITMAP_OFFSET_BYTES) return "head";
  return offset < dataOffsetBytes ? "bitmap" : `data${Math.floor((offset - dataOffsetBytes) / 65536) % 4}`;
}

export interface Reopened {
  readonly found: FoundState;
  readonly image: LiveImage;
  readonly cowfile: WritableCowfile;
}

/** As WritableCowfile.open was before a life began to watch it. */
const openWritable = WritableCowfile.open.bind(WritableCowfile);

function wasKilled(content: SparseBytes, boot: Uint8Array): boolean {
  const { head, headBlock } = openCowfile(new MemoryDevice(COW, content));
  const stamp = isDirty(head) ? readStamp(head, headBlock) : undefined;
  return stamp !== undefined && isOfThisBoot(stamp, boot);
}

/** Opens what a crash left, as a new process would. */
export function reopen(files: Files, { parts, dataOffsetBytes }: World, boot: Uint8Array): Reopened {
  const content = files.get(COW) ?? new SparseBytes();
  // After a kill everything is known without a search. A clean file, and one after a restart, are looked through for data
  // without a mark, which is not to be lost.
  const guard = { path: COW, from: dataOffsetBytes, isOn: wasKilled(content, boot) };
  const storage = new LookStorage(files, guard);
  const cowfile = openWritable(storage, COW, storage.open(COW), { boot });
  guard.isOn = false;
  const layers = parts.slice(1, -1).map((path) => new CowfileLayer(storage.open(path), { allowDirty: false }));
  const image = assembleImage({ name: COW, base: storage.open(BASE), layers, top: cowfile.writable() });
  return { found: cowfile.found, image, cowfile };
}

/** @param into where to put it, to spare the memory */
export function readWindows(image: LiveImage, windows: readonly Window[], into?: Buffer): Buffer {
  const bytes = into ?? Buffer.alloc(windows.reduce((sum, { count }) => sum + count, 0) * SECTOR_BYTES);
  let at = 0;
  for (const { fromSector, count } of windows) {
    image.read(bytes.subarray(at, at + count * SECTOR_BYTES), fromSector * SECTOR_BYTES);
    at += count * SECTOR_BYTES;
  }
  return bytes;
}

/** What the original driver would read, block by block. */
export function readRaw(raw: RawCowfile, { windows, below }: World): Buffer {
  const bytes = Buffer.from(below);
  let at = 0;
  for (const { fromSector, count } of windows) {
    for (let block = fromSector / 2; block < (fromSector + count) / 2; block++) {
      if (raw.has(block)) bytes.set(raw.block(block), at);
      at += BLOCK_BYTES;
    }
  }
  return bytes;
}
