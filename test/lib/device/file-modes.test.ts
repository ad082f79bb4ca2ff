/**
 * Proves that what is made of an image is never open to more users than the image: outputs of all commands, undo files,
 * journals, records, unfinished outputs; and that a file which replaces another keeps its owner and mode, or says why not.
 */
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { convert, create, invert, merge, nodeStorage, pack, squash, unpack } from "../../../src/lib/index.ts";
import { createStoreFile } from "../../../src/lib/operations/create-store.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const folder = scratch("w");
const at = (name: string): string => join(folder, name);
const [base, changed, cow, out] = [at("base.img"), at("changed.img"), at("vm.cow"), at("out")];
const umask = process.umask(0o022);
afterAll(() => void process.umask(umask));
const isRoot = process.geteuid?.() === 0;

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

beforeEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeFileSync(base, Buffer.alloc(65536, 1));
  writeFileSync(changed, Buffer.alloc(65536, 2));
  await create(base, cow, { from: changed }, {});
});

const MADE: Readonly<Record<string, () => Promise<unknown>>> = {
  create: () => create(base, out, {}, {}),
  "create --from": () => create(base, out, { from: changed }, {}),
  "create --format dm-snapshot": () => createStoreFile(base, out, {}, {}),
  "merge --output": () => merge(base, cow, { output: out }, {}),
  "merge --undo": () => merge(base, cow, { undo: out }, {}),
  squash: () => squash(`${base},${cow}`, out, {}, {}),
  invert: () => invert(base, cow, { output: out, layer: at("out.layer") }, {}),
  convert: () => convert(`${base},${cow}`, out, { to: "raw" }, {}),
  "convert to several files": () => convert(`${base},${cow}`, out, { to: "dm-cow" }, {}),
  pack: () => pack(cow, out, {}, {}),
};

describe.each(Object.entries(MADE))("%s", (_name, make) => {
  test("of files that others may read gives one that they may read, and write as little", async () => {
    chmodSync(base, 0o444);
    await make();
    for (const name of readdirSync(folder).filter((each) => each.startsWith("out")))
      expect(modeOf(at(name))).toBe("644");
  });

  test.each([
    ["base", base],
    ["cowfile", cow],
    ["changed image", changed],
  ])("of a %s that is private, where it reads that, gives private files", async (what, file) => {
    const reads = {
      base: _name !== "pack",
      cowfile: !_name.startsWith("create"),
      "changed image": _name === "create --from",
    };
    if (!reads[what as keyof typeof reads]) return;
    chmodSync(file, 0o600);
    await make();
    for (const name of readdirSync(folder).filter((each) => each.startsWith("out")))
      expect([name, modeOf(at(name))]).toEqual([name, "600"]);
  });
});

test("a pack that is private gives a private cowfile", async () => {
  await pack(cow, at("p"), {}, {});
  chmodSync(at("p"), 0o600);
  await unpack(at("p"), out, {}, {});
  expect(modeOf(out)).toBe("600");
});

test("the journal and the record beside a private cowfile are private", async () => {
  chmodSync(cow, 0o600);
  const stack = await ServedStack.open(nodeStorage, `${base},${cow}`, { access: "writable" });
  expect(modeOf(`${cow}.cowtool-live`)).toBe("600");
  stack.close();
  await create(base, cow, { force: true }, {});
  expect(modeOf(`${cow}.cowtool-base`)).toBe("600");
});

test.runIf(isRoot)("of another group's file, its members' right to read is nobody else's (root only)", async () => {
  chownSync(cow, 0, 4321);
  chmodSync(cow, 0o640);
  await pack(cow, out, {}, {});
  expect(modeOf(out)).toBe("600");
});

describe("a file that is replaced", () => {
  const notices: string[] = [];
  const context = { onNotice: ({ message }: { readonly message: string }): void => void notices.push(message) };
  beforeEach(() => void notices.splice(0));
  const REPLACED: Readonly<Record<string, (file: string) => Promise<unknown>>> = {
    "create --force": (file) => create(base, file, { force: true, identity: "none" }, context),
    "convert --force": (file) => convert(`${base},${cow}`, file, { to: "cowfile", force: true }, context),
  };

  test.each(Object.entries(REPLACED))("by %s keeps its mode, and its owner", async (_name, replace) => {
    await create(base, out, {}, {});
    chmodSync(out, 0o660);
    if (isRoot) chownSync(out, 1234, 4321);
    const { uid, gid } = statSync(out);
    await replace(out);
    expect(modeOf(out)).toBe("660");
    expect(statSync(out)).toMatchObject({ uid, gid });
    expect(notices).toEqual([]);
    expect(existsSync(`${out}.cowtool-partial`)).toBe(false);
  });

  test.each(Object.entries(REPLACED))(
    "by %s of private data becomes private, and that is told",
    async (_name, replace) => {
      await create(base, out, {}, {});
      chmodSync(base, 0o600);
      await replace(out);
      expect(modeOf(out)).toBe("600");
      expect(notices.join()).toContain("had mode 0644 and has 0600 now");
    },
  );
});
