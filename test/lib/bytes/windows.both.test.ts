/**
 * Proves images of more than 512 MiB, whose bitmaps are read in several windows: runs across the border of a window,
 * windows that are holes, and readers in different windows at once.
 */
import { rmSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BitmapReader, WINDOW_BLOCKS } from "../../../src/lib/formats/cowfile/bitmap-windows.ts";
import { create, type Extent, info, nodeStorage, openStack, repair } from "../../../src/lib/index.ts";
import { collected } from "../../support/collected.ts";
import {
  BLOCK,
  bitmapBytes,
  type CowContents,
  leastDataOffset,
  mapBytesFor,
  writeCowfile,
  writeSparse,
} from "../../support/images/driver-model.ts";
import { scratchDirectory, seesHoles } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const WINDOWS = 4;
const RDO_BLOCKS = (WINDOWS - 1) * WINDOW_BLOCKS + 1000;
const SIZE = RDO_BLOCKS * BLOCK;
const filled = (byte: number): Uint8Array => new Uint8Array(BLOCK).fill(byte);

/** Runs of blocks over the borders of windows, and anywhere. */
const marked: fc.Arbitrary<number[]> = fc
  .array(
    fc.tuple(
      fc.oneof(
        fc
          .tuple(fc.integer({ min: 1, max: WINDOWS - 1 }), fc.integer({ min: -40, max: 40 }))
          .map(([w, d]) => w * WINDOW_BLOCKS + d),
        fc.integer({ min: 4, max: RDO_BLOCKS - 1 }),
        fc.integer({ min: RDO_BLOCKS - 5, max: RDO_BLOCKS - 1 }),
      ),
      fc.integer({ min: 1, max: 12 }),
    ),
    { maxLength: 15 },
  )
  .map((runs) => {
    const blocks = runs.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
    return [...new Set(blocks)].filter((b) => b < RDO_BLOCKS);
  });

function contentsOf(bits: readonly number[], held = bits, flags = 0): CowContents {
  return {
    abi: "be64",
    flags,
    rdoBlocks: RDO_BLOCKS,
    dataOffset: leastDataOffset(RDO_BLOCKS),
    fingerprint: 0x04030201,
    used: bits.length,
    bits: new Set(bits),
    blocks: new Map(held.map((b) => [b, filled((b % 250) + 1)])),
  };
}

/** A sparse base of which only the first four blocks are there. */
function writeBase(path: string): void {
  writeSparse(
    path,
    SIZE,
    [1, 2, 3, 4].map((sum, b) => [b * BLOCK, Uint8Array.of(sum)] as const),
  );
}

function runsOf(blocks: readonly number[]): Extent[] {
  const runs: { offset: number; length: number }[] = [];
  for (const b of [...blocks].sort((x, y) => x - y)) {
    const last = runs.at(-1);
    if (last && last.offset + last.length === b * BLOCK) last.length += BLOCK;
    else runs.push({ offset: b * BLOCK, length: BLOCK });
  }
  return runs;
}

/** A reader of a bitmap in memory, at its place behind the head. */
function readerOf(bits: readonly number[]): BitmapReader {
  const bytes = Buffer.concat([Buffer.alloc(1024), bitmapBytes(contentsOf(bits))]);
  const source = {
    name: "bitmap",
    sizeBytes: bytes.length,
    allocationUnitBytes: 4096,
    seesHoles: false,
    read: (target: Uint8Array, offset: number) => bytes.copy(target, 0, offset),
    dataExtents: (from: number, to: number) => [{ offset: from, length: to - from }],
  };
  const virtualSizeBytes = SIZE;
  return new BitmapReader(source, {
    rdoBlocks: RDO_BLOCKS,
    virtualSizeBytes,
    mapSizeBytes: mapBytesFor(RDO_BLOCKS),
    dataOffsetBytes: 0,
  });
}

describe("a bitmap of several windows", () => {
  test("gives its runs, joined across windows, in any range", () => {
    const range = fc.nat(RDO_BLOCKS);
    fc.assert(
      fc.property(marked, range, range, (bits, from, to) => {
        const expected = runsOf(bits.filter((b) => b >= from && b < to));
        expect([...readerOf(bits).markedExtents(from, to)]).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  test("a reader that is asked for other windows meanwhile goes on where it was", () => {
    fc.assert(
      fc.property(marked, fc.array(fc.nat(WINDOWS - 1), { minLength: 1, maxLength: 7 }), (bits, others) => {
        const reader = readerOf(bits);
        const seen: Extent[] = [];
        for (const extent of reader.markedExtents(0, RDO_BLOCKS)) {
          seen.push(extent);
          // Small enough a stretch that only this one window is read.
          const first = (others[seen.length % others.length] ?? 0) * WINDOW_BLOCKS;
          for (const _ of reader.markedExtents(first, first + 8)) break;
        }
        expect(seen).toEqual(runsOf(bits));
      }),
      { numRuns: 60 },
    );
  });
});

// Everything below looks at gigabytes of holes, which takes a file system that tells them.
describe.runIf(seesHoles)("a cowfile of several windows", () => {
  const [rdo, cow, copy] = [scratch("rdo.img"), scratch("c.cow"), scratch("copy.cow")];

  test("is shown block by block while its own extents are being listed, and copied whole through a stack", async () => {
    writeBase(rdo);
    await fc.assert(
      fc.asyncProperty(marked, async (bits) => {
        rmSync(copy, { force: true });
        writeCowfile(cow, contentsOf(bits));
        const stack = await openStack(nodeStorage, `${rdo},${cow}`);
        const block = new Uint8Array(BLOCK);
        const seen = new Map<number, number>();
        for (const { offset, length } of stack.device.dataExtents(0, SIZE)) {
          for (let at = offset; at < offset + length; at += BLOCK) {
            stack.device.read(block, at);
            seen.set(at / BLOCK, block[0] ?? 0);
          }
        }
        stack.close();
        for (const b of bits) expect(seen.get(b)).toBe((b % 250) + 1);
        const made = await create(rdo, copy, { from: `${rdo},${cow}`, abi: "be64" }, {});
        expect(made.blocks_used).toBe(bits.length);
        const { extents } = await info(copy, { map: true }, {});
        const allocated = (await collected(extents)).filter((extent) => extent.allocated);
        expect(allocated.map(({ offset, length }) => ({ offset, length }))).toEqual(runsOf(bits));
      }),
      { numRuns: 15 },
    );
  });

  test("is repaired in every window", async () => {
    await fc.assert(
      fc.asyncProperty(marked, marked, async (bits, more) => {
        const all = [...new Set([...bits, ...more])];
        writeCowfile(cow, contentsOf(bits, all, 1));
        const report = await repair(cow, {}, {});
        expect([...report.marked]).toEqual(runsOf(all.filter((b) => !bits.includes(b))));
        expect(report.blocksUsed).toBe(all.length);
        const { extents } = await info(cow, { map: true }, {});
        const allocated = (await collected(extents)).filter((extent) => extent.allocated);
        expect(allocated.map(({ offset, length }) => ({ offset, length }))).toEqual(runsOf(all));
        expect(await repair(cow, { force: true }, {})).toMatchObject({ changed: false, blocksUsed: all.length });
      }),
      { numRuns: 15 },
    );
  });
});
