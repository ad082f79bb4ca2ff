/**
 * Proves that nothing which merely has the name of a file of cowtool's own (journals, unfinished outputs, notes, records,
 * pid files) is read, written through, replaced or removed: links, FIFOs, directories, other people's files.
 */
import { execFileSync } from "node:child_process";
import {
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { bootId } from "../../../src/lib/device/sys/boot.ts";
import { decodeHead, encodeHead } from "../../../src/lib/formats/cowfile/head.ts";
import { FLAG_DIRTY } from "../../../src/lib/formats/cowfile/layout.ts";
import { FLAG_LIVE, writeStamp } from "../../../src/lib/formats/cowfile/live/stamp.ts";
import { CowError, convert, create, info, merge, nodeStorage, repair } from "../../../src/lib/index.ts";
import { PidFile } from "../../../src/lib/nbd/server/pid-file.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const folder = scratch("w");
const [base, cow, out, victim] = ["base.img", "vm.cow", "out.raw", "victim"].map((name) => join(folder, name)) as [
  string,
  string,
  string,
  string,
];
const PRECIOUS = "precious, and longer than any beginning of a file of ours";
const isRoot = process.geteuid?.() === 0;

beforeEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeFileSync(base, Buffer.alloc(65536, 1));
  writeFileSync(join(folder, "changed"), Buffer.alloc(65536, 2));
  await create(base, cow, { from: join(folder, "changed"), identity: "none" }, {});
  writeFileSync(victim, PRECIOUS);
});

/** What may have the name instead, and what says afterwards that it is as it was. */
const STRANGERS: Readonly<Record<string, (name: string) => () => void>> = {
  "a symbolic link": (name) => {
    symlinkSync(victim, name);
    return () => expect(lstatSync(name).isSymbolicLink()).toBe(true);
  },
  "a link to nothing": (name) => {
    symlinkSync(join(folder, "nothing"), name);
    return () => expect(existsSync(join(folder, "nothing"))).toBe(false);
  },
  "a FIFO": (name) => {
    execFileSync("mkfifo", [name]);
    return () => expect(lstatSync(name).isFIFO()).toBe(true);
  },
  "a directory": (name) => {
    mkdirSync(name);
    return () => expect(lstatSync(name).isDirectory()).toBe(true);
  },
  "a hard link to the user's file": (name) => {
    linkSync(victim, name);
    return () => expect(readFileSync(name, "utf8")).toBe(PRECIOUS);
  },
  "the user's own file": (name) => {
    writeFileSync(name, PRECIOUS);
    return () => expect(readFileSync(name, "utf8")).toBe(PRECIOUS);
  },
};

async function serve(): Promise<void> {
  const stack = await ServedStack.open(nodeStorage, `${base},${cow}`, { access: "writable" });
  stack.close();
}

const USES: Readonly<Record<string, readonly [suffix: string, act: () => Promise<unknown>]>> = {
  "an unfinished output": [`${out}.cowtool-partial`, () => convert(`${base},${cow}`, out, { to: "raw" }, {})],
  "the note of an unfinished output": [
    `${out}.cowtool-partial-note`,
    () => convert(`${base},${cow}`, out, { to: "raw" }, {}),
  ],
  "a live journal": [`${cow}.cowtool-live`, serve],
  "a merge journal": [`${base}.cowtool-merge`, () => merge(base, cow, { force: true }, {})],
  "a pid file": [join(folder, "pid"), async () => new PidFile(join(folder, "pid")).write()],
};

async function refusal(act: () => Promise<unknown>): Promise<CowError> {
  const error = await act().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof CowError) return error;
  throw error ?? new Error("it was not refused");
}

describe.each(Object.entries(USES))("in the place of %s", (_use, [name, act]) => {
  test.each(Object.entries(STRANGERS))("%s is refused and left unchanged", async (_stranger, make) => {
    const isUnchanged = make(name);
    const before = readFileSync(base);
    expect(await refusal(act)).toMatchObject({ code: "exists", file: name });
    isUnchanged();
    expect(readFileSync(victim, "utf8")).toBe(PRECIOUS);
    expect(readFileSync(base)).toEqual(before);
    expect(existsSync(out)).toBe(false);
  });

  test.runIf(isRoot)("an empty file of another user is refused (root only)", async () => {
    writeFileSync(name, "");
    chownSync(name, 65534, 65534);
    expect(await refusal(act)).toMatchObject({ code: "exists", file: name });
    expect(lstatSync(name)).toMatchObject({ uid: 65534, size: 0 });
  });
});

test.each(Object.entries(STRANGERS))(
  "in the place of a base record, %s is left unchanged, with a word of warning",
  async (_stranger, make) => {
    const isUnchanged = make(`${cow}.cowtool-base`);
    const notices: string[] = [];
    await create(base, cow, { force: true }, { onNotice: ({ message }) => void notices.push(message) });
    isUnchanged();
    expect(readFileSync(victim, "utf8")).toBe(PRECIOUS);
    expect(notices.join("\n")).toContain("could not be written");
    await info(cow, {}, {});
  },
);

test("what an earlier conversion left with a second name stays under that name, and the conversion is made anew", async () => {
  await convert(`${base},${cow}`, out, { to: "raw" }, {});
  const kept = join(folder, "kept");
  linkSync(out, kept);
  linkSync(out, `${out}.cowtool-partial`);
  writeFileSync(
    `${out}.cowtool-partial-note`,
    '{"cowtool_convert":1,"inputs":"","offset":0,"held":0,"copied":0,"sink":{}}',
  );
  rmSync(out);
  const before = readFileSync(kept);
  await convert(base, out, { to: "raw" }, {});
  expect(readFileSync(kept)).toEqual(before);
  expect(readFileSync(out)).toEqual(readFileSync(base));
  expect(existsSync(`${out}.cowtool-partial-note`)).toBe(false);
});

test("what a power cut leaves of a journal, nothing but zeros, is replaced; zeros before something else are not", async () => {
  const journal = `${cow}.cowtool-live`;
  writeFileSync(journal, Buffer.alloc(70_000));
  truncateSync(journal, 1 << 20);
  await serve();
  expect(existsSync(journal)).toBe(false);
  const bytes = Buffer.concat([Buffer.alloc(70_000), Buffer.from(PRECIOUS)]);
  writeFileSync(journal, bytes);
  expect(await refusal(serve)).toMatchObject({ code: "exists", file: journal });
  expect(readFileSync(journal)).toEqual(bytes);
});

test("a repair leaves what has the journal's name and is none, and says so", async () => {
  // As a killed server leaves it: of no other cowfile the journal is looked for.
  const bytes = readFileSync(cow);
  const head = decodeHead(bytes, cow);
  encodeHead({ ...head, flags: head.flags | FLAG_DIRTY | FLAG_LIVE }, bytes);
  const nonce = new Uint8Array(16).fill(1);
  writeStamp({ nonce, boot: bootId(), offset: 448, usesLog: false, logDone: 0, generation: 1 }, bytes);
  writeFileSync(cow, bytes);
  symlinkSync(victim, `${cow}.cowtool-live`);
  const notices: string[] = [];
  await repair(cow, { force: true }, { onNotice: ({ message }) => void notices.push(message) });
  expect(notices.join("\n")).toContain("is a symbolic link");
  expect(lstatSync(`${cow}.cowtool-live`).isSymbolicLink()).toBe(true);
  expect(readFileSync(victim, "utf8")).toBe(PRECIOUS);
});
