/**
 * Proves on a small corpus of our own, which is always there, what golden/cowloop.both.test.ts proves on the large one: heads
 * of four machines, read and written byte for byte, crashed and repaired, merged and undone.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  ABI_NAMES,
  type CowAbi,
  check,
  create,
  decodeHead,
  MemoryStorage,
  merge,
  repair,
} from "../../../src/lib/index.ts";

interface Corpus {
  readonly rdo_blocks: number;
  readonly sums: readonly number[];
  readonly fingerprint: string;
  readonly heads: Readonly<Record<CowAbi, string>>;
}

const corpus = JSON.parse(readFileSync(new URL("../../corpus/heads.json", import.meta.url), "utf8")) as Corpus;
const BLOCK = 1024;
const BITMAP = 1024;
const FLAGS_OFFSET = 6;

/** A base with those block sums, and nothing else in it. */
function base(): Uint8Array {
  const bytes = new Uint8Array(corpus.rdo_blocks * BLOCK);
  for (const [block, sum] of corpus.sums.entries()) bytes[block * BLOCK + 100 + block] = sum;
  return bytes;
}

function changed(): Uint8Array {
  const bytes = base();
  bytes.fill(0x5a, 2 * BLOCK, 3 * BLOCK + 10);
  bytes.fill(0, 8 * BLOCK);
  return bytes;
}

function bytesOf(storage: MemoryStorage, path: string): Buffer {
  return Buffer.from(storage.content(path)?.toBytes() ?? []);
}

describe.each(ABI_NAMES)("a cowfile of ABI %s", (abi) => {
  const head = Buffer.from(corpus.heads[abi], "hex");

  it("is created as the driver of that machine does", async () => {
    const storage = new MemoryStorage();
    storage.put("base", base());
    const { fingerprint } = await create("base", "cow", { abi }, { storage });
    expect(fingerprint).toBe(corpus.fingerprint);
    const made = bytesOf(storage, "cow");
    expect(made.subarray(0, head.length).toString("hex")).toBe(head.toString("hex"));
    expect(made.subarray(head.length).every((byte) => byte === 0)).toBe(true);
    expect(made.length).toBe(BITMAP + BLOCK);
  });

  it("is read as what it is", () => {
    expect(decodeHead(head, "head")).toMatchObject({ abi, version: 1, flags: 0, rdoBlocks: BigInt(corpus.rdo_blocks) });
  });

  it("is whole again after a crash, and merges, and the merge can be undone", async () => {
    const storage = new MemoryStorage();
    storage.put("base", base());
    storage.put("changed", changed());
    await create("base", "cow", { abi, from: "changed" }, { storage });
    const whole = bytesOf(storage, "cow");
    const crashed = Buffer.from(whole);
    crashed[FLAGS_OFFSET + (abi.startsWith("be") ? 1 : 0)] = 1;
    // The last block was zeroed: its mark was flushed with it, those of the others were not.
    crashed[BITMAP] = 0;
    storage.put("cow", crashed);
    expect((await check("cow", { rdofile: "base" }, { storage })).state).toBe("dirty");
    await expect(merge("base", "cow", {}, { storage })).rejects.toMatchObject({ code: "dirty", file: "cow" });
    await repair("cow", {}, { storage });
    expect(bytesOf(storage, "cow").equals(whole)).toBe(true);
    await merge("base", "cow", { undo: "undo" }, { storage });
    expect(bytesOf(storage, "base").equals(changed())).toBe(true);
    await merge("base", "undo", {}, { storage });
    expect(bytesOf(storage, "base").equals(base())).toBe(true);
  });
});
