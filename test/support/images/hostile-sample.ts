/**
 * Owns the small base and cowfile that the hostile tests start from, and the ways to spoil them.
 */
import { type CowAbi, headLayout } from "../../../src/lib/index.ts";
import { BLOCK, type CowContents, cowfileBytes, naiveFingerprint } from "./driver-model.ts";

export const RDO_BLOCKS = 12;
export const base = Buffer.alloc(RDO_BLOCKS * BLOCK + 100, 0x11);
for (let b = 0; b < RDO_BLOCKS; b++) base[b * BLOCK] = 0x40 + b;

/** Marked blocks with data and with zeros, unmarked data, the last block marked; `length` as the driver leaves it. */
export function sample(abi: CowAbi, changes: Partial<CowContents> = {}): Buffer {
  const data = [0, 2, 3, 6, 11].map((b): [number, Uint8Array] => [b, new Uint8Array(BLOCK).fill(b === 3 ? 0 : b + 1)]);
  const bits = new Set([0, 2, 3, 11]);
  const fingerprint = naiveFingerprint(base);
  const rest = { rdoBlocks: RDO_BLOCKS, dataOffset: 4096, fingerprint, used: 4, bits, blocks: new Map(data) };
  return cowfileBytes({ abi, flags: 0, ...rest, ...changes });
}

/** Values at the edges of everything that a word may be kept in. */
export const EDGES = [
  0n,
  1n,
  1023n,
  1024n,
  2047n,
  2048n,
  4095n,
  4097n,
  8192n,
  8193n,
  ...[31n, 32n, 33n, 42n, 43n, 52n, 53n, 63n].flatMap((power) => [2n ** power - 1n, 2n ** power, 2n ** power + 1n]),
  2n ** 64n - 1024n,
  2n ** 64n - 1n,
];

export const WORDS = ["mapunit", "mapsize", "doffset", "rdoblocks", "rdofingerprint", "cowused"] as const;

/** The sample with one word of its head set. */
export function withWord(each: CowAbi, field: (typeof WORDS)[number], value: bigint, flags: number): Buffer {
  const file = sample(each, { flags });
  const placed = headLayout(each).fields.find(({ name }) => name === field);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  const word = bytes.subarray(0, placed?.sizeBytes);
  word.copy(file, placed?.offsetBytes);
  if (each.startsWith("be")) file.subarray(placed?.offsetBytes, (placed?.offsetBytes ?? 0) + word.length).reverse();
  return file;
}
