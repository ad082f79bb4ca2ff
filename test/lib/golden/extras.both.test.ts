/**
 * Proves the right outcome for each damaged or odd image that the manifest keeps besides the ordinary cases, by the id
 * of the original's bug where the original got it wrong.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  ABI_NAMES,
  check,
  info,
  merge,
  nodeStorage,
  openStack,
  repair,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import {
  BLOCK,
  type CowContents,
  cowfileBytes,
  heldBlocks,
  imageBytes,
  naiveFingerprint,
  sameBytes,
  writeCowfile,
} from "../../support/images/driver-model.ts";
import { goldenExtras, goldenPath, hasGolden, openCase, rdoPath } from "../../support/images/golden.ts";
import { copyImage, readAt, scratchDirectory, seesHoles, sha256 } from "../../support/scratch.ts";

const scratch = scratchDirectory();

function extra(name: string): string {
  return goldenPath(`extras/${name}`);
}

/** rsign, which all small extras belong to. */
const base = (): Buffer => readFileSync(rdoPath("rsign"));

/** What an extra holds, read without the library: its marked blocks, cut where the file ends. */
function contentsOf(name: string, dataOffset = 4096): CowContents {
  const file = readFileSync(extra(name));
  const bits = new Set<number>();
  for (let bit = 0; bit < 8192; bit++) if (((file[1024 + (bit >> 3)] ?? 0) >> (bit & 7)) & 1) bits.add(bit);
  const blocks = new Map<number, Uint8Array>();
  for (const bit of bits) {
    const content = Buffer.alloc(BLOCK);
    file.copy(content, 0, dataOffset + bit * BLOCK);
    blocks.set(bit, content);
  }
  const fingerprint = naiveFingerprint(base());
  const used = bits.size;
  return { abi: "le64", flags: 0, rdoBlocks: 101, dataOffset, fingerprint, used, bits, blocks, length: file.length };
}

/** rsign with the blocks of an extra over it. */
function viewOf(name: string, dataOffset?: number): Buffer {
  const image = base();
  const over = heldBlocks(contentsOf(name, dataOffset));
  return imageBytes(
    { blockCount: 101, blocks: new Map(), tail: new Uint8Array() },
    new Map([...blocksOf(image), ...over]),
  );
}

function blocksOf(image: Buffer): Map<number, Uint8Array> {
  return new Map(
    Array.from({ length: image.length / BLOCK }, (_, b) => [b, image.subarray(b * BLOCK, (b + 1) * BLOCK)]),
  );
}

async function problemIds(file: string): Promise<string[]> {
  const report = await check(file, { rdofile: rdoPath("rsign") }, {});
  return [...new Set([...report.problems].filter(({ severity }) => severity !== "note").map(({ id }) => id))];
}

/** Every command refuses the extra with this code, the base stays as it is, nothing new appears. */
async function expectRefused(name: string, code: string): Promise<void> {
  const [file, rdo] = [copyImage(extra(name), scratch("refused.cow")), copyImage(rdoPath("rsign"), scratch("rdo.img"))];
  const out = scratch("refused.img");
  const refusal = { code, file };
  await expect(repair(file, { force: true, dropLost: true }, {})).rejects.toMatchObject(refusal);
  await expect(merge(rdo, file, { force: true }, {})).rejects.toMatchObject(refusal);
  await expect(merge(rdo, file, { output: out, force: true }, {})).rejects.toMatchObject(refusal);
  await expect(openStack(nodeStorage, `${rdo},${file}`)).rejects.toMatchObject(refusal);
  expect(existsSync(out)).toBe(false);
  expect([sha256(file), sha256(rdo)]).toEqual([sha256(extra(name)), sha256(rdoPath("rsign"))]);
}

/** Merging needs force, and then gives this image. */
async function expectForcedMerge(name: string, expected: Buffer): Promise<void> {
  const rdo = copyImage(rdoPath("rsign"), scratch("rdo.img"));
  await expect(merge(rdo, extra(name), {}, {})).rejects.toMatchObject({ code: "damaged", file: extra(name) });
  expect(sha256(rdo)).toBe(sha256(rdoPath("rsign")));
  await merge(rdo, extra(name), { force: true }, {});
  expect(sameBytes(readFileSync(rdo), expected)).toBe(true);
}

/** A pack is refused in place; merged into a new image it gives what the cowfile of an ordinary case gives. */
async function expectMergesLike(pack: string, id: string): Promise<void> {
  const [file, out] = [copyImage(pack, scratch("pack")), scratch("packed.img")];
  const rdo = copyImage(rdoPath("rsign"), scratch("rdo.img"));
  const refusal = { code: "packed", file };
  await expect(repair(file, { force: true }, {})).rejects.toMatchObject(refusal);
  await expect(merge(rdo, file, { force: true }, {})).rejects.toMatchObject(refusal);
  expect([sha256(file), sha256(rdo)]).toEqual([sha256(pack), sha256(rdoPath("rsign"))]);
  await merge(rdo, file, { output: out, force: true }, {});
  expect(sha256(out)).toBe(openCase(id).ondisk_bitmap_view_sha256);
}

describe.skipIf(!hasGolden)("the manifest's extras", () => {
  test.each([
    ["misaligned.cow", "D02", 4],
    ["enospc.cow", "D08", 11],
    ["trunc_mid.cow", "U10, D09", 12],
  ])(
    "%s (%s): block %i is cut short: its rest reads as zeros, and repair lengthens the file",
    async (name, _, block) => {
      expect(await problemIds(extra(name))).toEqual(["short-block"]);
      await expectForcedMerge(name, viewOf(name));
      const file = copyImage(extra(name), scratch("short.cow"));
      const report = await repair(file, {}, {});
      expect(report).toMatchObject({ examined: true, changed: true });
      const right = { ...contentsOf(name), length: 4096 + (block + 1) * BLOCK };
      expect(sameBytes(readFileSync(file), cowfileBytes(right))).toBe(true);
      expect(await problemIds(file)).toEqual([]);
    },
  );

  test("ok3.cow is in order, and merges", async () => {
    expect(await problemIds(extra("ok3.cow"))).toEqual([]);
    const rdo = copyImage(rdoPath("rsign"), scratch("rdo.img"));
    expect((await merge(rdo, extra("ok3.cow"), {}, {})).blocks_merged).toBe(3);
    expect(sameBytes(readFileSync(rdo), viewOf("ok3.cow"))).toBe(true);
  });

  test("trunc_bitmap.cow (D09): a file that ends inside its bitmap is refused, and check tells why", async () => {
    expect(await problemIds(extra("trunc_bitmap.cow"))).toEqual(["bitmap-truncated"]);
    await expectRefused("trunc_bitmap.cow", "truncated");
    expect((await info(extra("trunc_bitmap.cow"), {}, {})).facts).toMatchObject({ rdo_blocks: 101, blocks_used: null });
  });

  test("trunc_40.cow: a file that ends inside its head is refused", async () => {
    await expectRefused("trunc_40.cow", "truncated");
    await expect(info(extra("trunc_40.cow"), {}, {})).rejects.toMatchObject({ code: "truncated" });
  });

  test("version2.cow: an unknown version is refused", async () => {
    await expectRefused("version2.cow", "unsupported");
    await expect(check(extra("version2.cow"), {}, {})).rejects.toMatchObject({ code: "unsupported" });
  });

  test("mapunit0.cow (U18): a head without mapunit is refused", async () => {
    await expectRefused("mapunit0.cow", "bad-head");
    await expect(info(extra("mapunit0.cow"), {}, {})).rejects.toMatchObject({ code: "bad-head" });
  });

  test("headtail.cow (U20, D18): what stands behind the head outlives a repair", async () => {
    const file = copyImage(extra("headtail.cow"), scratch("tail.cow"));
    expect([...(await check(file, {}, {})).problems].map(({ id }) => id)).toContain("head-tail");
    await repair(file, { force: true }, {});
    expect(sha256(file)).toBe(sha256(extra("headtail.cow")));
    // Dirty, with a flag that nobody knows and a bit missing: only the dirty flag and the bit may change.
    const damaged = readFileSync(file);
    damaged.writeInt16LE(0x4000 | 1, 6);
    const map = damaged.readUInt16LE(1024);
    damaged.writeUInt16LE(map & ~0x0800, 1024);
    writeFileSync(file, damaged);
    await repair(file, {}, {});
    const expected = readFileSync(extra("headtail.cow"));
    expected.writeInt16LE(0x4000, 6);
    expect(sameBytes(readFileSync(file), expected)).toBe(true);
  });

  test("badused.cow: a wrong count is repaired without force; until then it is not merged", async () => {
    expect(await problemIds(extra("badused.cow"))).toEqual(["used-count"]);
    await expectForcedMerge("badused.cow", viewOf("badused.cow"));
    const file = copyImage(extra("badused.cow"), scratch("used.cow"));
    await repair(file, {}, {});
    expect(sha256(file)).toBe(sha256(extra("ok3.cow")));
  });

  test("doffset8192.cow (D10): a data area further back than need be is read where it is", async () => {
    expect(await problemIds(extra("doffset8192.cow"))).toEqual([]);
    const file = copyImage(extra("doffset8192.cow"), scratch("offset.cow"));
    await repair(file, { force: true }, {});
    expect(sha256(file)).toBe(sha256(extra("doffset8192.cow")));
    const rdo = copyImage(rdoPath("rsign"), scratch("rdo.img"));
    await merge(rdo, file, {}, {});
    expect(sameBytes(readFileSync(rdo), viewOf("doffset8192.cow", 8192))).toBe(true);
    expect(sameBytes(readFileSync(rdo), viewOf("ok3.cow"))).toBe(true);
  });

  test("beyond_rdoblocks.cow (U04): a mark behind the end never makes the rdofile longer, and repair clears it", async () => {
    const file = copyImage(extra("beyond_rdoblocks.cow"), scratch("beyond.cow"));
    expect(await problemIds(file)).toEqual(["bits-beyond-end"]);
    const rdo = copyImage(rdoPath("rsign"), scratch("rdo.img"));
    expect((await merge(rdo, file, {}, {})).blocks_merged).toBe(1);
    expect(sameBytes(readFileSync(rdo), viewOf("beyond_rdoblocks.cow"))).toBe(true);
    const report = await repair(file, {}, {});
    expect([...report.cleared]).toEqual([{ offset: 300 * BLOCK, length: BLOCK }]);
    expect(report.blocksUsed).toBe(1);
    expect(await problemIds(file)).toEqual([]);
    // The data behind the end is nobody's, but it is not taken away.
    expect(readFileSync(file).subarray(4096)).toEqual(readFileSync(extra("beyond_rdoblocks.cow")).subarray(4096));
  });

  test("lostzero.cow (D04): zeros that only the space tells of are not merged, but named as suspects", async () => {
    const file = copyImage(extra("lostzero.cow"), scratch("zero.cow"));
    // The archive made a hole of the zeros that the user had written.
    const bytes = readFileSync(file);
    rmSync(file);
    writeCowfile(file, {
      ...contentsOf("lostzero.cow"),
      flags: 1,
      used: 0,
      blocks: new Map([[10, new Uint8Array(BLOCK)]]),
    });
    expect(sameBytes(readFileSync(file), bytes)).toBe(true);
    const report = await repair(file, {}, {});
    expect(report).toMatchObject({ stateBefore: "dirty", state: "clean", blocksUsed: 0 });
    const suspects = [...report.suspects];
    if (seesHoles) {
      expect(suspects.some(({ offset, length }) => offset <= 10 * BLOCK && 10 * BLOCK < offset + length)).toBe(true);
      expect(report.suspectBlocks).toBe(suspects.reduce((sum, { length }) => sum + length / BLOCK, 0));
    } else expect([suspects, report.suspectBlocks]).toEqual([[], 0]);
  });

  test("clean_zlib1.2.11.packz (U12, P01): a second, empty gzip member does not disturb", async () => {
    const file = extra("clean_zlib1.2.11.packz");
    const { facts } = await info(file, {}, {});
    expect(facts).toMatchObject({ packed: "gzip", abi: "le64", rdo_blocks: 101, blocks_used: 20 });
    expect((await verifyFingerprint(rdoPath("rsign"), file, {})).match).toBe(true);
    expect(await problemIds(file)).toEqual([]);
    await expectMergesLike(file, "le64/rsign/clean");
  });

  test("inplace.pack (U15): a pack with the old file's rest behind it is a pack", async () => {
    const { facts } = await info(extra("inplace.pack"), {}, {});
    expect(facts).toMatchObject({ packed: "plain", rdo_blocks: 101, blocks_used: 20, file_size: 107520 });
    expect(await problemIds(extra("inplace.pack"))).toEqual([]);
    await expectMergesLike(extra("inplace.pack"), "le64/rsign/clean");
  });

  test("none of them was changed", () => {
    // The two large ones would take seconds to read.
    const small = goldenExtras.filter(({ file }) => !file.includes("big5g"));
    for (const each of small) expect(sha256(goldenPath(each.file))).toBe(each.sha256);
    expect(small.length).toBe(15);
  });
});

describe.skipIf(!hasGolden)("a base of 5 GiB", () => {
  const far = 4194311;

  /** The same file as another ABI would have it: only the head differs. */
  function bigCowfile(abi: (typeof ABI_NAMES)[number]): string {
    const [rdoBlocks, dataOffset] = [5242880, 659456];
    const blocks = new Map([7, far].map((b) => [b, readAt(extra("big5g_le64.cow"), dataOffset + b * BLOCK, BLOCK)]));
    const bits = new Set([7, far]);
    const file = scratch(`big5g_${abi}.cow`);
    writeCowfile(file, { abi, flags: 0, rdoBlocks, dataOffset, fingerprint: 0xc0302010, used: 2, bits, blocks });
    return file;
  }

  test.each(ABI_NAMES)("%s (U07): block 4194311, beyond 4 GiB, is merged with its own data", async (abi) => {
    const file = bigCowfile(abi);
    if (abi === "le64") expect(readAt(file, 0, 1 << 20)).toEqual(readAt(extra("big5g_le64.cow"), 0, 1 << 20));
    const rdo = copyImage(rdoPath("r5g"), scratch("r5g.img"));
    const undo = scratch(`undo_${abi}.cow`);
    expect(await merge(rdo, file, { undo }, {})).toMatchObject({ blocks_merged: 2 });
    const [near, distant] = [readAt(rdo, 7 * BLOCK, BLOCK), readAt(rdo, far * BLOCK, BLOCK)];
    expect(near).toEqual(readAt(extra("big5g_le64.cow"), 659456 + 7 * BLOCK, BLOCK));
    expect(distant).toEqual(readAt(extra("big5g_le64.cow"), 659456 + far * BLOCK, BLOCK));
    expect(near.equals(distant)).toBe(false);
    await merge(rdo, undo, {}, {});
    for (const b of [7, far]) expect(readAt(rdo, b * BLOCK, BLOCK)).toEqual(readAt(rdoPath("r5g"), b * BLOCK, BLOCK));
  });

  test("big5g_le64.pack: info reads the pack of it", async () => {
    const { facts } = await info(extra("big5g_le64.pack"), {}, {});
    expect(facts).toMatchObject({ packed: "plain", rdo_blocks: 5242880, blocks_used: 2, data_offset: 659456 });
  });

  // Without holes this would read and write 5 GiB.
  test.skipIf(!seesHoles)("repair -f and merge -o go from data to data, and stay sparse", async () => {
    const file = bigCowfile("be64");
    expect(await repair(file, { force: true }, {})).toMatchObject({ changed: false, blocksUsed: 2 });
    const out = scratch("big.img");
    await merge(rdoPath("r5g"), file, { output: out }, {});
    expect(nodeStorage.facts(out)).toMatchObject({ sizeBytes: 5 * 2 ** 30 });
    expect(nodeStorage.facts(out)?.allocatedBytes).toBeLessThan(1 << 20);
    expect(readAt(out, far * BLOCK, BLOCK)).toEqual(readAt(file, 659456 + far * BLOCK, BLOCK));
    expect(readAt(out, 0, 6 * BLOCK)).toEqual(readAt(rdoPath("r5g"), 0, 6 * BLOCK));
  });
});
