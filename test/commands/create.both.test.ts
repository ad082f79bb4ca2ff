/** Proves what `create` makes, and that it never makes something else than asked for. */
import { copyFileSync, lstatSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { HELD, pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { noise } from "../support/random.ts";

const at = useImages();

async function resultOf(argv: readonly string[]): Promise<Record<string, unknown>> {
  const ran = await run("create", [...argv, "--json"]);
  expect(ran.status, ran.stdout).toBe(0);
  return expectJson(ran.stdout, "create");
}

describe("create", () => {
  test.each([
    ["le64", "7f434f57010000000004000000000000000400000000000000100000000000002c01000000000000"],
    ["le32", "7f434f57010000000004000000040000001000002c010000"],
    ["be64", "574f437f0001000000000000000004000000000000000400000000000000100000000000000001 2c"],
    ["be32", "574f437f000100000000040000000400000010000000012c"],
  ])("--abi %s: a head of that machine, then an empty bitmap, no more", async (abi, head) => {
    const result = await resultOf([at("base.img"), at("new.cow"), `--abi=${abi}`]);
    expect(result).toMatchObject({ abi, rdo_blocks: 300, virtual_size: 307200, map_size: 1024, blocks_used: 0 });
    const bytes = readFileSync(at("new.cow"));
    const expected = Buffer.from(head.replaceAll(" ", ""), "hex");
    expect(bytes.subarray(0, expected.length).toString("hex")).toBe(expected.toString("hex"));
    expect(bytes).toHaveLength(2048);
    expect(bytes.subarray(56).every((byte) => byte === 0)).toBe(true);
    expect((await run("check", [at("new.cow"), "--rdofile", at("base.img")])).status).toBe(0);
  });

  test("le64 is what it makes unasked", async () => {
    expect(await resultOf([at("base.img"), at("new.cow")])).toMatchObject({ abi: "le64" });
  });

  test("--from holds just the blocks that differ, zeros too", async () => {
    const result = await resultOf([at("base.img"), at("new.cow"), "--from", at("changed.img")]);
    expect(result).toMatchObject({ blocks_used: HELD.length });
    const merged = await run("merge", [at("base.img"), at("new.cow"), "-o", at("new.img")]);
    expect(merged.status).toBe(0);
    expect(readFileSync(at("new.img")).equals(readFileSync(at("changed.img")))).toBe(true);
  });

  test("--from the base itself holds nothing", async () => {
    copyFileSync(at("base.img"), at("same.img"));
    expect(await resultOf([at("base.img"), at("a.cow"), "--from", at("same.img")])).toMatchObject({ blocks_used: 0 });
    await resultOf([at("base.img"), at("b.cow")]);
    expect(readFileSync(at("a.cow")).equals(readFileSync(at("b.cow")))).toBe(true);
  });

  test("takes stacks on both sides", async () => {
    const vm = `${at("base.img")},${at("vm.cow")}`;
    expect(await resultOf([vm, at("a.cow"), "--from", at("changed.img")])).toMatchObject({ blocks_used: 0 });
    expect(await resultOf([at("base.img"), at("b.cow"), "--from", vm])).toMatchObject({ blocks_used: HELD.length });
  });

  test("refuses a layer that does not belong, and a dirty one; a packed one it reads as it is", async () => {
    const over = (layer: string): string[] => [`${at("base.img")},${at(layer)}`, at("new.cow"), "--json"];
    expect(expectErrorJson(await run("create", over("top.cow")), 4).code).toBe("wrong-base");
    expect(expectErrorJson(await run("create", over("dirty.cow")), 4).code).toBe("dirty");
    expect(Object.keys(pictureOf(at("")))).not.toContain("new.cow");
    const shown = [at("new.cow"), "--from", at("changed.img"), "-f"];
    for (const pack of ["plain.pack", "gzip.pack"])
      expect(await resultOf([`${at("base.img")},${at(pack)}`, ...shown])).toMatchObject({ blocks_used: 0 });
  });

  test.each([",", "a,", ",a", "a,,b"])("refuses the stack %j", async (stack) => {
    expectErrorLine(await run("create", [stack, at("new.cow")]), 16);
  });

  test("refuses a base without a whole block", async () => {
    writeFileSync(at("tiny.img"), noise(1023, 1));
    expect(expectErrorLine(await run("create", [at("tiny.img"), at("new.cow")]), 4)).toContain("1023 bytes");
  });

  test("says what is not in the image when the base ends inside a block, unless -q", async () => {
    writeFileSync(at("odd.img"), noise(5 * 1024 + 300, 1));
    const ran = await run("create", [at("odd.img"), at("new.cow")]);
    expect(ran.stderr).toBe(
      `cowtool: note: ${at("odd.img")}: its last 300 bytes are less than a block, and not part of the image\n`,
    );
    expect((await run("create", [at("odd.img"), at("new2.cow"), "-q"])).stderr).toBe("");
  });

  test("refuses an image of another size, or one that differs where no cowfile reaches", async () => {
    writeFileSync(at("short.img"), noise(200 * 1024, 1));
    const short = await run("create", [at("base.img"), at("new.cow"), "--from", at("short.img")]);
    expect(expectErrorLine(short, 4)).toContain(at("short.img"));
    writeFileSync(at("a.img"), noise(1024 + 10, 1));
    writeFileSync(at("b.img"), Buffer.concat([noise(1024, 1), Buffer.alloc(10)]));
    expectErrorLine(await run("create", [at("a.img"), at("new.cow"), "--from", at("b.img")]), 4);
  });

  test("refuses an unknown ABI, and names the known ones", async () => {
    const ran = await run("create", [at("base.img"), at("new.cow"), "--abi=vax"]);
    expect(expectErrorLine(ran, 16)).toMatch(/le64.*le32.*be64.*be32/);
  });

  test("replaces a file only with -f, and then the file that a link leads to", async () => {
    const refused = await run("create", [at("base.img"), at("other.img")]);
    expect(refused.stderr).toContain("cowtool: hint: --force replaces it\n");
    symlinkSync("sibling.cow", at("link"));
    at("sibling.cow");
    await resultOf([at("base.img"), at("link"), "-f"]);
    expect(lstatSync(at("link")).isSymbolicLink()).toBe(true);
    expect((await run("info", [at("sibling.cow"), "--json"])).stdout).toContain('"blocks_used": 0');
  });

  test("refuses to replace a file that somebody reads", async () => {
    const { nodeStorage } = await import("../../src/lib/index.ts");
    const reader = nodeStorage.open(at("sibling.cow"), { lock: "shared" });
    expectErrorLine(await run("create", [at("base.img"), at("sibling.cow"), "-f"]), 8);
    reader.close();
  });
});
