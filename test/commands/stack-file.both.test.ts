/**
 * Proves stack files on real files: who serves one for writing keeps others from it, before and after it was replaced; links,
 * modes and other files of that name; and what the commands say about one that is not asked for.
 */
import {
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { create, merge, nodeStorage } from "../../src/lib/index.ts";
import type { Access } from "../../src/lib/stack/live/access.ts";
import { ServedStack } from "../../src/lib/stack/live/served-stack.ts";
import { HeldStackFile, readStackFile } from "../../src/lib/stack/stack-file.ts";
import { expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const KIB = 1024;
const folder = scratchDirectory();
let round = 0;
const at = (name: string): string => folder(`${round}/${name}`);

beforeEach(async () => {
  round++;
  mkdirSync(folder(`${round}`));
  writeFileSync(at("golden.img"), noise(64 * KIB, 1));
  const { stack } = await create(at("golden.img"), at("vm1.cow"), { stackFile: at("vm1.stack") });
  expect(stack).toBe(at("vm1.stack"));
});

const serve = (name = at("vm1.stack"), access: Access = "writable"): Promise<ServedStack> =>
  ServedStack.open(nodeStorage, `stack:${name}`, { access, repair: false });
const stored = (): unknown => JSON.parse(readFileSync(at("vm1.stack"), "utf8"));
const hold = (): HeldStackFile => HeldStackFile.hold(nodeStorage, readStackFile(nodeStorage, at("vm1.stack")));

describe("a stack file", () => {
  test("stores relative names, absolute ones of files elsewhere as they are", async () => {
    expect(stored()).toMatchObject({ base: { file: "golden.img" }, layers: [{ file: "vm1.cow" }] });
    mkdirSync(at("sub"));
    await create(at("golden.img"), at("sub/new.cow"), { stackFile: at("sub/new.stack") });
    expect(readStackFile(nodeStorage, at("sub/new.stack")).document.base).toEqual({ file: at("golden.img") });
    const here = process.cwd();
    process.chdir(folder(`${round}`));
    try {
      mkdirSync("vms");
      symlinkSync("vms", "link");
      await create("golden.img", "link/new.cow", { stackFile: "link/new.stack" });
      expect(JSON.parse(readFileSync("vms/new.stack", "utf8"))).toEqual({
        cowtool_stack: 1,
        base: { file: "../golden.img" },
        layers: [{ file: "new.cow" }],
      });
      const ran = await run("info", ["--json", "stack:link/new.stack"]);
      expect(ran.status, ran.stderr).toBe(0);
    } finally {
      process.chdir(here);
    }
  });

  test("moves together with its files", () => {
    writeFileSync(at("vm1.stack"), JSON.stringify({ cowtool_stack: 1, base: { file: "golden.img" }, layers: [] }));
    renameSync(folder(`${round}`), folder(`${++round}`));
    expect(readStackFile(nodeStorage, at("vm1.stack")).path).toBe(at("vm1.stack"));
  });

  test("is held by who serves it for writing, also once it was replaced, and free afterwards", async () => {
    const refusal = { code: "locked", file: at("vm1.stack") };
    copyFileSync(at("vm1.cow"), at("vm2.cow"));
    const served = await serve();
    await expect(serve()).rejects.toMatchObject(refusal);
    await expect(merge(`stack:${at("vm1.stack")}`, at("vm1.cow"), {})).rejects.toMatchObject(refusal);
    served.close();
    const held = hold();
    for (const file of ["vm2.cow", "vm1.cow"]) {
      held.replace({ ...held.document, layers: [{ file }], x_other: file });
      expect(() => hold()).toThrow(expect.objectContaining(refusal));
      await expect(serve()).rejects.toMatchObject(refusal);
    }
    expect(stored()).toMatchObject({ layers: [{ file: "vm1.cow" }], x_other: "vm1.cow" });
    const reader = await serve(at("vm1.stack"), "read-only");
    reader.close();
    held.close();
    (await serve()).close();
    expect(readdirSync(folder(`${round}`)).filter((name) => /tmp|lock/.test(name))).toEqual([]);
  });

  test("is followed through a link, which stays one; keeps its mode, and has one name only", () => {
    chmodSync(at("vm1.stack"), 0o640);
    symlinkSync("vm1.stack", at("link"));
    const held = HeldStackFile.hold(nodeStorage, readStackFile(nodeStorage, at("link")));
    held.replace({ ...held.document, x_other: 1 });
    held.close();
    expect(stored()).toMatchObject({ x_other: 1 });
    expect(lstatSync(at("link")).isSymbolicLink()).toBe(true);
    expect(statSync(at("vm1.stack")).mode & 0o777).toBe(0o640);
    linkSync(at("vm1.stack"), at("hard"));
    expect(() => hold()).toThrow(expect.objectContaining({ code: "exists" }));
  });
});

describe("the commands", () => {
  const asked = expect.stringMatching(/is a stack file, whose other files are opened only when asked for$/);
  test.each([
    ["info", () => [at("vm1.stack")]],
    ["check", () => [at("vm1.stack")]],
    ["info", () => [`${at("golden.img")},${at("vm1.stack")}`]],
    ["diff", () => [at("golden.img"), at("vm1.stack")]],
    ["merge", () => [at("vm1.stack"), at("vm1.cow"), "-y"]],
    ["serve", () => [at("golden.img"), at("vm1.stack"), "--socket", at("s")]],
  ] as const satisfies readonly (readonly [string, () => readonly string[]])[])(
    "%s does not open what it names unasked, and says how to ask",
    async (name, argv) => {
      const ran = await run(name, [...argv(), "--json"]);
      expect(ran.status).toBe(4);
      expect(JSON.parse(ran.stdout).error).toMatchObject({
        code: "unsuitable",
        message: asked,
        hints: [`stack:${at("vm1.stack")} asks for them`],
      });
    },
  );

  test.each([
    ["rebase", (stack: string) => [stack, "--from", at("golden.img"), "--to", at("golden.img")]],
    ["verify-fingerprint", (stack: string) => [at("golden.img"), stack]],
  ] as const)("%s takes one layer, and says how to find it", async (name, argv) => {
    const ran = await run(name, argv(`stack:${at("vm1.stack")}`));
    expect(expectErrorLine(ran, 16)).toContain("is a stack file, a base with its layers");
    expect(ran.stderr).toContain("cowtool info");
  });

  test("repair looks at its layers that were not closed", async () => {
    const served = await serve();
    const image = served.image();
    image.write(noise(4096, 2), 0);
    image.commit();
    served.abandon();
    const mended = await run("repair", [`stack:${at("vm1.stack")}`, "--json"]);
    expect(JSON.parse(mended.stdout)).toMatchObject({ cowfile: at("vm1.cow"), state: "clean" });
    const again = await run("repair", [`stack:${at("vm1.stack")}`]);
    expect(again.status, again.stderr).toBe(0);
  });

  test("what changes its layers is refused while a server has it, and says what the server does instead", async () => {
    const served = await serve();
    const stack = at("vm1.stack");
    for (const [name, argv, verb] of [
      ["checkpoint", [stack, "--as", "monday"], "checkpoint NAME --as monday"],
      ["rollback", [stack, "monday", "-y"], "rollback NAME monday"],
      ["fork", [`${stack}@monday`, at("new.stack")], "fork NAME@CP NEW"],
      ["drop", [stack, "monday"], "drop NAME monday"],
      ["squash", [stack], "squash NAME"],
    ] as const) {
      const ran = await run(name, argv);
      expect(expectErrorLine(ran, 8)).toContain(`${stack}: in use`);
      expect(ran.stderr).toContain(`\`cowtool ctl ${verb}\``);
    }
    served.close();
    expect(stored()).toMatchObject({ layers: [{ file: "vm1.cow" }] });
    renameSync(at("vm1.cow"), at("away.cow"));
    const missing = await run("checkpoint", [stack, "--as", "monday"]);
    expect(expectErrorLine(missing, 8)).toContain("vm1.cow: no such file");
    expect(missing.stderr).toContain("the stack file");
    expect(readdirSync(folder(`${round}`)).filter((file) => file.includes("monday"))).toEqual([]);
  });

  test("info shows each checkpoint, when it was made, and what others share", async () => {
    const stack = at("vm1.stack");
    await run("checkpoint", [stack, "--as", "monday", "--note", "x"]);
    await run("fork", [`${stack}@monday`, at("new.stack")]);
    expect(JSON.parse((await run("info", ["--json", `stack:${stack}`])).stdout).chain).toMatchObject([
      { checkpoint: null, shared: false },
      { checkpoint: { name: "monday", note: "x" }, shared: true },
      { checkpoint: null, shared: false },
    ]);
    expect((await run("info", [`stack:${stack}`], { columns: 300 })).stdout).toMatch(
      /vm1\.cow +monday +\d{4}-\d\d-\d\d \d\d:\d\d .*shared/,
    );
  });

  test("pack packs its only layer", async () => {
    const packed = await run("pack", [`stack:${at("vm1.stack")}`, at("vm1.packed"), "--json"]);
    expectJson(packed.stdout, "pack");
    writeFileSync(at("vm1.stack"), JSON.stringify({ cowtool_stack: 1, base: { file: "golden.img" }, layers: [] }));
    expect(expectErrorLine(await run("pack", [`stack:${at("vm1.stack")}`, at("b")]), 16)).toContain("has 0 layers");
  });

  test.each([
    ["a folder", (): string => at("."), 16, /is a directory, not a stack file/],
    ["nothing", (): string => at("none.stack"), 8, /no such file/],
    ["a device", (): string => "/dev/null", 16, /is no regular file/],
    ["an image", (): string => at("golden.img"), 4, /is no stack file/],
  ] as const)("take %s for none", async (_, file, status, message) => {
    expect(expectErrorLine(await run("info", [`stack:${file()}`]), status)).toMatch(message);
  });

  test("show names in it without what would move the cursor", async () => {
    const file = "\u001b[2J\nx";
    writeFileSync(at("vm1.stack"), JSON.stringify({ cowtool_stack: 1, base: { file }, layers: [], "\u001b": 1 }));
    expectErrorLine(await run("info", [`stack:${at("vm1.stack")}`]), 4);
    writeFileSync(at("vm1.stack"), JSON.stringify({ cowtool_stack: 1, base: { file }, layers: [] }));
    expectErrorLine(await run("info", [`stack:${at("vm1.stack")}`]), 8);
  });
});
