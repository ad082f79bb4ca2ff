/**
 * Owns the files that an exploration of chains begins with: a base, and disks over it, each a cowfile and its stack file,
 * in one directory or in several.
 */
import { join } from "node:path";
import { create, MemoryStorage, SparseBytes } from "../../../src/lib/index.ts";
import type { Files, Random } from "../disk.ts";
import { SECTOR_BYTES } from "../disk.ts";
import type { Window } from "../oracle.ts";
import { paint, pick, whole } from "../world.ts";

const BLOCK_BYTES = 1024;
const NAMES = ["a", "b", "c"] as const;

export interface ChainWorld {
  readonly files: Files;
  /** Their stack files. */
  readonly disks: readonly string[];
  /** The whole of an image. */
  readonly windows: readonly [Window];
  /** What each disk reads as at first. */
  readonly initial: Buffer;
}

export async function makeChainWorld(next: Random): Promise<ChainWorld> {
  const blockCount = whole(next, 6, 40);
  const windows: readonly [Window] = [{ fromSector: 0, count: blockCount * (BLOCK_BYTES / SECTOR_BYTES) }];
  const storage = new MemoryStorage();
  const base = new SparseBytes();
  paint(base, windows, next, 1, 0.7);
  base.resize(blockCount * BLOCK_BYTES);
  storage.put("base", base);
  const isOneDirectory = next() < 0.5;
  const disks: string[] = [];
  for (const name of NAMES.slice(0, pick(next, [1, 1, 2, 2, 3]))) {
    const path = isOneDirectory ? name : join(`in-${name}`, name);
    const stackFile = `${path}.stack`;
    await create("base", `${path}.cow`, { stackFile, identity: "none" }, { storage });
    disks.push(stackFile);
  }
  const files = new Map(storage.paths().map((path) => [path, storage.content(path) ?? new SparseBytes()]));
  return { files, disks, windows, initial: Buffer.from(base.toBytes()) };
}
