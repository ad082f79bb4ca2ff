/**
 * Proves that data which the bitmap does not mention is counted block by block, wherever the data area begins and the file
 * ends, and that of the data area only unmarked parts are read, and none that is a hole.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { MemoryDevice } from "../../../src/lib/device/memory-device.ts";
import { openCowfile } from "../../../src/lib/formats/cowfile/layer.ts";
import { findUnmarkedData } from "../../../src/lib/formats/cowfile/unmarked-data.ts";
import { BLOCK_BYTES, layOut } from "../../support/images/pack-images.ts";

const BLOCKS = 3000;

const block = fc.oneof(fc.constantFrom(0, 1, 1023, 1024, 1025, BLOCKS - 1), fc.nat(BLOCKS - 1));
const scene = fc.record({
  dataOffset: fc.oneof(fc.constant(4096), fc.integer({ min: 4096, max: 12345 })),
  marked: fc.uniqueArray(block, { maxLength: 12 }),
  written: fc.array(fc.record({ block, zero: fc.boolean(), bytes: fc.integer({ min: 1, max: BLOCK_BYTES }) }), {
    maxLength: 20,
  }),
  hasTail: fc.boolean(),
});

test("unmarked data is counted block by block", async () => {
  const property = fc.asyncProperty(scene, async ({ dataOffset, marked, written, hasTail }) => {
    const blocks = marked.map((each): [number, Uint8Array] => [each, Uint8Array.of(1)]);
    const { content } = layOut({ rdoBlocks: BLOCKS, dataOffset, blocks });
    const expected = new Set<number>();
    for (const { block: each, zero, bytes } of written) {
      if (marked.includes(each) || (zero && expected.has(each))) continue;
      const data = new Uint8Array(bytes);
      if (!zero) data[bytes - 1] = 7;
      if (!zero) expected.add(each);
      content.write(data, dataOffset + each * BLOCK_BYTES);
    }
    if (hasTail) content.write(Uint8Array.of(1), dataOffset + BLOCKS * BLOCK_BYTES);
    const file = new MemoryDevice("cow", content);
    const { geometry } = openCowfile(file);
    const found = { blocks: expected.size, firstBlock: expected.size === 0 ? undefined : Math.min(...expected) };
    expect(await findUnmarkedData(file, geometry, undefined)).toEqual(found);
  });
  await fc.assert(property, { numRuns: 300 });
});

test("neither holes nor marked parts are read for it", async () => {
  const blocks = Array.from({ length: 8 }, (_, i): [number, Uint8Array] => [2000 + i, Uint8Array.of(1)]);
  const { content, dataOffset } = layOut({ rdoBlocks: BLOCKS, blocks });
  content.write(Uint8Array.of(1), dataOffset + 400 * BLOCK_BYTES);
  const reads: number[] = [];
  class Watched extends MemoryDevice {
    override read(target: Uint8Array, offsetBytes: number): number {
      if (offsetBytes >= dataOffset) reads.push((offsetBytes - dataOffset) / BLOCK_BYTES, target.length / BLOCK_BYTES);
      return super.read(target, offsetBytes);
    }
  }
  const file = new Watched("cow", content);
  const { geometry } = openCowfile(file);
  expect(await findUnmarkedData(file, geometry, undefined)).toEqual({ blocks: 1, firstBlock: 400 });
  expect(reads).toEqual([400, 4]);
});
