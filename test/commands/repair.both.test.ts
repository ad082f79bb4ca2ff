/** Proves what `repair` does as a command: marks, recounts, reports, stays away from sound files, and is a no-op twice. */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { nodeStorage } from "../../src/lib/index.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { seesHoles } from "../support/scratch.ts";

const at = useImages();

async function reportOf(argv: readonly string[], status = 0): Promise<Record<string, unknown>> {
  const ran = await run("repair", [...argv, "--json"]);
  expect(ran.status, ran.stdout).toBe(status);
  return expectJson(ran.stdout, "repair");
}

describe("repair", () => {
  test("a dirty file becomes what it was before the crash, without -f", async () => {
    const report = await reportOf([at("dirty.cow"), "--rdofile", at("base.img")]);
    expect(report).toMatchObject({
      state_before: "dirty",
      state: "clean",
      corrections: 3,
      blocks_used: 10,
      marked: [{ offset: 11 * 1024, length: 3 * 1024 }],
      cleared: [],
      lost: [],
      examined: true,
      changed: true,
      dry_run: false,
    });
    expect(readFileSync(at("dirty.cow")).equals(readFileSync(at("vm.cow")))).toBe(true);
  });

  test("run again it changes nothing, not even the time of change", async () => {
    await reportOf([at("dirty.cow")]);
    const before = pictureOf(at(""));
    expect(await reportOf([at("dirty.cow")])).toMatchObject({ state_before: "clean", changed: false, examined: false });
    expect(await reportOf([at("dirty.cow"), "-f"])).toMatchObject({ corrections: 0, changed: false, examined: true });
    expect(pictureOf(at(""))).toEqual(before);
    expect((await run("repair", [at("dirty.cow")])).stdout).toMatch(/clean, nothing done \(-f /);
  });

  test("-n says by exit status 1 that there is something to do, by 0 that there is not", async () => {
    const report = await reportOf([at("dirty.cow"), "-n"], 1);
    expect(report).toMatchObject({ state_before: "dirty", state: "dirty", corrections: 3, dry_run: true });
    expect((await run("repair", [at("dirty.cow"), "-n"])).stdout).toContain("nothing was changed (--dry-run)");
    await reportOf([at("vm.cow"), "-n", "-f"], 0);
  });

  test("reports allocated zeros that are not marked as suspects, where the file system can tell", async () => {
    const bytes = readFileSync(at("dirty.cow"));
    bytes.fill(0, 4096 + 120 * 1024, 4096 + 132 * 1024);
    writeFileSync(at("dirty.cow"), bytes);
    const { suspects, blocks_used } = await reportOf([at("dirty.cow")]);
    expect(blocks_used).toBe(10);
    const places = suspects as readonly { offset: number; length: number; evidence: string }[];
    expect(places.length > 0).toBe(seesHoles);
    const last = 300 * 1024;
    for (const { offset, length } of places) expect(offset + length).toBeLessThanOrEqual(last);
  });

  test("what is lost stays marked, and makes the status 4, until --drop-lost clears it", async () => {
    const kept = await reportOf([at("lost.cow"), "-f"], 4);
    expect(kept).toMatchObject({ lost: [{ offset: 299 * 1024, length: 1024 }], cleared: [], blocks_used: 10 });
    expect((await run("repair", [at("lost.cow"), "-f"])).stdout).toMatch(/1 block lost: .*--drop-lost/);
    const dropped = await reportOf([at("lost.cow"), "-f", "--drop-lost"]);
    expect(dropped).toMatchObject({ lost: [], cleared: [{ offset: 299 * 1024, length: 1024 }], blocks_used: 9 });
    expect((await run("check", [at("lost.cow")])).status).toBe(0);
  });

  test("preserves unknown flags, the tail of the head block and the ABI", async () => {
    const bytes = readFileSync(at("be32.cow"));
    bytes.writeUInt16BE(0x4001, 6);
    bytes.write("precious", 500);
    writeFileSync(at("be32.cow"), bytes);
    await reportOf([at("be32.cow")]);
    const after = readFileSync(at("be32.cow"));
    expect(after.readUInt16BE(6)).toBe(0x4000);
    expect(after.subarray(500, 508).toString()).toBe("precious");
    expect(after.subarray(1024).equals(bytes.subarray(1024))).toBe(true);
  });

  test("lengthens a file whose last block was cut short, with zeros", async () => {
    truncateSync(at("dirty.cow"), 4096 + 299 * 1024 + 100);
    await reportOf([at("dirty.cow")]);
    const after = readFileSync(at("dirty.cow"));
    expect(after).toHaveLength(4096 + 300 * 1024);
    expect(after.subarray(4096 + 299 * 1024 + 100).every((byte) => byte === 0)).toBe(true);
    expect((await run("check", [at("dirty.cow")])).status).toBe(0);
  });

  test.each([
    ["another base", "random.img", "wrong-base"],
    ["a base of another size", "empty.img", "wrong-base"],
  ])("refuses %s before anything is written", async (_, base, code) => {
    const argv = [at("dirty.cow"), "--rdofile", at(base)];
    const before = pictureOf(at(""));
    expect(expectErrorJson(await run("repair", [...argv, "--json"]), 4).code).toBe(code);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.each(["plain.pack", "gzip.pack", "hostile.cow"])("refuses %s and leaves it alone", async (name) => {
    const argv = [at(name), "-f"];
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run("repair", argv), 4)).toContain(at(name));
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("waits for no reader: it is refused, while a dry run is not", async () => {
    const reader = nodeStorage.open(at("dirty.cow"), { lock: "shared" });
    expect(expectErrorLine(await run("repair", [at("dirty.cow")]), 8)).toContain("in use");
    await reportOf([at("dirty.cow"), "-n"], 1);
    reader.close();
    await reportOf([at("dirty.cow")]);
  });
});
