/**
 * Proves the arithmetic of sizes: that a fresh cowfile has the head and the length that the original gave it for every
 * size and ABI of the manifest, up to 64 GiB, and that bases beyond what an ABI can describe are refused.
 */
import { closeSync, openSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  ABI_NAMES,
  create,
  dataOffsetFor,
  decodeHead,
  freshFileSize,
  headLayout,
  mapSizeFor,
  newHeadBlock,
} from "../../../src/lib/index.ts";
import { goldenSizes, hasGolden } from "../../support/images/golden.ts";
import { readAt, scratchDirectory } from "../../support/scratch.ts";

const BLOCK_BYTES = 1024;
const TIB = 2 ** 40;
const scratch = scratchDirectory();

/** The sums of the first blocks of the rdofiles behind the manifest's rows. */
const SUMS = [0x10, 0x20, 0x30, 0xc0];

/** A sparse rdofile whose first whole blocks have these sums, each in one byte of the block. */
function sparseBase(path: string, sizeBytes: number): void {
  rmSync(path, { force: true });
  const fd = openSync(path, "w");
  for (const [block, sum] of SUMS.entries()) {
    if ((block + 1) * BLOCK_BYTES <= sizeBytes) writeSync(fd, Buffer.of(sum), 0, 1, block * BLOCK_BYTES + 100 * block);
  }
  closeSync(fd);
  truncateSync(path, sizeBytes);
}

describe.skipIf(!hasGolden)("the 124 sizes of the manifest", () => {
  test("there are all of them", () => expect(goldenSizes).toHaveLength(124));

  test.each(goldenSizes)("$abi, $rdosize bytes: create makes the original's fresh cowfile", async (row) => {
    const [base, cow] = [scratch("base.img"), scratch("fresh.cow")];
    sparseBase(base, row.rdosize);
    const result = await create(base, cow, { abi: row.abi, force: true }, {});
    expect(result).toMatchObject({
      rdo_blocks: row.numblocks,
      map_size: row.header.mapsize,
      data_offset: row.header.doffset,
      blocks_used: 0,
    });
    expect(statSync(cow).size).toBe(row.fresh_cowfile_size);
    const file = readAt(cow, 0, Math.min(row.fresh_cowfile_size, 1 << 20));
    expect(file.toString("hex", 0, row.header_hex.length / 2)).toBe(row.header_hex);
    expect(file.subarray(row.header_hex.length / 2).every((byte) => byte === 0)).toBe(true);
  });

  test.each(goldenSizes)("$abi, $rdosize bytes: formulas and codec give the original's head", (row) => {
    const blocks = Math.floor(row.rdosize / BLOCK_BYTES);
    expect(blocks).toBe(row.numblocks);
    expect(mapSizeFor(blocks)).toBe(row.header.mapsize);
    expect(dataOffsetFor(mapSizeFor(blocks))).toBe(row.header.doffset);
    expect(freshFileSize(blocks)).toBe(row.fresh_cowfile_size);
    expect(headLayout(row.abi).sizeBytes).toBe(row.header.sizeof);
    const original = Buffer.alloc(BLOCK_BYTES);
    original.write(row.header_hex, "hex");
    const head = decodeHead(original, "row");
    expect(head.abi).toBe(row.abi);
    expect(head.fingerprint).toBe(BigInt(row.header.rdofingerprint));
    expect(Buffer.from(newHeadBlock(head))).toEqual(original);
  });
});

describe("sizes at the boundaries", () => {
  test.each([
    [1, 1024, 4096],
    [8192, 1024, 4096],
    [8193, 2048, 4096],
    [24576, 3072, 4096],
    [24577, 4096, 8192],
    [32769, 5120, 8192],
    [57344, 7168, 8192],
    [57345, 8192, 12288],
  ])("%i blocks need a bitmap of %i bytes, and data from %i", (blocks, mapSize, dataOffset) => {
    expect([mapSizeFor(blocks), dataOffsetFor(mapSize), freshFileSize(blocks)]).toEqual([
      mapSize,
      dataOffset,
      1024 + mapSize,
    ]);
  });

  test.each([0, 1, 1023])("an rdofile of %i bytes has no contents", async (size) => {
    writeFileSync(scratch("tiny.img"), Buffer.alloc(size, 1));
    const failed = create(scratch("tiny.img"), scratch("tiny.cow"), {}, {});
    await expect(failed).rejects.toMatchObject({ code: "unsuitable", file: scratch("tiny.img") });
    expect(() => statSync(scratch("tiny.cow"))).toThrow();
  });

  test.each([1024, 2047])("one of %i bytes has one block", async (size) => {
    writeFileSync(scratch("one.img"), Buffer.alloc(size, 1));
    const notices: string[] = [];
    const context = { onNotice: ({ message }: { message: string }) => void notices.push(message) };
    const made = await create(scratch("one.img"), scratch("one.cow"), { force: true }, context);
    expect(made).toMatchObject({ rdo_blocks: 1, virtual_size: 1024 });
    // Bytes that are no whole block are not part of the image: that deserves a word.
    expect(notices).toHaveLength(size === 1024 ? 0 : 1);
  });
});

describe("sizes at which the original wraps", () => {
  const below = 4 * TIB - 8 * BLOCK_BYTES;

  test.each(ABI_NAMES)("%s: 2^32-8 blocks are the last that every ABI describes", async (abi) => {
    const [base, cow] = [scratch("huge.img"), scratch("huge.cow")];
    sparseBase(base, below);
    const made = await create(base, cow, { abi, force: true }, {});
    expect(made).toMatchObject({ rdo_blocks: 2 ** 32 - 8, map_size: 2 ** 29, data_offset: 2 ** 29 + 4096 });
    expect(statSync(cow).size).toBe(2 ** 29 + 1024);
    expect(decodeHead(readAt(cow, 0, 1024), cow).rdoBlocks).toBe(2n ** 32n - 8n);
    rmSync(cow);
  });

  test.each(["le32", "be32"] as const)("%s: more are refused, not wrapped to an empty bitmap (D19)", async (abi) => {
    const [base, cow] = [scratch("huge.img"), scratch("huge.cow")];
    for (const size of [below + BLOCK_BYTES, 4 * TIB, 4 * TIB + 2 ** 20]) {
      sparseBase(base, size);
      await expect(create(base, cow, { abi }, {})).rejects.toMatchObject({ code: "unsuitable", file: base });
      expect(() => statSync(cow)).toThrow();
    }
  });

  test.each(["le64", "be64"] as const)("%s: 4 TiB and more are all described, with a warning (D11)", async (abi) => {
    const [base, cow] = [scratch("huge.img"), scratch("huge.cow")];
    for (const size of [4 * TIB, 4 * TIB + 2 ** 20]) {
      sparseBase(base, size);
      const warnings: string[] = [];
      const context = { onNotice: ({ severity }: { severity: string }) => void warnings.push(severity) };
      expect((await create(base, cow, { abi, force: true }, context)).rdo_blocks).toBe(size / BLOCK_BYTES);
      // Where holes are not seen it is also a great deal to look at, as a note tells.
      expect(warnings.filter((severity) => severity === "warning")).toEqual(["warning"]);
      expect(decodeHead(readAt(cow, 0, 1024), cow).rdoBlocks).toBe(BigInt(size / BLOCK_BYTES));
    }
    rmSync(cow);
  });
});
