/**
 * Proves the part of the contract that only a real process can show: help, FIFOs, users without rights, closed and full
 * pipes, DEBUG. Every command line comes from test/support/command/rows.ts.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { create } from "../../src/lib/index.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import {
  COMMAND_NAMES,
  eachOf,
  expectErrorJson,
  expectErrorLine,
  expectJson,
  rowOf,
} from "../support/command/harness.ts";
import { atOnce, finish, pause, type StartOptions, skipsLoudly, start } from "../support/command/real-process.ts";
import { COMMAND_ROWS } from "../support/command/rows.ts";
import { ROOT } from "../support/command/run-command.ts";

const at = useImages();

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
/** Root may do anything, so it is another user who must not; whoever is not root is that user already. */
const asNobody: StartOptions = isRoot ? { uid: NOBODY, env: { HOME: tmpdir(), NODE_DISABLE_COMPILE_CACHE: "1" } } : {};

/** Gives the test's folder to that user, who must be able to get there. */
function giveAway(): void {
  if (!isRoot) return;
  chmodSync(dirname(at("")), 0o755);
  for (const file of [at(""), ...readdirSync(at("")).map(at)]) chownSync(file, NOBODY, NOBODY);
}

/** May another user run our program at all? Not in a checkout below a home folder that is closed to others. */
const canBeNobody =
  isRoot && spawnSync(process.execPath, [`${ROOT}/bin/run.js`, "--version"], { uid: NOBODY, gid: NOBODY }).status === 0;

describe.each(COMMAND_NAMES)("%s", (name) => {
  test("helps when asked by --help, -h and help, with examples", async () => {
    const [long, short, word] = await Promise.all([
      finish([name, "--help"]),
      finish([name, "surplus", "--bogus", "-h"]),
      finish(["help", name]),
    ]);
    expect(long).toMatchObject({ status: 0, stderr: "" });
    expect(long.stdout).toMatch(new RegExp(`EXAMPLES\\n  \\$ cowtool ${name} `));
    expect(long.stdout).toContain(`USAGE\n  $ cowtool ${name} `);
    for (const other of [short, word]) expect(other.stdout).toBe(long.stdout);
  });

  test("is one error line or one JSON object from the shell, too", async () => {
    const [bare, json, debug] = await Promise.all([
      finish([name]),
      finish([name, "--json"]),
      finish([name], { env: { DEBUG: "cowtool" } }),
    ]);
    expectErrorLine(bare, 16);
    expectErrorJson(json, 16);
    expect(debug.stderr).toMatch(/^ +at /m);
  });
});

describe.each(COMMAND_NAMES.filter((name) => COMMAND_ROWS[name]))("%s, wherever it takes a file", (name) => {
  const { inputs } = rowOf(name);

  test("refuses a FIFO and does not hang", async () => {
    execFileSync("mkfifo", [at("fifo")]);
    const lines = inputs.map((input) => input.argv(at, at("fifo")));
    const before = pictureOf(at(""));
    await atOnce(2, lines, async (argv) => {
      const ran = await finish([name, ...argv]);
      expect(ran.timedOut).toBe(false);
      expect(expectErrorLine(ran, 16)).toContain(at("fifo"));
    });
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.skipIf(skipsLoudly(!canBeNobody && isRoot, "unreadable files: user nobody cannot run this checkout"))(
    "names a file that it may not read",
    async () => {
      const closed = (good: string): string => at(`closed-${good}`);
      for (const { good } of inputs) copyFileSync(at(good), closed(good));
      const lines = inputs.map((input) => [closed(input.good), input.argv(at, closed(input.good))] as const);
      giveAway();
      for (const [file] of lines) chmodSync(file, 0);
      const before = isRoot ? pictureOf(at("")) : {};
      await atOnce(2, lines, async ([file, argv], index) => {
        const isHuman = index % 2 === 0;
        const ran = await finish([name, ...argv, ...(isHuman ? [] : ["--json"])], asNobody);
        if (isHuman) expect(expectErrorLine(ran, 8)).toMatch(new RegExp(`: ${file}: .*permission denied$`));
        else expect(expectErrorJson(ran, 8)).toMatchObject({ code: "permission", details: { file } });
      });
      if (isRoot) expect(pictureOf(at(""))).toEqual(before);
    },
  );
});

describe.each(eachOf(({ outputs }) => outputs))("%s, %s", (name, _, output) => {
  test("refuses to replace a FIFO, and does not hang", async () => {
    execFileSync("mkfifo", [at("fifo")]);
    const argv = output.argv(at, at("fifo"));
    const before = pictureOf(at(""));
    const ran = await finish([name, ...argv]);
    expect(ran.timedOut).toBe(false);
    expect(expectErrorLine(ran, ran.status === 8 ? 8 : 16)).toContain(at("fifo"));
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.skipIf(skipsLoudly(isRoot && !canBeNobody, "folders without permission: user nobody cannot run this checkout"))(
    "says that it may not write to the folder, and changes nothing",
    async () => {
      mkdirSync(at("closed"), 0o555);
      const argv = output.argv(at, at("closed/new"));
      giveAway();
      const before = pictureOf(at(""));
      const ran = await finish([name, ...argv], asNobody);
      expect(expectErrorLine(ran, 8)).toContain("permission denied");
      expect(pictureOf(at(""))).toEqual(before);
    },
  );
});

/** A cowfile whose map has 131072 extents: more JSON than any pipe holds. */
async function makeLongMap(): Promise<string> {
  writeFileSync(at("big.img"), new Uint8Array(128 << 20).fill(0, 1));
  await create(at("big.img"), at("big.cow"), {}, {});
  const { readFileSync, truncateSync } = await import("node:fs");
  const cow = readFileSync(at("big.cow"));
  cow.fill(0x55, 1024, 1024 + 16384);
  writeFileSync(at("big.cow"), cow);
  truncateSync(at("big.cow"), 20480 + (128 << 20));
  return at("big.cow");
}

describe("output that nobody takes", () => {
  test("a closed pipe ends it quietly, with the status of the work", async () => {
    const file = await makeLongMap();
    for (const argv of [
      ["info", file, "--json", "--map"],
      ["check", file, "--json", "-v"],
      ["check", file, "-v"],
    ]) {
      const { child, ended } = start(argv);
      child.stdout?.once("data", () => child.stdout?.destroy());
      const ran = await ended;
      expect([ran.timedOut, ran.stderr], argv.join(" ")).toEqual([false, ""]);
      expect(ran.status, argv.join(" ")).toBe(argv[0] === "info" ? 0 : 1);
    }
  });

  test.each(COMMAND_NAMES)(
    "%s: a pipe that is closed from the start does, too, and stdin may stay open",
    async (name) => {
      const [line] = rowOf(name).runs;
      const { child, ended } = start([name, ...(line?.argv(at) ?? [])], { stdio: ["pipe", "pipe", "pipe"] });
      child.stdout?.destroy();
      const ready = rowOf(name).stays?.(at);
      if (ready !== undefined) {
        while (!existsSync(ready) && child.exitCode === null) await pause(20);
        child.kill();
      }
      const ran = await ended;
      expect([ran.status, ran.stderr, ran.timedOut]).toEqual([0, "", false]);
    },
  );

  test("a closed stderr does not stop the work", async () => {
    const { child, ended } = start(["merge", at("base.img"), at("vm.cow"), "-y", "--progress=json", "--json"]);
    child.stderr?.destroy();
    const ran = await ended;
    expect(ran.status).toBe(0);
    expectJson(ran.stdout, "merge");
  });

  test("a full disk behind stdout is an input/output error, not a bug in cowtool", async () => {
    const full = openSync("/dev/full", "w");
    const ran = await finish(["info", at("vm.cow")], { stdio: ["ignore", full, "pipe"] });
    closeSync(full);
    expect(ran.stderr).toMatch(/^cowtool: error: .*no space left/);
    expect(ran.stderr).not.toContain("bug");
    expect(ran.status).toBe(8);
  });
});

describe("input that nobody asked for", () => {
  test.skipIf(skipsLoudly(!canBeNobody, "a closed home folder: needs root, and a checkout that others can read"))(
    "a home folder that it may not read is no concern of its",
    async () => {
      mkdirSync(at("home"), 0o700);
      chmodSync(dirname(at("")), 0o755);
      const options = { ...asNobody, env: { HOME: at("home") } };
      const ran = await finish(["info", at("vm.cow")], options);
      expect(ran).toMatchObject({ status: 0, stderr: "" });
    },
  );

  test("a yes on a pipe is no confirmation", async () => {
    const before = pictureOf(at(""));
    const ran = await finish(["merge", at("base.img"), at("vm.cow")], { input: "y\n" });
    expect(expectErrorLine(ran, 16)).toContain(at("base.img"));
    expect(ran.stderr).toContain("--yes");
    expect(pictureOf(at(""))).toMatchObject(before);
  });
});
