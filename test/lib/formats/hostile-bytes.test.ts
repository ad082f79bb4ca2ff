/**
 * Proves that no cowfile, however damaged or made up, gets more out of a command than a result or a refusal by name:
 * mutated heads and bitmaps, files cut anywhere, values at the edges of their types, thousands of them in memory. What
 * each command must keep to stands in test/support/command/every-command.ts.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fingerprint32, isDirty, isPacked } from "../../../src/lib/formats/cowfile/head.ts";
import { ABI_NAMES, decodeHead, encodeHead, headLayout } from "../../../src/lib/index.ts";
import { everyCommand, memoryBench } from "../../support/command/every-command.ts";
import { BLOCK } from "../../support/images/driver-model.ts";
import { base, EDGES, RDO_BLOCKS, sample, WORDS, withWord } from "../../support/images/hostile-sample.ts";
import { HOW, runs, sampleOf } from "../../support/sample.ts";

const inMemory = memoryBench();

function withByte(file: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(file);
  copy[at] = value;
  return copy;
}

const abi = fc.constantFrom(...ABI_NAMES);
const state = fc.constantFrom(0, 1);

describe(`heads (${HOW})`, () => {
  test.each(ABI_NAMES)("%s: each byte of the head in turn, every bit flipped, all off, all on", async (each) => {
    const file = sample(each);
    for (let at = 0; at < headLayout(each).sizeBytes; at++) {
      const old = file[at] ?? 0;
      const flips = [1, 2, 4, 8, 16, 32, 64, 128].map((bit) => old ^ bit);
      // Looking shows what every bit does; that nothing wrong is written from it, one value a byte shows as well.
      const deep = flips[at % 8] ?? 0;
      await everyCommand(inMemory, { base, cow: withByte(file, at, deep) }, "all");
      for (const value of sampleOf([...new Set([...flips, 0, 0xff])], 1, at))
        if (value !== deep) await everyCommand(inMemory, { base, cow: withByte(file, at, value) }, "looking");
    }
  });

  test("any bytes in the head, several at once", async () => {
    const changes = fc.array(fc.tuple(fc.nat(63), fc.nat(255)), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(abi, state, changes, async (each, flags, bytes) => {
        const cow = sample(each, { flags });
        for (const [at, value] of bytes) cow[at] = value;
        await everyCommand(inMemory, { base, cow });
      }),
      { numRuns: runs(25) },
    );
  });

  test("every flag word is decoded, told apart, and encoded again", () => {
    for (const each of ABI_NAMES) {
      const block = sample(each).subarray(0, 1024);
      const little = each.startsWith("le");
      for (let word = 0; word <= 0xffff; word++) {
        if (little) block.writeUInt16LE(word, 6);
        else block.writeUInt16BE(word, 6);
        const head = decodeHead(block, "file");
        if (head.flags !== word || isDirty(head) !== word % 2 > 0 || isPacked(head) !== (word >> 1) % 2 > 0)
          expect.fail(`${each}: flags ${word}`);
        const again = Buffer.from(block);
        encodeHead(head, again);
        if (!again.equals(block)) expect.fail(`${each}: flags ${word}`);
      }
    }
  });

  test("flag words with one bit, all but one, and all", async () => {
    const bits = Array.from({ length: 16 }, (_, i) => 2 ** i);
    for (const [i, flags] of [...bits, ...bits.map((bit) => 0xffff - bit), 0xffff].entries())
      for (const each of sampleOf(["le64", "be32"] as const, 1, i))
        await everyCommand(inMemory, { base, cow: sample(each, { flags }) });
  });
});

describe("edges", () => {
  test.each(WORDS)("%s at the edges of 31, 32, 42, 53, 63 and 64 bits", async (field) => {
    for (const [salt, each] of ABI_NAMES.entries()) {
      const edges = EDGES.filter((edge) => each.endsWith("64") || edge < 2n ** 32n);
      for (const [i, value] of sampleOf([...edges.entries()], 6, salt + 10 * WORDS.indexOf(field))) {
        const which = each === "le64" || each === "be32" ? "all" : "looking";
        await everyCommand(inMemory, { base, cow: withWord(each, field, value, i % 2) }, which);
      }
    }
  });
});

describe("bitmaps and data", () => {
  test("any bits set, within the image and behind it, in files of any length", async () => {
    const bits = fc.uniqueArray(fc.oneof(fc.nat(RDO_BLOCKS + 2), fc.nat(8191)), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(
        abi,
        state,
        bits,
        fc.oneof(fc.nat(20), fc.nat(9000)),
        fc.integer({ min: 2048, max: 30_000 }),
        async (...scene) => {
          const [each, flags, set, used, length] = scene;
          await everyCommand(inMemory, { base, cow: sample(each, { flags, bits: new Set(set), used, length }) });
        },
      ),
      { numRuns: runs(25) },
    );
  });

  test("a bitmap of noise", async () => {
    await fc.assert(
      fc.asyncProperty(abi, state, fc.uint8Array({ minLength: 1024, maxLength: 1024 }), async (each, flags, noise) => {
        const cow = sample(each, { flags });
        cow.set(noise, 1024);
        await everyCommand(inMemory, { base, cow });
      }),
      { numRuns: runs(10) },
    );
  });

  test("a base of any size and content under a sound cowfile", async () => {
    const sizes = fc.oneof(fc.nat(3000), fc.nat(20_000));
    await fc.assert(
      fc.asyncProperty(abi, sizes, fc.nat(255), async (each, size, byte) => {
        await everyCommand(inMemory, { base: Buffer.alloc(size, byte), cow: sample(each) });
      }),
      { numRuns: runs(20) },
    );
  });
});

describe("files that end early", () => {
  const whole = 4096 + RDO_BLOCKS * BLOCK;
  const around = (at: number): number[] => [at - 1, at, at + 1];

  test.each([
    ["le64", 0],
    ["be32", 1],
  ] as const)("%s with flags %i: at lengths up to 2100, and around the borders of all blocks", async (each, flags) => {
    const file = sample(each, { flags });
    const borders = Array.from({ length: RDO_BLOCKS + 3 }, (_, i) => 1024 + i * BLOCK).flatMap(around);
    const short = sampleOf([...Array(2101).keys()], 60, flags);
    const lengths = [...short, ...[0, 1, 1023, 1024, 2047, 2048], ...borders].filter((length) => length <= whole);
    for (const length of lengths) {
      const which = length < 2040 && length % 16 !== 0 ? "looking" : "all";
      const outcomes = await everyCommand(inMemory, { base, cow: file.subarray(0, length) }, which);
      if (length < 2048) expect([...outcomes.values()].filter((outcome) => outcome === "ok").length).toBeLessThan(4);
      else expect(outcomes.get("repair -f")).toBe("ok");
    }
  });

  test("files that are no cowfiles at all", async () => {
    const starts = fc.constantFrom("", "7f434f57", "574f437f", "1f8b", "1f8b0800000000000203", "28b52ffd", "514649fb");
    await fc.assert(
      fc.asyncProperty(starts, fc.uint8Array({ maxLength: 3000, size: "max" }), async (start, noise) => {
        const cow = Buffer.concat([Buffer.from(start, "hex"), noise]);
        const outcomes = await everyCommand(inMemory, { base, cow });
        expect(outcomes.get("merge")).not.toBe("ok");
      }),
      { numRuns: runs(30) },
    );
  });
});

test("the fingerprint of a head is its low 32 bits, whatever the rest", () => {
  const head = decodeHead(sample("le64"), "file");
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (fingerprint) => {
      expect(fingerprint32({ ...head, fingerprint })).toBe(Number(BigInt.asUintN(32, fingerprint)));
    }),
  );
});
