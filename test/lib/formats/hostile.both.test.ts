/**
 * Proves on real files what hostile-bytes.test.ts proves in memory: a cowfile with values at the edges of what the system
 * takes, or cut short, gives a result or a refusal by name, changes nothing on refusal, and costs no memory.
 */
import { mkdirSync } from "node:fs";
import { expect, test } from "vitest";
import { ABI_NAMES, check, info, verifyFingerprint } from "../../../src/lib/index.ts";
import { collected } from "../../support/collected.ts";
import { everyCommand, fileBench } from "../../support/command/every-command.ts";
import { BLOCK, headBytes, writeSparse } from "../../support/images/driver-model.ts";
import { base, RDO_BLOCKS, sample, withWord } from "../../support/images/hostile-sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
mkdirSync(scratch("bench"));
const onFiles = fileBench(scratch("bench"));

test.each(ABI_NAMES)("%s: the sample as it is passes every command", async (each) => {
  const outcomes = await everyCommand(onFiles, { base, cow: sample(each) });
  expect(new Set(outcomes.values())).toEqual(new Set(["ok"]));
});

test("values at the edges, where the system has its own limits", async () => {
  for (const field of ["doffset", "rdoblocks", "mapsize"] as const)
    for (const value of [2n ** 31n, 2n ** 32n, 2n ** 53n - 20000n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n])
      await everyCommand(onFiles, { base, cow: withWord("le64", field, value, 1) });
});

test("a head that lies about 2 TiB, with a file as long as its bitmap, costs no memory", async () => {
  const rdoBlocks = 2 ** 31;
  const contents = { abi: "le64", flags: 1, rdoBlocks, dataOffset: 2 ** 29, fingerprint: 0, used: 2 ** 31 } as const;
  const head = headBytes({ ...contents, bits: new Set(), blocks: new Map() });
  const file = scratch("liar.cow");
  writeSparse(file, 1024 + 2 ** 28, [
    [0, head],
    [1024 + 2 ** 27, new Uint8Array(70_000).fill(0x55)],
  ]);
  const before = process.memoryUsage.rss();
  const { facts, extents } = await info(file, { map: true }, {});
  expect(facts["blocks_used"]).toBe(280_000);
  // All of them lie behind the end of the file: nothing is allocated.
  expect(await collected(extents)).toEqual([{ offset: 0, length: 2 ** 41, allocated: false }]);
  const report = await check(file, {}, {});
  expect([...report.problems].filter(({ id }) => id === "data-lost")).toHaveLength(280_000);
  expect(process.memoryUsage.rss() - before).toBeLessThan(250 * 2 ** 20);
});

test("files cut at and around the borders of head, bitmap and blocks", async () => {
  const whole = 4096 + RDO_BLOCKS * BLOCK;
  const borders = [
    0,
    1,
    31,
    32,
    55,
    56,
    1023,
    1024,
    2047,
    2048,
    4095,
    4096,
    4097,
    5120,
    5121,
    whole - 1,
    whole,
    whole + 1,
  ];
  for (const length of borders) {
    const file = Buffer.alloc(length);
    sample("le64", { flags: 1 }).copy(file);
    await everyCommand(onFiles, { base, cow: file });
  }
});

test("a number of blocks that no double holds is shown exactly, not rounded", async () => {
  for (const value of [2n ** 53n + 1n, 2n ** 64n - 1n]) {
    onFiles.reset({ base, cow: withWord("le64", "rdoblocks", value, 0) });
    const [rdo, cow] = [onFiles.path("base"), onFiles.path("cow")];
    expect(String((await info(cow, {}, {})).facts["rdo_blocks"])).toBe(String(value));
    expect(String((await verifyFingerprint(rdo, cow, {})).rdo_blocks_expected)).toBe(String(value));
  }
});
