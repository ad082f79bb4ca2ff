/**
 * Proves the part of the contract that is about processes: help, FIFOs, users without rights, closed and full pipes,
 * DEBUG. Where a process of its own shows no more, the command runs in this one, as that user or before that FIFO. Every
 * command line comes from test/support/command/rows.ts.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { create } from "../../src/lib/index.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import {
  COMMAND_NAMES,
  commandClass,
  eachOf,
  expectErrorJson,
  expectErrorLine,
  expectJson,
  type Ran,
  rowOf,
  run,
} from "../support/command/harness.ts";
import { finish, pause, type StartOptions, skipsLoudly, start } from "../support/command/real-process.ts";
import { COMMAND_ROWS } from "../support/command/rows.ts";
import { ROOT } from "../support/command/run-command.ts";
import { sampleOf } from "../support/sample.ts";

const at = useImages();

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
/** Root may do anything, so it is another user who must not; whoever is not root is that user already. */
async function runAsNobody(name: string, argv: readonly string[]): Promise<Ran> {
  if (!isRoot) return await run(name, argv);
  process.setegid?.(NOBODY);
  process.seteuid?.(NOBODY);
  try {
    return await run(name, argv);
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

/** Runs a command before a FIFO, whose other end it must not wait for: after a while that would come, to end the wait. */
async function runBeforeFifo(name: string, argv: readonly string[]): Promise<Ran> {
  execFileSync("mkfifo", [at("fifo")]);
  const rescue = 'sleep 20; touch "$0.rescued"; exec 3<>"$0"; sleep 5';
  const rescuer = spawn("sh", ["-c", rescue, at("fifo")], { stdio: "ignore", detached: true });
  try {
    return await run(name, argv);
  } finally {
    process.kill(-(rescuer.pid ?? 0), "SIGKILL");
    expect(existsSync(at("fifo.rescued"))).toBe(false);
    rmSync(at("fifo"));
  }
}

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
  test("helps when asked, with examples", async () => {
    const long = await finish([name, "--help"]);
    expect(long).toMatchObject({ status: 0, stderr: "" });
    expect(long.stdout).toMatch(new RegExp(`EXAMPLES\\n  \\$ cowtool ${name} `));
    expect(long.stdout).toContain(`USAGE\n  cowtool ${name} `);
    // -h is nobody's own.
    const { flags = {} } = await commandClass(name);
    expect(Object.values(flags).filter(({ char }) => char === "h")).toEqual([]);
  });
});

test("-h and help help as --help does, whatever stands before", async () => {
  for (const name of sampleOf(COMMAND_NAMES, 2)) {
    const lines = [
      [name, "--help"],
      [name, "surplus", "--bogus", "-h"],
      ["help", name],
    ];
    const [long, short, word] = await Promise.all(lines.map((argv) => finish(argv)));
    for (const other of [short, word]) expect(other?.stdout).toBe(long?.stdout);
  }
});

test("an error is one line or one JSON object from the shell, and a stack trace with DEBUG", async () => {
  for (const name of sampleOf(COMMAND_NAMES, 2)) {
    const [bare, json, debug] = await Promise.all([
      finish([name]),
      finish([name, "--json"]),
      finish([name], { env: { DEBUG: "cowtool" } }),
    ]);
    expectErrorLine(bare, 16);
    expectErrorJson(json, 16);
    expect(debug.stderr).toMatch(/^ +at /m);
  }
});

describe.each(COMMAND_NAMES.filter((name) => COMMAND_ROWS[name]))("%s, wherever it takes a file", (name) => {
  const { inputs } = rowOf(name);

  test("refuses a FIFO and does not hang", async () => {
    const lines = inputs.map((input) => input.argv(at, at("fifo")));
    const before = pictureOf(at(""));
    for (const argv of lines) expect(expectErrorLine(await runBeforeFifo(name, argv), 16)).toContain(at("fifo"));
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
      for (const [index, [file, argv]] of lines.entries()) {
        const isHuman = index % 2 === 0;
        const ran = await runAsNobody(name, [...argv, ...(isHuman ? [] : ["--json"])]);
        if (isHuman) expect(expectErrorLine(ran, 8)).toMatch(new RegExp(`: ${file}: .*permission denied$`));
        else expect(expectErrorJson(ran, 8)).toMatchObject({ code: "permission", details: { file } });
      }
      if (isRoot) expect(pictureOf(at(""))).toEqual(before);
    },
  );
});

describe.each(eachOf(({ outputs }) => outputs))("%s, %s", (name, _, output) => {
  test("refuses to replace a FIFO, and does not hang", async () => {
    const argv = output.argv(at, at("fifo"));
    const before = pictureOf(at(""));
    const ran = await runBeforeFifo(name, argv);
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
      const ran = await runAsNobody(name, argv);
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

  const stays = COMMAND_NAMES.filter((name) => COMMAND_ROWS[name]?.stays);
  test.each([...new Set([...stays, ...sampleOf(COMMAND_NAMES, 4)])])(
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
      const asNobody: StartOptions = isRoot ? { uid: NOBODY } : {};
      const options = { ...asNobody, env: { HOME: at("home"), NODE_COMPILE_CACHE: "" } };
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
