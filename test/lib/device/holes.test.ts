/**
 * Proves that results do not depend on where a file system puts the borders of its holes: the same content, reported in
 * units of a byte, a sector or a page, aligned to blocks or not, checks, fingerprints and reads alike.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ByteSource } from "../../../src/lib/bytes/byte-source.ts";
import { complement, type Extent, union } from "../../../src/lib/bytes/extent.ts";
import { cowfileFormat } from "../../../src/lib/formats/cowfile/index.ts";
import { surveyCowfile } from "../../../src/lib/formats/cowfile/survey.ts";
import { takeFingerprint } from "../../../src/lib/index.ts";
import {
  BLOCK,
  type CowContents,
  cowfileBytes,
  naiveFingerprint,
  repaired,
} from "../../support/images/driver-model.ts";

const BLOCKS = 60;
const UNITS = [1, 7, 512, 1024, 1536, 4096];

/** A source over bytes that allocates in units of so many bytes, counted from any place. */
function sourceOf(bytes: Buffer, unit: number, shift: number): ByteSource {
  const isData = (from: number, to: number): boolean => bytes.subarray(from, to).some((byte) => byte !== 0);
  return {
    name: "source",
    sizeBytes: bytes.length,
    allocationUnitBytes: unit,
    seesHoles: true,
    read: (target, offset) => bytes.copy(target, 0, offset),
    *dataExtents(from, to): Generator<Extent> {
      for (let at = from; at < to; ) {
        const end = Math.min(to, at + unit - ((at + shift) % unit));
        if (isData(at, end)) yield { offset: at, length: end - at };
        at = end;
      }
    },
  };
}

/** Data in parts of blocks: a few bytes anywhere in the image. */
const scraps = fc.array(fc.tuple(fc.nat(BLOCKS - 1), fc.nat(1020), fc.integer({ min: 1, max: 3 })), { maxLength: 20 });
const allocation = fc.tuple(fc.constantFrom(...UNITS), fc.nat(5000));

function blocksOf(places: readonly (readonly [number, number, number])[]): Map<number, Uint8Array> {
  const blocks = new Map<number, Uint8Array>();
  for (const [b, at, length] of places) {
    const bytes = blocks.get(b) ?? new Uint8Array(BLOCK);
    blocks.set(b, bytes.fill(b + 1, at, at + length));
  }
  return blocks;
}

describe("whatever the storage calls a hole", () => {
  test("a check finds the same unmarked blocks, and no marked one", async () => {
    const marks = fc.uniqueArray(fc.nat(BLOCKS - 1), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(
        scraps,
        marks,
        allocation,
        fc.constantFrom(0, 1, 512, 700),
        async (places, bits, [unit, shift], gap) => {
          const contents: CowContents = {
            abi: "le64",
            flags: 1,
            rdoBlocks: BLOCKS,
            dataOffset: 4096 + gap,
            fingerprint: 0,
            used: 0,
            bits: new Set(bits),
            blocks: blocksOf(places),
          };
          const source = sourceOf(cowfileBytes(contents), unit, shift);

          const survey = await surveyCowfile(source, geometryOf(contents), { content: true });
          const right = repaired(contents);
          const length = 4096 + gap;
          const expected = [...right.bits].filter((b) => !bits.includes(b)).sort((a, b) => a - b);
          const found = [...survey.unmarked].flatMap(({ offset, length: bytes }) =>
            Array.from({ length: bytes / BLOCK }, (_, i) => offset / BLOCK + i),
          );
          expect(found).toEqual(expected);
          expect(survey.usedAfter).toBe(right.bits.size);
          // A suspect is neither marked nor data, and nothing is said twice.
          const marked = [...right.bits].sort((a, b) => a - b).map((b) => ({ offset: b * BLOCK, length: BLOCK }));
          const both = [...union(survey.suspects, marked)].reduce((sum, extent) => sum + extent.length, 0);
          expect(both).toBe(survey.suspects.totalBytes + marked.length * BLOCK);
          const report = await cowfileFormat.check(source, {});
          expect(
            [...report.problems].filter(({ id }) => id === "unmarked-data").every(({ offset }) => offset >= length),
          ).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("a fingerprint is the same", async () => {
    await fc.assert(
      fc.asyncProperty(scraps, allocation, async (places, [unit, shift]) => {
        const image = Buffer.alloc(BLOCKS * BLOCK + 300, 0);
        for (const [b, bytes] of blocksOf(places)) image.set(bytes, b * BLOCK);
        const { value } = await takeFingerprint(sourceOf(image, unit, shift), BLOCKS);
        expect(value).toBe(naiveFingerprint(image));
      }),
      { numRuns: 200 },
    );
  });

  test("a layer holds the same blocks, though its bitmap lies among holes", () => {
    const marks = fc.uniqueArray(fc.nat(30_000), { maxLength: 12 });
    fc.assert(
      fc.property(marks, fc.constantFrom(512, 1024, 1536, 4096), fc.nat(5000), (bits, unit, shift) => {
        const rdoBlocks = 30_001;
        const last = new Map([[30_000, new Uint8Array(BLOCK)]]);
        const rest = { rdoBlocks, dataOffset: 8192, fingerprint: 0, used: 0, bits: new Set(bits) };
        const bytes = cowfileBytes({ abi: "be32", flags: 0, ...rest, blocks: last });
        const layer = cowfileFormat.openLayer(sourceOf(bytes, unit, shift), { allowDirty: false });
        const holes = [...complement(layer.extents(0, rdoBlocks * BLOCK), 0, rdoBlocks * BLOCK)];
        const held = rdoBlocks * BLOCK - holes.reduce((sum, { length }) => sum + length, 0);
        expect(held).toBe(bits.length * BLOCK);
        for (const { offset, length } of layer.extents(0, rdoBlocks * BLOCK))
          for (let at = offset; at < offset + length; at += BLOCK) expect(bits).toContain(at / BLOCK);
      }),
      { numRuns: 20 },
    );
  });
});

function geometryOf({ rdoBlocks, dataOffset }: CowContents) {
  return { rdoBlocks, virtualSizeBytes: rdoBlocks * BLOCK, mapSizeBytes: 1024, dataOffsetBytes: dataOffset };
}
