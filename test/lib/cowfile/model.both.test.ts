/**
 * Proves create --from, info, check, repair, merge, merge -o and undo against a model in memory: random bases, cowfiles
 * written by the driver's own rules up to a crash at any step, damaged at the end, on four ABIs and at every size where
 * the layout changes.
 */
import { readFileSync, rmSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ABI_NAMES,
  type CowAbi,
  check,
  create,
  type Extent,
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
  cowfileLength,
  DriverModel,
  heldBlocks,
  imageBytes,
  isZeroBlock,
  leastDataOffset,
  mapBytesFor,
  repaired,
  type SparseImage,
  type Step,
  sameBytes,
  writeCowfile,
  writeImage,
} from "../../support/images/driver-model.ts";
import { isExhaustive, runs } from "../../support/sample.ts";
import { scratchDirectory, seesHoles } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const ZERO_BLOCK = new Uint8Array(BLOCK);
const STEPS: readonly Step[] = ["data", "head", "bitmap"];

/** What a block is filled with; `mixed` changes inside the block, `sums to 0` counts for nothing in a fingerprint. */
const fills = ["zeros", "constant", "mixed", "sums to 0"] as const;

function content(fill: (typeof fills)[number], seed: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  if (fill === "constant") bytes.fill((seed % 255) + 1);
  if (fill === "mixed") for (let i = 0; i < BLOCK; i++) bytes[i] = (i * (seed | 1) + (i >> 3)) & 0xff;
  if (fill === "sums to 0") bytes.set([1, 255], seed % 1000);
  return bytes;
}

const block = fc.tuple(fc.constantFrom(...fills), fc.nat(5000));

interface Write {
  /** Where, as a part of the image. */
  readonly at: number;
  readonly data: readonly [fill: (typeof fills)[number], seed: number];
  readonly half: "all" | "first" | "second";
  readonly syncs: boolean;
}

const write: fc.Arbitrary<Write> = fc.record({
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  data: block,
  half: fc.constantFrom("all", "all", "first", "second"),
  syncs: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
});

interface Scene {
  readonly baseBlocks: readonly (readonly [at: number, data: readonly [(typeof fills)[number], number]])[];
  readonly tailBytes: number;
  readonly writes: readonly Write[];
  /** How the last write ends; undefined: the device is closed as it should be. */
  readonly crash: Step | "after" | undefined;
  /** Marks behind the end of the image, as U04 left them, with data or without. */
  readonly beyond: readonly (readonly [at: number, hasData: boolean])[];
  /** Bytes that a full disk cut off the end of the file. */
  readonly cutBytes: number;
  readonly extraOffset: number;
}

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

const scene: fc.Arbitrary<Scene> = fc.record({
  baseBlocks: fc.array(fc.tuple(fraction, block), { maxLength: 30 }),
  tailBytes: fc.constantFrom(0, 0, 1, 512, 1023),
  writes: fc.array(write, { maxLength: 25 }),
  crash: fc.constantFrom(undefined, undefined, "after" as const, ...STEPS),
  beyond: fc.oneof(fc.constant([]), fc.array(fc.tuple(fraction, fc.boolean()), { maxLength: 3 })),
  cutBytes: fc.constantFrom(0, 0, 0, 1, 511, 512, 1000),
  extraOffset: fc.constantFrom(0, 0, 1024, 4096, 512, 1, 12345),
});

interface Built {
  readonly base: SparseImage;
  readonly disk: CowContents;
  /** What the user had read last; undefined where damage makes that moot. */
  readonly live: ((block: number) => Uint8Array) | undefined;
  readonly isCrash: boolean;
  readonly lastWritten: number | undefined;
}

function build(abi: CowAbi, blockCount: number, made: Scene): Built {
  const place = (at: number): number => Math.floor(at * blockCount);
  const blocks = new Map(made.baseBlocks.map(([at, data]) => [place(at), content(...data)] as const));
  const base = { blockCount, blocks, tail: Buffer.alloc(made.tailBytes, 0x5a) };
  const driver = new DriverModel(base, abi, leastDataOffset(blockCount) + made.extraOffset);
  for (const [i, { at, data, half, syncs }] of made.writes.entries()) {
    const isLast = i === made.writes.length - 1;
    const bytes = content(...data).subarray(half === "all" ? 0 : BLOCK / 2);
    const diesAfter = isLast && made.crash !== "after" ? made.crash : undefined;
    driver.write(place(at), bytes, half === "second" ? BLOCK / 2 : 0, diesAfter);
    if (syncs && !isLast) driver.sync();
  }
  if (made.crash === undefined) driver.sync();
  const whole = driver.contents();
  const last = made.writes.at(-1);
  const facts = { base, isCrash: made.crash !== undefined, lastWritten: last && place(last.at) };
  if (made.beyond.length === 0 && made.cutBytes === 0) return { ...facts, disk: whole, live: (b) => driver.read(b) };
  const bits = new Set(whole.bits);
  const data = new Map(whole.blocks);
  const room = mapBytesFor(blockCount) * 8 - blockCount;
  for (const [at, hasData] of room > 0 ? made.beyond : []) {
    const bit = blockCount + Math.floor(at * room);
    bits.add(bit);
    if (hasData) data.set(bit, content("constant", bit));
  }
  const damaged = { ...whole, bits, blocks: data };
  const least = 1024 + mapBytesFor(blockCount);
  const length = Math.max(least, cowfileLength(damaged) - made.cutBytes);
  return { ...facts, disk: { ...damaged, length }, live: undefined };
}

function blocksOf(extents: Iterable<Extent>): number[] {
  return [...extents].flatMap(({ offset, length }) =>
    Array.from({ length: length / BLOCK }, (_, i) => offset / BLOCK + i),
  );
}

const ascending = (a: number, b: number): number => a - b;

async function expectSameImage(path: string, expected: Buffer): Promise<void> {
  const actual = readFileSync(path);
  expect(actual.length).toBe(expected.length);
  expect(sameBytes(actual, expected)).toBe(true);
}

/** One scene through every command, compared with the model at each step. */
async function play({ base, disk, live, isCrash, lastWritten }: Built): Promise<void> {
  const [rdo, cow, out] = [scratch("rdo.img"), scratch("c.cow"), scratch("out.img")];
  const [undo, from] = [scratch("undo.cow"), scratch("from.cow")];
  for (const file of [out, undo, from]) rmSync(file, { force: true });
  writeImage(rdo, base);
  writeCowfile(cow, disk);
  const original = imageBytes(base);
  const before = cowfileBytes(disk);
  const right = repaired(disk);
  const isDirty = disk.flags !== 0;
  const marked = [...right.bits].filter((bit) => !disk.bits.has(bit)).sort(ascending);
  const cleared = [...disk.bits].filter((bit) => bit >= disk.rdoBlocks).sort(ascending);

  // Looking changes nothing.
  expect((await verifyFingerprint(rdo, cow, {})).match).toBe(true);
  const { facts } = await info(cow, { rdofile: rdo }, {});
  expect(facts).toMatchObject({ abi: disk.abi, state: isDirty ? "dirty" : "clean", blocks_used: disk.bits.size });
  const found = await check(cow, { rdofile: rdo }, {});
  const data = [...found.problems].filter(({ id }) => id === "unmarked-data");
  expect(blocksOf(data.map(({ offset, length }) => ({ offset: offset - disk.dataOffset, length })))).toEqual(marked);
  const planned = await repair(cow, { force: true, dryRun: true }, {});
  if (isDirty) await expect(merge(rdo, cow, {}, {})).rejects.toMatchObject({ code: "dirty", file: cow });
  expect(sameBytes(readFileSync(cow), before)).toBe(true);
  expect(sameBytes(readFileSync(rdo), original)).toBe(true);

  // Repair does what the model does, says so, and does it once.
  const done = await repair(cow, { force: true, rdofile: rdo }, {});
  for (const report of [planned, done]) {
    expect(blocksOf(report.marked)).toEqual(marked);
    expect(blocksOf(report.cleared)).toEqual(cleared);
    expect(report.blocksUsed).toBe(right.bits.size);
    const suspects = blocksOf(report.suspects);
    expect(suspects).toEqual([...new Set(suspects)].sort(ascending).map(Math.floor));
    expect(suspects).toHaveLength(report.suspectBlocks);
    expect(suspects.filter((b) => right.bits.has(b) || !isZeroBlock(right.blocks.get(b) ?? ZERO_BLOCK))).toEqual([]);
    expect(report.changed).toBe(!sameBytes(before, cowfileBytes(right)));
  }
  await expectSameImage(cow, cowfileBytes(right));
  const again = await repair(cow, { force: true }, {});
  expect([again.changed, again.worst.fixable]).toEqual([false, 0]);
  await expectSameImage(cow, cowfileBytes(right));

  // Every way to look through it gives one image.
  const held = heldBlocks(right);
  const merged = imageBytes(base, held);
  // Marks whose data is gone altogether have to be agreed to.
  const force = held.size < right.bits.size;
  if (force) await expect(merge(rdo, cow, {}, {})).rejects.toMatchObject({ code: "damaged", file: cow });
  const stack = await openStack(nodeStorage, `${rdo},${cow}`);
  const view = Buffer.alloc(stack.device.sizeBytes);
  stack.device.read(view, 0);
  stack.close();
  expect(sameBytes(view, merged.subarray(0, view.length))).toBe(true);
  // Closed as it should be, it is what the user saw; after a crash only zeros may be missing (D04).
  for (let b = 0; live && b < base.blockCount; b++) {
    const seen = live(b);
    const mayBeLost = isCrash && (isZeroBlock(seen) || b === lastWritten);
    expect(mayBeLost || sameBytes(seen, merged.subarray(b * BLOCK, (b + 1) * BLOCK))).toBe(true);
  }
  await merge(rdo, cow, { output: out, force }, {});
  await expectSameImage(out, merged);
  const result = await merge(rdo, cow, { undo, force }, {});
  // A base that holds all of it already is left alone, and there is nothing to undo.
  const already = held.size > 0 && sameBytes(merged, original);
  expect(result.blocks_merged).toBe(already ? 0 : held.size);
  expect(result.undo).toBe(already ? null : undo);
  await expectSameImage(rdo, merged);
  await expectSameImage(cow, cowfileBytes(right));
  if (!already) {
    const problems = [...(await check(undo, { rdofile: rdo }, {})).problems];
    expect(problems.filter((p) => p.severity !== "note")).toEqual([]);
    await merge(rdo, undo, {}, {});
  }
  await expectSameImage(rdo, original);

  // A cowfile made from the merged image holds just what differs, as the driver would have written it.
  const differing = new Map(
    [...held].filter(([b, bytes]) => !sameBytes(bytes, original.subarray(b * BLOCK, (b + 1) * BLOCK))),
  );
  const made = await create(rdo, from, { from: out, abi: disk.abi }, {});
  expect(made.blocks_used).toBe(differing.size);
  const { length: _, ...rest } = right;
  const bits = new Set(differing.keys());
  const dataOffset = leastDataOffset(base.blockCount);
  await expectSameImage(from, cowfileBytes({ ...rest, dataOffset, bits, blocks: differing, used: bits.size }));
}

/** Numbers of blocks around which the layout changes; each is tried on an ABI of 32 and one of 64 bits, or on one of them. */
const BORDERS = [8192, 8193, 24576, 24577, 32769] as const;

function bordersOf(abi: CowAbi): readonly number[] {
  const place = ABI_NAMES.indexOf(abi);
  const step = seesHoles ? 2 : 4;
  return isExhaustive ? BORDERS : BORDERS.filter((_, i) => (i + place) % step === 0);
}

describe.each(ABI_NAMES)("%s: a model of the driver and the library agree", (abi) => {
  test("on random bases of a few hundred blocks, crashes and damage", async () => {
    const small = fc.integer({ min: 1, max: 300 });
    const property = fc.asyncProperty(small, scene, (blocks, made) => play(build(abi, blocks, made)));
    await fc.assert(property, { numRuns: runs(seesHoles ? 8 : 3) });
  });

  test.each(bordersOf(abi))("on sparse bases of %i blocks, where the layout changes", async (blocks) => {
    const property = fc.asyncProperty(scene, (made) => play(build(abi, blocks, made)));
    await fc.assert(property, { numRuns: runs(1) });
  });
});
