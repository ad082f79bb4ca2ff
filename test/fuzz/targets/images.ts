/** Owns the targets that are images: a cowfile's head, the whole of it under every command, packs. */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { ABI_NAMES, check, diff, info, MemoryStorage, pack, unpack } from "../../../src/lib/index.ts";
import { everyCommand, memoryBench } from "../../support/command/every-command.ts";
import { base, sample } from "../../support/images/hostile-sample.ts";
import { payloadOf, tinyCow } from "../../support/images/pack-images.ts";
import type { Target } from "../engine.ts";
import { Input, refusalOrResult } from "./input.ts";

const samples = (): Buffer[] => ABI_NAMES.flatMap((abi) => [sample(abi), sample(abi, { flags: 1 })]);
const HEAD_BYTES = 1024;
const WORDS = [
  Buffer.from("77ffffffffffffff", "hex"),
  Buffer.from("ffffffffffffff7f", "hex"),
  Buffer.from("0000000000000080", "hex"),
  Buffer.from("ffffffff", "hex"),
];

/** Only the head block is spoiled, so that most of it is. */
export const head: Target = {
  seeds: () => samples().map((cow) => cow.subarray(0, HEAD_BYTES)),
  words: WORDS,
  run: async (input) => {
    const cow = sample("le64");
    cow.set(input.subarray(0, cow.length));
    await everyCommand(memoryBench(), { base, cow }, "looking");
  },
};

export const cowfile: Target = {
  seeds: samples,
  words: WORDS,
  run: async (input) => {
    await everyCommand(memoryBench(), { base, cow: input });
  },
};

async function drain(result: object): Promise<void> {
  for (const value of Object.values(result))
    if (typeof value === "object" && value !== null && Symbol.iterator in value) for (const _ of value) void _;
}

/** The first byte says what becomes of the rest: it is a pack, or it is packed, so that checksums are right. */
const WAYS: readonly ((bytes: Buffer) => Uint8Array)[] = [
  (bytes) => bytes,
  (bytes) => gzipSync(bytes, { level: 1 }),
  (bytes) => zstdCompressSync(bytes),
];

export const packed: Target = {
  seeds: async () => {
    const seeds: Buffer[] = [];
    for (const abi of ABI_NAMES) {
      const cow = tinyCow(abi);
      for (const format of ["plain", "gzip", "zstd"] as const) {
        const storage = new MemoryStorage();
        storage.put("cow", cow.content.clone());
        await pack("cow", "pack", { format }, { storage });
        seeds.push(Buffer.concat([Uint8Array.of(0), storage.content("pack")?.toBytes() ?? Buffer.alloc(0)]));
      }
      for (const way of [1, 2]) seeds.push(Buffer.concat([Uint8Array.of(way), payloadOf(cow)]));
    }
    return seeds;
  },
  words: WORDS,
  run: async (bytes) => {
    const input = new Input(bytes);
    const way = WAYS[input.number(1) % WAYS.length];
    const storage = new MemoryStorage();
    storage.put("base", Buffer.alloc(100 * 1024, 3));
    storage.put("pack", way?.(input.rest()) ?? new Uint8Array());
    await refusalOrResult(() => unpack("pack", "out", {}, { storage }));
    await refusalOrResult(async () => drain(await info("pack", {}, { storage })));
    await refusalOrResult(async () => drain(await check("pack", {}, { storage })));
    await refusalOrResult(async () => drain(await diff("base", "base,pack", {}, { storage })));
  },
};
