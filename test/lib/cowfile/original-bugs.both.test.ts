/**
 * Proves what becomes of the states that the original driver and utilities got wrong, by the ids of their bugs, on small
 * files made here: it holds without the golden images, too.
 */
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { check, info, merge, nodeStorage, openStack, repair } from "../../../src/lib/index.ts";
import {
  BLOCK,
  type CowContents,
  cowfileBytes,
  headBytes,
  imageBytes,
  leastDataOffset,
  naiveFingerprint,
  type SparseImage,
  sameBytes,
  writeCowfile,
  writeImage,
  writeSparse,
} from "../../support/images/driver-model.ts";
import { readAt, scratchDirectory, seesHoles } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const [rdo, cow, out] = [scratch("rdo.img"), scratch("c.cow"), scratch("out.img")];

const filled = (byte: number): Uint8Array => new Uint8Array(BLOCK).fill(byte);
const ZEROS = filled(0);

/** 101 blocks, each of them one byte over and over; the fourth sum makes the fingerprint negative. */
const base: SparseImage = {
  blockCount: 101,
  blocks: new Map(Array.from({ length: 101 }, (_, b) => [b, Uint8Array.of(b + 1, ...ZEROS.subarray(1))])),
  tail: new Uint8Array(),
};
for (const [block, sum] of [1, 2, 3, 0x9c].entries()) base.blocks.get(block)?.fill(sum, 0, 1);
const original = imageBytes(base);

const clean: CowContents = {
  abi: "le64",
  flags: 0,
  rdoBlocks: 101,
  dataOffset: 4096,
  fingerprint: 0x9c030201,
  used: 2,
  bits: new Set([10, 20]),
  blocks: new Map([
    [10, filled(0xaa)],
    [20, filled(0xbb)],
  ]),
};
const merged = imageBytes(base, clean.blocks);

async function idsOf(file: string, severities = ["error", "warning"]): Promise<string[]> {
  const { problems } = await check(file, { rdofile: rdo }, {});
  return [...problems].filter(({ severity }) => severities.includes(severity)).map(({ id }) => id);
}

function expectFile(path: string, expected: Uint8Array): void {
  expect(sameBytes(readFileSync(path), expected)).toBe(true);
}

beforeEach(() => {
  for (const file of [cow, out]) rmSync(file, { force: true });
  writeImage(rdo, base);
  expect(naiveFingerprint(original)).toBe(0x9c030201);
});

describe("after a crash", () => {
  test("D05: data of the last write before the head said dirty is found by repair -f alone", async () => {
    const disk = { ...clean, blocks: new Map([...clean.blocks, [30, filled(7)]]) };
    writeCowfile(cow, disk);
    expect(await idsOf(cow)).toEqual(["unmarked-data"]);
    expect(await repair(cow, {}, {})).toMatchObject({ examined: false, changed: false });
    expectFile(cow, cowfileBytes(disk));
    const report = await repair(cow, { force: true }, {});
    expect([...report.marked]).toEqual([{ offset: 30 * BLOCK, length: BLOCK }]);
    expectFile(cow, cowfileBytes({ ...disk, bits: new Set([10, 20, 30]), used: 3 }));
  });

  test("D06: a file whose head was never written is said to be just that", async () => {
    writeFileSync(cow, Buffer.alloc(2048));
    const refused = { code: "bad-head", file: cow };
    await expect(repair(cow, { force: true }, {})).rejects.toMatchObject(refused);
    await expect(check(cow, {}, {})).rejects.toMatchObject(refused);
    // To info it is an image of zeros.
    expect((await info(cow, {}, {})).facts).toMatchObject({ format: "raw", content: null });
    await expect(merge(rdo, cow, {}, {})).rejects.toMatchObject(refused);
    expectFile(cow, Buffer.alloc(2048));
  });

  test("D01, D16: what option=r throws away is kept: every block written since the last sync is marked", async () => {
    const many = new Map(Array.from({ length: 50 }, (_, i) => [i * 2, filled(i + 1)] as const));
    writeCowfile(cow, { ...clean, flags: 1, used: 0, bits: new Set(), blocks: many });
    expect(await repair(cow, {}, {})).toMatchObject({ blocksUsed: 50, state: "clean" });
    await merge(rdo, cow, {}, {});
    expectFile(rdo, imageBytes(base, many));
  });

  test("D15: a head that was written clean though the bitmap was not has a wrong count", async () => {
    const disk = { ...clean, bits: new Set([10]), used: 2 };
    writeCowfile(cow, disk);
    expect(await idsOf(cow)).toEqual(["used-count", "unmarked-data"]);
    await repair(cow, {}, {});
    expectFile(cow, cowfileBytes(clean));
  });

  test("U05: zeros that the end of the file cuts short are no data, whatever stood before them", async () => {
    const length = 4096 + 21 * BLOCK + 100;
    writeCowfile(cow, { ...clean, flags: 1, bits: new Set(), used: 0, length });
    const report = await repair(cow, {}, {});
    expect(report.blocksUsed).toBe(2);
    expectFile(cow, cowfileBytes({ ...clean, length }));
  });

  test("U03: data behind the last bit of the bitmap is left alone", async () => {
    const far = [8192, 9000, 100_000];
    const blocks = new Map([...clean.blocks, ...far.map((b) => [b, filled(9)] as const)]);
    writeCowfile(cow, { ...clean, blocks, flags: 1 });
    expect(await repair(cow, {}, {})).toMatchObject({ blocksUsed: 2 });
    expectFile(cow, cowfileBytes({ ...clean, blocks }));
    expect(await idsOf(cow, ["note"])).toContain("trailing-data");
  });

  test("U04: data behind the end of the image is not marked, though the bitmap has room for it", async () => {
    const blocks = new Map([...clean.blocks, [101, filled(9)], [300, filled(9)]]);
    writeCowfile(cow, { ...clean, blocks, flags: 1 });
    expect(await repair(cow, {}, {})).toMatchObject({ blocksUsed: 2 });
    await merge(rdo, cow, {}, {});
    expectFile(rdo, merged);
  });

  test.runIf(seesHoles)("D04: zeros alone in their allocation unit are the stronger suspects", async () => {
    const blocks = new Map([...clean.blocks, [11, ZEROS], ...[40, 41, 42, 43].map((b) => [b, ZEROS] as const)]);
    writeCowfile(cow, { ...clean, blocks, flags: 1 });
    const report = await repair(cow, {}, {});
    const evidence = new Map([...report.suspects].map((s) => [s.offset / BLOCK, s.evidence]));
    expect(evidence.get(40)).toBe("alone");
    // Blocks 8, 9 and 11 share the 4 KiB of block 10; the last unit ends with the file.
    expect([8, 9, 11].map((b) => evidence.get(b)).includes("alone")).toBe(false);
    expect(report.blocksUsed).toBe(2);
  });
});

describe("marks without data", () => {
  const short = 4096 + 15 * BLOCK;
  const disk = { ...clean, length: short };

  test("U10, U17: a mark wholly behind the end of the file stops a merge before its first write", async () => {
    writeCowfile(cow, disk);
    expect(await idsOf(cow)).toEqual(["data-lost"]);
    for (const output of [undefined, out])
      await expect(merge(rdo, cow, { output }, {})).rejects.toMatchObject({ code: "damaged", file: cow });
    expectFile(rdo, original);
    expect(existsSync(out)).toBe(false);
    await merge(rdo, cow, { force: true }, {});
    expectFile(rdo, imageBytes(base, new Map([[10, filled(0xaa)]])));
  });

  test("repair never clears such a mark unasked; with dropLost it does, and says so", async () => {
    writeCowfile(cow, { ...disk, flags: 1 });
    const kept = await repair(cow, {}, {});
    expect([kept.blocksUsed, [...kept.lost]]).toEqual([2, [{ offset: 20 * BLOCK, length: BLOCK }]]);
    expectFile(cow, cowfileBytes(disk));
    const dropped = await repair(cow, { force: true, dropLost: true }, {});
    expect(dropped).toMatchObject({ blocksUsed: 1, changed: true, state: "clean" });
    expect([...dropped.cleared]).toEqual([{ offset: 20 * BLOCK, length: BLOCK }]);
    expectFile(cow, cowfileBytes({ ...disk, bits: new Set([10]), used: 1 }));
    expect(await idsOf(cow)).toEqual([]);
    expect(await repair(cow, { force: true, dropLost: true }, {})).toMatchObject({ changed: false });
  });

  test("dropLost needs no force to clear the marks of a file that was closed clean", async () => {
    writeCowfile(cow, disk);
    await repair(cow, { dropLost: true }, {});
    expect(await idsOf(cow)).toEqual([]);
    expectFile(cow, cowfileBytes({ ...disk, bits: new Set([10]), used: 1 }));
  });

  test("dropLost leaves a clean file, even where the count was right for what is left", async () => {
    writeCowfile(cow, { ...disk, used: 1 });
    const dropped = await repair(cow, { force: true, dropLost: true }, {});
    expect(dropped).toMatchObject({ changed: true, state: "clean" });
    expectFile(cow, cowfileBytes({ ...disk, bits: new Set([10]), used: 1 }));
  });
});

describe("the wrong base", () => {
  test.each([
    ["shorter", 100],
    ["longer", 102],
  ])("U09: a %s rdofile is refused and stays as it is", async (_, blockCount) => {
    writeImage(rdo, { ...base, blockCount, blocks: new Map([...base.blocks].filter(([b]) => b < blockCount)) });
    const before = readFileSync(rdo);
    for (const output of [undefined, out])
      await expect(merge(rdo, cow, { output }, {})).rejects.toMatchObject({ code: "not-found" });
    writeCowfile(cow, clean);
    for (const output of [undefined, out])
      await expect(merge(rdo, cow, { output }, {})).rejects.toMatchObject({ code: "wrong-base", file: cow });
    await expect(openStack(nodeStorage, `${rdo},${cow}`)).rejects.toMatchObject({ code: "wrong-base" });
    await expect(repair(cow, { rdofile: rdo }, {})).rejects.toMatchObject({ code: "wrong-base" });
    expectFile(rdo, before);
    expectFile(cow, cowfileBytes(clean));
    expect(existsSync(out)).toBe(false);
  });

  test("U09: forced, a longer rdofile keeps what it has more; a shorter one is refused all the same", async () => {
    writeCowfile(cow, clean);
    writeFileSync(rdo, Buffer.concat([original, filled(0x77)]));
    await merge(rdo, cow, { force: true }, {});
    expectFile(rdo, Buffer.concat([merged, filled(0x77)]));
    truncateSync(rdo, 100 * BLOCK);
    await expect(merge(rdo, cow, { force: true }, {})).rejects.toMatchObject({ code: "wrong-base" });
  });

  test("U11: a second merge finds everything done, though the merge changed the fingerprint", async () => {
    const blocks = new Map([...clean.blocks, [0, filled(0x31)]]);
    writeCowfile(cow, { ...clean, blocks, bits: new Set([0, 10, 20]), used: 3 });
    expect(await merge(rdo, cow, {}, {})).toMatchObject({ already_merged: false, fingerprint_changed: true });
    expect(await merge(rdo, cow, {}, {})).toMatchObject({ already_merged: true, blocks_merged: 0 });
    expectFile(rdo, imageBytes(base, blocks));
  });
});

describe("odd heads", () => {
  /** The clean file with one 16-bit field changed. */
  function withField(offset: number, value: number): Buffer {
    const bytes = cowfileBytes(clean);
    bytes.writeInt16LE(value, offset);
    writeFileSync(cow, bytes);
    return bytes;
  }

  test.each([0, -1, -32768])(
    "U21: version %i is taken as the driver takes it, and set right by repair",
    async (version) => {
      withField(4, version);
      expect(await idsOf(cow)).toEqual(["version-low"]);
      await merge(rdo, cow, { output: out }, {});
      expectFile(out, merged);
      await repair(cow, {}, {});
      expectFile(cow, cowfileBytes(clean));
    },
  );

  test.each([0x4, 0x7ffc, -32768])(
    "U20: unknown flag bits %i outlive a repair; the dirty one does not",
    async (flags) => {
      withField(6, flags | 1);
      await repair(cow, {}, {});
      expectFile(cow, withField(6, flags));
      expect(await idsOf(cow, ["note"])).toContain("unknown-flags");
    },
  );

  test("a wrong size of the bitmap is recomputed, as the driver does", async () => {
    const bytes = cowfileBytes(clean);
    bytes.writeBigUInt64LE(2048n, 16);
    writeFileSync(cow, bytes);
    expect(await idsOf(cow)).toEqual(["map-size"]);
    await repair(cow, {}, {});
    expectFile(cow, cowfileBytes(clean));
  });

  test("D12: a fingerprint that was not sign-extended matches on 32 bits, and is stored as the driver would", async () => {
    const bytes = cowfileBytes(clean);
    bytes.writeBigUInt64LE(0x9c030201n, 40);
    writeFileSync(cow, bytes);
    expect(await idsOf(cow)).toEqual(["fingerprint-extension"]);
    await merge(rdo, cow, { output: out }, {});
    expectFile(out, merged);
    await repair(cow, {}, {});
    expectFile(cow, cowfileBytes(clean));
  });
});

test("U08: block 2^31, 2 TiB into the image, is merged to its place", async () => {
  const rdoBlocks = 2 ** 31 + 5;
  const [huge, far] = [scratch("huge.img"), 2 ** 31];
  writeSparse(
    huge,
    rdoBlocks * BLOCK,
    Array.from({ length: 4 }, (_, b) => [b * BLOCK, filled(b + 1).subarray(0, 1)]),
  );
  const dataOffset = leastDataOffset(rdoBlocks);
  const contents = { ...clean, rdoBlocks, dataOffset, fingerprint: 0x04030201, used: 2 };
  writeSparse(cow, dataOffset + (far + 1) * BLOCK, [
    [0, headBytes(contents)],
    [1024, Uint8Array.of(0x80)],
    [1024 + far / 8, Uint8Array.of(1)],
    [dataOffset + 7 * BLOCK, filled(0xaa)],
    [dataOffset + far * BLOCK, filled(0xbb)],
  ]);
  expect(await merge(huge, cow, {}, {})).toMatchObject({ blocks_merged: 2 });
  expect(readAt(huge, 7 * BLOCK, BLOCK).every((byte) => byte === 0xaa)).toBe(true);
  expect(readAt(huge, far * BLOCK, BLOCK).every((byte) => byte === 0xbb)).toBe(true);
  expect(readAt(huge, (far - 1) * BLOCK, BLOCK).every((byte) => byte === 0)).toBe(true);
  expect(nodeStorage.facts(huge)?.sizeBytes).toBe(rdoBlocks * BLOCK);
});
