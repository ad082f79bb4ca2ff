/**
 * Proves what an output may replace: --force an empty file and what looks like something that the command makes, and nothing
 * else; whatever is there only if its name is given once more.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { convert, create, diff, invert, merge, pack, squash, unpack } from "../../../src/lib/index.ts";
import { createStoreFile } from "../../../src/lib/operations/create-store.ts";
import { run } from "../../support/command/harness.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const [base, cow, packed] = [scratch("base.img"), scratch("vm.cow"), scratch("vm.pack")];
const KINDS = scratch("kinds");

/** A file of each kind that may be in the way. */
const MADE = [
  "raw",
  "cowfile",
  "dm-snapshot",
  "dm-cow",
  "qcow2",
  "pack",
  "gzip",
  "plain",
  "archive",
  "zstd file",
  "text",
] as const;
type Kind = (typeof MADE)[number];
const fileOf = (kind: Kind): string => join(KINDS, kind);

beforeAll(async () => {
  mkdirSync(KINDS);
  writeFileSync(base, Buffer.alloc(65536, 1));
  const changed = scratch("changed.img");
  writeFileSync(changed, Buffer.alloc(65536, 2));
  await create(base, cow, { from: changed, identity: "none" }, {});
  await pack(cow, packed, {}, {});
  copyFileSync(base, fileOf("raw"));
  copyFileSync(cow, fileOf("cowfile"));
  copyFileSync(packed, fileOf("pack"));
  for (const format of ["gzip", "plain"] as const) await pack(cow, fileOf(format), { format }, {});
  for (const to of ["dm-snapshot", "dm-cow", "qcow2"] as const) await convert(`${base},${cow}`, fileOf(to), { to }, {});
  writeFileSync(fileOf("archive"), gzipSync("a file of somebody's"));
  writeFileSync(fileOf("zstd file"), zstdCompressSync(Buffer.from("a file of somebody's")));
  writeFileSync(fileOf("text"), "a note\n");
});

interface Overwrite {
  readonly force?: boolean;
  readonly replace?: readonly string[];
}

const STRANGERS: readonly Kind[] = ["raw", "cowfile", "pack", "archive", "zstd file"];
const over = `${base},${cow}`;
const PACKS: readonly Kind[] = ["pack", "gzip", "plain"];
const IMAGES: readonly Kind[] = ["raw", "text"];
const COMMANDS: readonly (readonly [string, readonly Kind[], (out: string, may: Overwrite) => Promise<unknown>])[] = [
  ["create", ["cowfile"], (out, may) => create(base, out, { ...may, identity: "none" }, {})],
  ["create --format dm-snapshot", ["dm-snapshot"], (out, may) => createStoreFile(base, out, may, {})],
  ["squash", ["cowfile"], (out, may) => squash(over, out, may, {})],
  ["diff --output", ["cowfile"], (out, may) => diff(base, over, { delta: out, ...may }, {})],
  ["unpack", ["cowfile"], (out, may) => unpack(packed, out, may, {})],
  ["pack", PACKS, (out, may) => pack(cow, out, may, {})],
  ["merge --output", IMAGES, (out, may) => merge(base, cow, { output: out, ...may }, {})],
  ["invert's image", IMAGES, (out, may) => invert(base, cow, { output: out, layer: `${out}.layer`, ...may }, {})],
  ["invert's layer", ["cowfile"], (out, may) => invert(base, cow, { output: `${out}.image`, layer: out, ...may }, {})],
  ["convert --to raw", IMAGES, (out, may) => convert(over, out, { to: "raw", ...may }, {})],
  ["convert --to cowfile", ["cowfile"], (out, may) => convert(over, out, { to: "cowfile", ...may }, {})],
  ["convert --to qcow2", ["qcow2"], (out, may) => convert(over, out, { to: "qcow2", ...may }, {})],
  ["convert --to dm-cow", ["dm-cow"], (out, may) => convert(over, out, { to: "dm-cow", ...may }, {})],
];

describe.each(COMMANDS)("%s", (name, makes, act) => {
  const folder = scratch(name.replaceAll(/\W/g, "-"));
  const out = join(folder, "out");
  const put = (content: Uint8Array): void => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    writeFileSync(out, content);
  };

  test("what looks like what is made is replaced with --force", async () => {
    for (const kind of makes) {
      put(readFileSync(fileOf(kind)));
      await expect(act(out, {})).rejects.toMatchObject({ code: "exists", file: out });
      await act(out, { force: true });
    }
  });

  test("anything else only by its name", async () => {
    for (const kind of STRANGERS.filter((each) => !makes.includes(each))) {
      const before = readFileSync(fileOf(kind));
      put(before);
      await expect(act(out, { force: true, replace: ["out"] }), kind).rejects.toMatchObject({
        code: "exists",
        file: out,
        hints: [expect.stringContaining(`--replace ${out}`)],
      });
      expect(readFileSync(out).equals(before)).toBe(true);
    }
    await act(out, { replace: [out] });
  });

  test("an empty file is replaced with --force", async () => {
    put(Buffer.alloc(0));
    await act(out, { force: true });
    expect(readFileSync(out).length).toBeGreaterThan(0);
  });
});

test("on the command line --replace takes one name, and a picture is replaced as others are", async () => {
  const notes = scratch("notes");
  writeFileSync(notes, "a note\n");
  const argv = [cow, "--map=svg", "-o", notes];
  expect((await run("info", [...argv, "-f"])).status).toBe(8);
  expect(readFileSync(notes, "utf8")).toBe("a note\n");
  expect((await run("info", ["--replace", notes, ...argv])).status).toBe(0);
  expect((await run("info", [...argv, "-f"])).status).toBe(0);
  const golden = scratch("golden.img");
  copyFileSync(base, golden);
  const refused = await run("create", [base, golden, "-f"]);
  expect(refused.status).toBe(8);
  expect(refused.stderr).toContain(`--replace ${golden}`);
  expect(readFileSync(golden).equals(readFileSync(base))).toBe(true);
  expect((await run("create", ["--replace", golden, base, golden])).status).toBe(0);
});

test.each(["base", "live", "lock", "lock.1-ab", "merge", "partial", "partial-note"])(
  "no output may end in .cowtool-%s",
  async (suffix) => {
    const name = scratch(`x.cowtool-${suffix}`);
    const expected = { code: "usage", file: name, message: expect.stringContaining(`may end in .cowtool-${suffix}`) };
    await expect(pack(cow, name, { replace: [name] }, {})).rejects.toMatchObject(expected);
    await expect(merge(base, cow, { undo: name }, {})).rejects.toMatchObject(expected);
  },
);
