/**
 * Proves that every image which the original cowloop left behind, on four ABIs, reads, repairs and merges to exactly
 * what the manifest says, and that a fresh cowfile of ours is the original's byte for byte.
 */
import { createHash } from "node:crypto";
import { existsSync, rmSync, statSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import {
  check,
  create,
  decodeHead,
  type Extent,
  encodeHead,
  info,
  merge,
  nodeStorage,
  openStack,
  repair,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { collected } from "../../support/collected.ts";
import {
  blocksOf,
  goldenPath,
  hasGolden,
  type OpenCase,
  openCase,
  openCases,
  packedCases,
  rdoFacts,
  rdoPath,
} from "../../support/images/golden.ts";
import { sampleOf } from "../../support/sample.ts";
import { copyImage, readAt, scratchDirectory, seesHoles, sha256 } from "../../support/scratch.ts";

const BLOCK_BYTES = 1024;
const scratch = scratchDirectory();
/** What the driver wrote; the others are byte for byte the same (a test says so), and so is what becomes of them. */
const driverCases = openCases.filter(({ kind }) => kind === "clean" || kind === "dirty");
const unpackedCases = openCases.filter(({ of }) => of !== undefined);
const dirtyCases = driverCases.filter(({ kind }) => kind === "dirty");
const cleanCases = driverCases.filter(({ kind }) => kind === "clean");

/** All of them; of the ways without native calls a share. */
function tried<Case>(cases: readonly Case[]): readonly Case[] {
  return seesHoles ? cases : sampleOf(cases, Math.ceil(cases.length / 6), cases.length);
}

/** Of a base as large as this, what is done to it reads and hashes for tenths of a second. */
const LARGE_BYTES = 8 << 20;

/** What was made of one base in one way, on two of the four ABIs, or one: nothing but the head differs. */
function onSomeAbis<Case extends { readonly rdo: string; readonly scenario: string; readonly kind: string }>(
  cases: readonly Case[],
): readonly Case[] {
  const alike = Object.values(Object.groupBy(cases, ({ rdo, scenario, kind }) => `${rdo} ${scenario} ${kind}`));
  const isLarge = (rdo: string): boolean => rdoFacts(rdo).numblocks * BLOCK_BYTES > LARGE_BYTES;
  return alike.flatMap((group = [], i) => sampleOf(group, isLarge(group[0]?.rdo ?? "") ? 1 : 2, i));
}

/** Corrections that `cowrepair -f -v` counted. */
function correctionsOf({ cowrepair_fv }: OpenCase): number {
  return Number(/corrections in bitmap: (\d+)/.exec(cowrepair_fv.stdout)?.[1]);
}

function blocksIn(extents: Iterable<Extent>): number {
  let bytes = 0;
  for (const { length } of extents) bytes += length;
  return bytes / BLOCK_BYTES;
}

/** The block numbers that lie in extents. */
function blockList(extents: Iterable<Extent>): number[] {
  return [...extents].flatMap(({ offset, length }) =>
    Array.from({ length: length / BLOCK_BYTES }, (_, i) => offset / BLOCK_BYTES + i),
  );
}

/** Copies of rdofiles that are as they were; a test takes one out, and gives it back once it has proved that. */
const intact = new Map<string, string>();

function borrowBase(rdo: string): string {
  const base = intact.get(rdo) ?? copyImage(rdoPath(rdo), scratch(`${rdo}.img`));
  intact.delete(rdo);
  return base;
}

function returnBase(rdo: string, base: string): void {
  expect(sha256(base)).toBe(rdoFacts(rdo).sha256);
  intact.set(rdo, base);
}

/** Digest of what a stack of base and layer shows. */
async function viewOf(rdo: string, layer: string): Promise<string> {
  const stack = await openStack(nodeStorage, `${rdo},${layer}`);
  const view = new Uint8Array(stack.device.sizeBytes);
  expect(stack.device.read(view, 0)).toBe(view.length);
  stack.close();
  return createHash("sha256").update(view).digest("hex");
}

describe.skipIf(!hasGolden)("golden images of the original cowloop", () => {
  const stampsOf = (): readonly bigint[] =>
    [...openCases, ...packedCases].map(({ file }) => statSync(goldenPath(file), { bigint: true }).ctimeNs);
  let stamps: readonly bigint[] = [];

  // Unpacking is no part of the first test's time.
  beforeAll(() => {
    goldenPath("");
    stamps = stampsOf();
  });

  test.runIf(seesHoles)("each is what the manifest says", () => {
    for (const { file, sha256: expected } of [...openCases, ...packedCases])
      expect(sha256(goldenPath(file))).toBe(expected);
  });

  test("there are all of them: 264 cowfiles and 120 packs", () => {
    expect([openCases.length, packedCases.length]).toEqual([264, 120]);
    expect([cleanCases.length, dirtyCases.length, unpackedCases.length]).toEqual([84, 60, 120]);
  });

  test("what cowpack -u unpacked is the file that was packed", () => {
    for (const each of unpackedCases) expect(each.sha256).toBe(openCase(each.of ?? "").sha256);
  });

  describe("cowfiles", () => {
    test.each(tried(openCases))(
      "$id: the head decodes to the manifest's fields, and encodes to the same bytes",
      (golden) => {
        const block = readAt(goldenPath(golden.file), 0, BLOCK_BYTES);
        const { header } = golden;
        const head = decodeHead(block, golden.file);
        expect(head).toEqual({
          abi: golden.abi,
          version: header.version,
          flags: header.flags,
          mapUnit: BigInt(header.mapunit),
          mapSize: BigInt(header.mapsize),
          dataOffset: BigInt(header.doffset),
          rdoBlocks: BigInt(header.rdoblocks),
          fingerprint: BigInt(header.rdofingerprint),
          used: BigInt(header.cowused),
        });
        if (golden.header_hex) expect(block.toString("hex", 0, golden.header_hex.length / 2)).toBe(golden.header_hex);
        const again = Buffer.alloc(BLOCK_BYTES);
        expect(encodeHead(head, again)).toBe(header.sizeof);
        expect(again.subarray(0, header.sizeof)).toEqual(block.subarray(0, header.sizeof));
      },
    );

    test.each(tried(openCases))("$id: info tells what the manifest tells", async (golden) => {
      const { header } = golden;
      const { facts, extents, close } = await info(goldenPath(golden.file), { map: true }, {});
      const map = await collected(extents);
      close();
      expect(facts).toMatchObject({
        format: "cowfile",
        abi: golden.abi,
        version: 1,
        state: golden.kind === "dirty" ? "dirty" : "clean",
        packed: null,
        block_size: 1024,
        map_size: header.mapsize,
        data_offset: header.doffset,
        rdo_blocks: header.rdoblocks,
        virtual_size: header.rdoblocks * BLOCK_BYTES,
        fingerprint: `0x${header.rdofingerprint.slice(2).padStart(8, "0").slice(-8)}`,
        blocks_used: golden.bits_on_disk,
        blocks_used_header: header.cowused,
        file_size: golden.size,
      });
      // The map covers the image without gaps, its pieces alternate, and what it calls allocated are the set bits.
      let end = 0;
      for (const [i, { offset, length, allocated }] of map.entries()) {
        expect(offset).toBe(end);
        expect(length).toBeGreaterThan(0);
        if (i > 0) expect(allocated).not.toBe(map[i - 1]?.allocated);
        end = offset + length;
      }
      expect(end).toBe(header.rdoblocks * BLOCK_BYTES);
      const allocated = map.filter((extent) => extent.allocated);
      if (golden.set_blocks_on_disk) expect(blockList(allocated)).toEqual(blocksOf(golden.set_blocks_on_disk));
      else expect(blocksIn(allocated)).toBe(golden.bits_on_disk);
    });

    test.each(tried(onSomeAbis(cleanCases)))(
      "$id: a clean one has no problem, and the stack reads as the driver showed it",
      async (golden) => {
        const [rdo, cow] = [rdoPath(golden.rdo), goldenPath(golden.file)];
        const report = await check(cow, { rdofile: rdo }, {});
        expect([...report.problems].filter(({ severity }) => severity !== "note")).toEqual([]);
        expect(await viewOf(rdo, cow)).toBe(golden.ondisk_bitmap_view_sha256);
      },
    );

    test.each(tried(onSomeAbis(dirtyCases)))(
      "$id: a dirty one is refused without a trace; forced, it merges what the bitmap on disk says",
      async (golden) => {
        const [rdo, cow, out] = [rdoPath(golden.rdo), goldenPath(golden.file), scratch("forced.img")];
        rmSync(out, { force: true });
        await expect(merge(rdo, cow, { output: out }, {})).rejects.toMatchObject({ code: "dirty", file: cow });
        await expect(openStack(nodeStorage, `${rdo},${cow}`)).rejects.toMatchObject({ code: "dirty", file: cow });
        expect(existsSync(out)).toBe(false);
        await merge(rdo, cow, { output: out, force: true }, {});
        expect(sha256(out, golden.header.rdoblocks * BLOCK_BYTES)).toBe(golden.ondisk_bitmap_view_sha256);
        expect(sha256(cow)).toBe(golden.sha256);
      },
    );

    test.each(tried(onSomeAbis(dirtyCases)))(
      "$id: repair needs no force for a dirty one (U01), and leaves what cowrepair -f left",
      async (golden) => {
        const cow = copyImage(goldenPath(golden.file), scratch("repair.cow"));
        const planned = await repair(cow, { dryRun: true }, {});
        expect(sha256(cow)).toBe(golden.sha256);
        const done = await repair(cow, { rdofile: rdoPath(golden.rdo) }, {});
        expect(sha256(cow)).toBe(golden.after_repair.sha256);
        for (const report of [planned, done]) {
          expect(blocksIn(report.marked)).toBe(correctionsOf(golden));
          expect(report).toMatchObject({ stateBefore: "dirty", examined: true, changed: true });
          expect(report.blocksUsed).toBe(golden.after_repair.bits);
          expect(report.cleared.count + report.lost.count).toBe(0);
        }
        expect([planned.state, done.state]).toEqual(["dirty", "clean"]);
        expect([...planned.problems]).toEqual([...done.problems]);
      },
    );

    test.each(tried(onSomeAbis(cleanCases)))(
      "$id: repair finds nothing in a clean one, forced or not, and changes no byte",
      async (golden) => {
        expect(golden.after_repair.sha256).toBe(golden.sha256);
        const cow = copyImage(goldenPath(golden.file), scratch("repair.cow"));
        for (const force of [false, true]) {
          const report = await repair(cow, { force }, {});
          expect(report).toMatchObject({ stateBefore: "clean", state: "clean", examined: force, changed: false });
          expect(report.marked.count + report.cleared.count).toBe(0);
          expect(sha256(cow)).toBe(golden.sha256);
        }
      },
    );

    test.each(tried(onSomeAbis(driverCases)))(
      "$id: repaired and merged, the base is the original's; undo gives the old base back",
      async (golden) => {
        const rdo = rdoPath(golden.rdo);
        const cow = copyImage(goldenPath(golden.file), scratch("merge.cow"));
        if (golden.kind === "dirty") await repair(cow, {}, {});
        const base = borrowBase(golden.rdo);
        const [undo, out] = [scratch("undo.cow"), scratch("out.img")];
        for (const file of [undo, out]) rmSync(file, { force: true });
        const expected = golden.cowmerge_Y_after_repair.rdo_sha256_after;

        await merge(rdo, cow, { output: out }, {});
        expect(sha256(out)).toBe(expected);
        const merged = await merge(base, cow, { undo }, {});
        expect(merged).toMatchObject({ blocks_merged: golden.after_repair.bits, resumed: false, mode: "in-place" });
        expect(sha256(base)).toBe(expected);
        expect(sha256(cow)).toBe(golden.after_repair.sha256);
        expect((await verifyFingerprint(base, undo, {})).match).toBe(true);
        expect((await info(undo, {}, {})).facts).toMatchObject({
          abi: golden.abi,
          blocks_used: golden.after_repair.bits,
        });
        await merge(base, undo, {}, {});
        returnBase(golden.rdo, base);
      },
    );

    const fresh = openCases.filter(({ scenario, kind }) => scenario === "fresh" && kind === "clean");
    test.each(tried(fresh))("$id: create makes the very same file", async (golden) => {
      const result = await create(rdoPath(golden.rdo), scratch("new.cow"), { abi: golden.abi, force: true }, {});
      expect(result.rdo_blocks).toBe(golden.header.rdoblocks);
      expect(sha256(scratch("new.cow"))).toBe(golden.sha256);
    });

    const written = openCases.filter(({ scenario, kind }) => kind === "clean" && scenario !== "fresh");
    test.each(tried(onSomeAbis(written)))(
      "$id: create --from the merged image merges to that image again",
      async (golden) => {
        const [rdo, cow, out] = [rdoPath(golden.rdo), scratch("from.cow"), scratch("from.img")];
        await merge(rdo, goldenPath(golden.file), { output: out, force: true }, {});
        const made = await create(rdo, cow, { from: out, abi: golden.abi, force: true }, {});
        // A block may have been written with what the base held there anyway.
        expect(made.blocks_used).toBeLessThanOrEqual(golden.bits_on_disk);
        await merge(rdo, cow, { output: scratch("again.img"), force: true }, {});
        expect(sha256(scratch("again.img"))).toBe(sha256(out));
      },
    );
  });

  describe("packs", () => {
    test.each(tried(onSomeAbis(packedCases)))(
      "$id: it is in order, and reads as the cowfile it was made from",
      async (golden) => {
        const [rdo, file] = [rdoPath(golden.rdo), goldenPath(golden.file)];
        const source = openCase(golden.of ?? "");
        const { facts, problems } = await info(file, {}, {});
        expect(facts).toMatchObject({
          abi: golden.abi,
          state: "clean",
          packed: golden.kind === "packed-gzip" ? "gzip" : "plain",
          rdo_blocks: source.header.rdoblocks,
          blocks_used: source.bits_on_disk,
          blocks_used_header: golden.header.cowused,
          file_size: golden.size,
        });
        expect([...problems]).toEqual([]);
        const report = await check(file, { rdofile: rdo }, {});
        expect([...report.problems].filter(({ severity }) => severity !== "note")).toEqual([]);
        expect(await verifyFingerprint(rdo, file, {})).toMatchObject({ match: true });
        expect(await viewOf(rdo, file)).toBe(source.ondisk_bitmap_view_sha256);
      },
    );

    test.each(tried(onSomeAbis(packedCases)))(
      "$id: what would write to it, or reads it as a cowfile, refuses it",
      async (golden) => {
        const file = goldenPath(golden.file);
        const base = borrowBase(golden.rdo);
        const { mtimeMs } = statSync(base);
        for (const dryRun of [true, false]) {
          const refused = { code: "packed", file };
          await expect(repair(file, { force: true, dryRun }, {})).rejects.toMatchObject(refused);
          await expect(merge(base, file, { force: true, dryRun }, {})).rejects.toMatchObject(refused);
        }
        expect(statSync(base).mtimeMs).toBe(mtimeMs);
        intact.set(golden.rdo, base);
      },
    );
  });

  test("no golden image was changed by all this", () => {
    expect(stampsOf()).toEqual(stamps);
  });
});
