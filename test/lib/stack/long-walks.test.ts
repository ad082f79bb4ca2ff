/**
 * Proves that a walk through metadata that finds next to nothing stops when it is told to, in every command: a signal must
 * find the event loop turning, however long a small or sparse file keeps a loop busy.
 */
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { qcow2Format } from "../../../src/lib/formats/qcow2/index.ts";
import {
  check,
  convert,
  create,
  diff,
  info,
  MemoryStorage,
  merge,
  type OperationContext,
  unpack,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { collected } from "../../support/collected.ts";
import { cpuMsOf } from "../../support/effort.ts";
import { PER_TABLE, qcow2Of, tableAt } from "../../support/images/hostile-qcow2.ts";
import { deviceOf } from "../../support/storage/memory-files.ts";

/** Tables in holes: gigabytes to look through, in a file of a megabyte. */
const TABLES = 1 << 17;
const sparse = qcow2Of(TABLES, (entry) => entry);

/** Of processor time; to look through all of it takes many times as long. */
const AT_ONCE_MS = 1500;

/** A storage with two such images, and a signal that comes while one of them is looked through. */
function stopping(): OperationContext & { readonly storage: MemoryStorage } {
  const storage = new MemoryStorage();
  for (const name of ["a.qcow2", "b.qcow2"]) storage.put(name, sparse.clone());
  storage.put("base", new Uint8Array(1 << 20).fill(7));
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 60);
  return { storage, signal: controller.signal };
}

describe("a signal stops", () => {
  const a = "qcow2:a.qcow2";
  test.each<[string, (context: OperationContext) => Promise<unknown>]>([
    ["info --map", async (context) => collected((await info(a, { map: true }, context)).extents)],
    ["check", (context) => check(a, {}, context)],
    ["convert", (context) => convert(a, "out", { to: "raw" }, context)],
    ["diff", (context) => diff(a, "qcow2:b.qcow2", {}, context)],
    ["diff of stacks", (context) => diff(`base,${a}`, `base,qcow2:b.qcow2`, {}, context)],
    ["create", (context) => create(a, "out", {}, context)],
    ["merge -o", (context) => merge("base", a, { output: "out" }, context)],
  ])("%s", async (_, run) => {
    const context = stopping();
    const effort = cpuMsOf(() => expect(run(context)).rejects.toMatchObject({ code: "interrupted" }));
    expect(await effort).toBeLessThan(AT_ONCE_MS);
  });
});

describe("a signal stops the way through gzip members that hold nothing", () => {
  const members = Buffer.alloc(20 * 100_000, gzipSync(""));
  test.each<[string, (context: OperationContext) => Promise<unknown>]>([
    ["info", (context) => info("pack", {}, context)],
    ["check", (context) => check("pack", {}, context)],
    ["unpack", (context) => unpack("pack", "out", {}, context)],
    ["convert", (context) => convert("pack", "out", { to: "cowfile" }, context)],
    ["diff", (context) => diff("pack", "pack", {}, context)],
    ["a stack", (context) => diff("base,pack", "base", {}, context)],
    ["merge -o", (context) => merge("base", "pack", { output: "out" }, context)],
    ["verify-fingerprint", (context) => verifyFingerprint("base", "pack", {}, context)],
  ])("%s", async (_, run) => {
    const context = stopping();
    context.storage.put("pack", members);
    const effort = cpuMsOf(() => expect(run(context)).rejects.toMatchObject({ code: "interrupted" }));
    expect(await effort).toBeLessThan(AT_ONCE_MS);
    expect(context.storage.facts("out")).toBeUndefined();
  });
});

describe("an L1 table that names one L2 table again and again", () => {
  test("is refused where it is read, and a finding of check, at once", async () => {
    const storage = new MemoryStorage();
    storage.put(
      "a.qcow2",
      qcow2Of(TABLES, () => 0),
    );
    const message = `the L1 table names the L2 table at byte 1179648 (0x120000) ${TABLES} times`;
    const effort = cpuMsOf(async () => {
      await expect(convert("qcow2:a.qcow2", "out", { to: "raw" }, { storage })).rejects.toMatchObject({
        code: "damaged",
        message,
      });
      const { problems } = await check("qcow2:a.qcow2", {}, { storage });
      expect([...problems].map(({ id }) => id)).toContain("overlap");
    });
    expect(await effort).toBeLessThan(AT_ONCE_MS);
  });
});

describe("reserved bits", () => {
  /** @param l2 the first entry of the only L2 table */
  async function judged(l2: bigint, settings = new Map<string, string>()) {
    const bytes = qcow2Of(1, () => 0);
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64BE(l2);
    bytes.write(entry, tableAt(0));
    const source = deviceOf(bytes.toBytes(), "x.qcow2");
    const ids = [...(await qcow2Format.check(source, {})).problems].map(({ id }) => id);
    const layer = qcow2Format.openLayer(source, { allowDirty: false, settings });
    return { ids, walk: () => [...layer.extents(0, PER_TABLE)] };
  }

  test.each([
    ["beside a zero flag", 0x1ffn],
    ["above a zero flag", (1n << 60n) | 1n],
    ["beside data", BigInt(tableAt(0)) | (1n << 63n) | 2n],
  ])("%s are damage", async (_, l2) => {
    const { ids, walk } = await judged(l2);
    expect(ids).toContain("reserved-bits");
    expect(walk).toThrow("has bits set that must be zero");
  });

  test("are passed over by force", async () => {
    const { walk } = await judged(0x1ffn, new Map([["force", ""]]));
    expect(walk()).toEqual([{ offset: 0, length: 65536 }]);
  });

  test("are none in a zero cluster that keeps its place", async () => {
    const { ids, walk } = await judged(BigInt(tableAt(0)) | 1n);
    expect(ids).not.toContain("reserved-bits");
    expect(walk()).toEqual([{ offset: 0, length: 65536 }]);
  });
});
