/**
 * Owns the layout of snap.c's log devices, as its author intended it: a bitmap of the source's blocks, a map with the
 * place of each preserved block, and the old blocks. A log has neither head nor magic: the user must give its
 * parameters.
 */
import { CowError } from "../../errors.ts";
import type { Setting } from "../format.ts";

export const snapSettings: readonly Setting[] = [
  { name: "block", value: "BYTES", meaning: "the block size of the source: 512, 1024, 2048 or 4096" },
  { name: "word", value: "4|8", meaning: "bytes of an unsigned long on the machine that wrote it" },
  { name: "endian", value: "little|big", meaning: "the byte order of that machine" },
  { name: "blocks", value: "N", meaning: "blocks of the source, if no source is below" },
];

const BLOCK_SIZES: readonly number[] = [512, 1024, 2048, 4096, 8192];

/** Block numbers were signed 32-bit numbers at most. */
export const MAX_BLOCKS = 2 ** 31;

export interface SnapTerms {
  readonly blockBytes: number;
  readonly wordBytes: 4 | 8;
  readonly littleEndian: boolean;
}

export interface SnapGeometry extends SnapTerms {
  /** Blocks of the source. */
  readonly sourceBlocks: number;
  /** Only the first half of each block of the map is used: that is how the driver counts. */
  readonly entriesPerBlock: number;
  readonly bitmapBlocks: number;
  readonly mapBlocks: number;
  /** The first block of old data. */
  readonly dataBase: number;
  /** A log has at least this many blocks. */
  readonly leastLogBlocks: number;
}

/** @throws CowError `usage` unless block size, word size and byte order are given and valid */
export function parseTerms(settings: ReadonlyMap<string, string> | undefined, file: string): SnapTerms {
  const lacking = ["block", "word", "endian"].filter((name) => !settings?.has(name));
  if (lacking.length > 0)
    throw new CowError("usage", `is a log of snap.c, which says nothing of itself: ${lacking.join(", ")} not given`, {
      file,
      hints: ["for instance snap:block=1024;word=4;endian=little;log0.img;log1.img"],
    });
  const [block = "", word = "", endian = ""] = ["block", "word", "endian"].map((name) => settings?.get(name));
  const blockBytes = /^\d{1,5}$/.test(block) ? Number(block) : 0;
  if (!BLOCK_SIZES.includes(blockBytes))
    throw new CowError("usage", `block=${block} is no block size: ${BLOCK_SIZES.join(", ")}`, { file });
  if (word !== "4" && word !== "8") throw new CowError("usage", `word=${word} is neither 4 nor 8`, { file });
  if (endian !== "little" && endian !== "big")
    throw new CowError("usage", `endian=${endian} is neither little nor big`, { file });
  return { blockBytes, wordBytes: word === "4" ? 4 : 8, littleEndian: endian === "little" };
}

/** The number of blocks of the source, if the user gave it. @throws CowError `usage` if it is not such a number */
export function parseSourceBlocks(settings: ReadonlyMap<string, string> | undefined, file: string): number | undefined {
  const text = settings?.get("blocks");
  if (text === undefined) return undefined;
  if (!/^\d{1,10}$/.test(text) || Number(text) === 0 || Number(text) > MAX_BLOCKS)
    throw new CowError("usage", `blocks=${text} is no number from 1 to ${MAX_BLOCKS}`, { file });
  return Number(text);
}

/** @param sourceBlocks from 1 to MAX_BLOCKS */
export function geometryOf(terms: SnapTerms, sourceBlocks: number): SnapGeometry {
  const bitmapBlocks = Math.ceil(sourceBlocks / (8 * terms.blockBytes));
  const entriesPerBlock = terms.blockBytes / (2 * terms.wordBytes);
  const mapBlocks = Math.ceil(sourceBlocks / entriesPerBlock);
  const dataBase = bitmapBlocks + mapBlocks;
  return { ...terms, sourceBlocks, entriesPerBlock, bitmapBlocks, mapBlocks, dataBase, leastLogBlocks: 2 * dataBase };
}
