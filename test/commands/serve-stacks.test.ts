/**
 * Proves which stacks `cowtool serve` takes and which it refuses, and whom it keeps off while it serves: bases, cowfiles
 * that others have or left dirty, packs, export names of every kind, throw-away layers, and reading only.
 */
import { copyFileSync, mkdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { check, nodeStorage } from "../../src/lib/index.ts";
import { parseNbdUri } from "../../src/lib/protocol/uri.ts";
import { pictureOf } from "../support/command/files.ts";
import { expectErrorLine, expectJson, type Ran, run } from "../support/command/harness.ts";
import { finish } from "../support/command/real-process.ts";
import { contentOf, expectClean } from "../support/nbd/left-behind.ts";
import { serveProgram } from "../support/nbd/program.ts";
import { CMD, ERR, RawSession } from "../support/nbd/raw-session.ts";
import { serveRefusal } from "../support/nbd/refusal.ts";
import { makeCowfile, makeImage } from "../support/nbd/test-server.ts";
import { noise } from "../support/random.ts";
import { readAt, scratchDirectory } from "../support/scratch.ts";

const KIB = 1024;
const MIB = 1 << 20;
/** The base ends with half a block. */
const TAIL = 500;
const SIZE = 2 * MIB + TAIL;

const at = scratchDirectory();
const socket = at("s");
/** Without system calls it has to be a process of its own. */
const BOTH_WAYS = [
  ["with system calls", undefined],
  ["without", { COWTOOL_NO_FFI: "1" }],
] as const;

mkdirSync(at("masters"));
/** vm.cow holds 5000 bytes at 100 KiB, other.cow nothing; both are over base.img. */
beforeAll(async () => {
  makeImage(at("base.img"), noise(SIZE, 1));
  makeImage(at("wrong.img"), noise(SIZE, 2));
  await makeCowfile(at("base.img"), at("masters/other.cow"));
  await makeCowfile(at("base.img"), at("masters/vm.cow"));
  const server = await serveProgram([at("base.img"), at("masters/vm.cow"), "--socket", socket]);
  await using_(async (session) => session.write(100 * KIB, noise(5000, 3)));
  expect((await server.stop()).status).toBe(0);
});

beforeEach(() => {
  for (const name of ["vm.cow", "other.cow"]) copyFileSync(at(`masters/${name}`), at(name));
});

/** One client's work, from hello to goodbye. */
async function using_(work: (session: RawSession) => Promise<void>, name = ""): Promise<void> {
  const session = await RawSession.open(socket, "structured", { name });
  await work(session);
  expect(await session.goodbye()).toHaveLength(0);
}

/** What vm.cow makes of the base. */
async function expectVm(session: RawSession): Promise<void> {
  const wanted = Buffer.from(noise(SIZE, 1));
  wanted.set(noise(5000, 3), 100 * KIB);
  expect((await session.read(90 * KIB, 30 * KIB)).equals(wanted.subarray(90 * KIB, 120 * KIB))).toBe(true);
}

function refusal(argv: readonly string[], status: number, env?: Readonly<Record<string, string>>): Promise<string> {
  return serveRefusal([...argv, "--socket", at("never")], status, env);
}

describe("while a stack is served", () => {
  test.each(BOTH_WAYS)("nobody else writes its cowfile or its base; %s", async (_, env) => {
    const server = await serveProgram([at("base.img"), at("vm.cow"), "--socket", socket]);
    const holder = new RegExp(`locked by pid ${server.pid}.*serve`);
    const other = (name: string, ...argv: string[]): Promise<Ran> =>
      env ? finish([name, ...argv], { env }) : run(name, argv);
    const second = await refusal([at("base.img"), at("vm.cow")], 8, env);
    expect(second).toMatch(holder);
    expect(second).toMatch(/^locked: .*vm\.cow/);
    expect(await refusal([at("base.img"), at("vm.cow"), "--read-only"], 8, env)).toMatch(holder);
    for (const cowfile of ["vm.cow", "other.cow"]) {
      expect(expectErrorLine(await other("merge", at("base.img"), at(cowfile), "-y"), 8)).toMatch(holder);
    }
    expectErrorLine(await other("repair", "-f", at("vm.cow")), 8);
    // Others may read the base, and have cowfiles of their own over it.
    const neighbour = await serveProgram([at("base.img"), at("other.cow"), "--socket", at("s2")], { env: env ?? {} });
    expect((await neighbour.stop()).status).toBe(0);
    await using_(expectVm);
    expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
    expect(Buffer.from(readFileSync(at("base.img"))).equals(noise(SIZE, 1))).toBe(true);
  });

  test("a server without system calls keeps others off, too", async () => {
    const env = { COWTOOL_NO_FFI: "1" };
    const server = await serveProgram([at("base.img"), at("vm.cow"), "--socket", socket], { env });
    const merge = ["merge", at("base.img"), at("other.cow"), "-y"] as const;
    const holder = new RegExp(`locked by pid ${server.pid}`);
    expect(await refusal([at("base.img"), at("vm.cow")], 8)).toMatch(/^locked: /);
    expect(expectErrorLine(await run(merge[0], merge.slice(1)), 8)).toMatch(holder);
    // Neither of them has system calls.
    expect(expectErrorLine(await finish(merge, { env }), 8)).toMatch(holder);
    await server.stop();
  });

  test("two may serve it for reading", async () => {
    const first = await serveProgram([at("base.img"), at("vm.cow"), "--read-only", "--socket", socket]);
    const second = await serveProgram([at("base.img"), at("vm.cow"), "--ephemeral", "--socket", at("s2")]);
    expect(await refusal([at("base.img"), at("vm.cow")], 8)).toMatch(/^locked: /);
    await using_(expectVm);
    expect([(await first.stop()).status, (await second.stop()).status]).toEqual([0, 0]);
  });
});

describe("exports", () => {
  test("of one name are refused", async () => {
    const twice = ["--export", `a=${at("base.img")}`, "--export", `a=${at("wrong.img")}`];
    expect(await refusal(twice, 16)).toMatch(/^usage: .*"a"/);
    expect(await refusal([at("base.img"), "--export", `=${at("base.img")}`], 16)).toMatch(/^usage: /);
  });

  test.each(BOTH_WAYS)("that write one cowfile are refused, under whatever name; %s", async (_, env) => {
    const link = env ? "link-without" : "link-with";
    symlinkSync("vm.cow", at(link));
    const one = ["--export", `a=${at("base.img")},${at("vm.cow")}`];
    for (const name of ["vm.cow", link]) {
      const twice = [...one, "--export", `b=${at("base.img")},${at(name)}`];
      expect(await refusal(twice, 8, env)).toMatch(/^locked: /);
    }
    const below = [...one, "--export", `b=${at("base.img")},${at("vm.cow")},${at("other.cow")}`];
    expect(await refusal(below, 8, env)).toMatch(/^locked: /);
    for (const name of ["vm.cow", "other.cow"]) expect((await check(at(name), {}, {})).state).toBe("clean");
  });

  test("may have any name", async () => {
    const names = [
      "a b",
      "ü/磁気 🧲",
      "%41",
      "x&socket:y?z#",
      '"quoted"',
      "two\nlines",
      "\u001b[31mred",
      "n".repeat(4000),
      "a,b\\,c",
      "..",
    ];
    const exports = names.flatMap((name) => ["--export", `${name}=${at("base.img")}`]);
    const server = await serveProgram([...exports, "--socket", socket]);
    const lines = server.said().trimEnd().split("\n");
    expect(lines).toHaveLength(names.length);
    expect(server.said()).toMatch(/^[\x21-\x7e\n]*$/);
    expect(lines.map((line) => parseNbdUri(line).exportName)).toEqual(names);
    for (const name of names)
      await using_(async (session) => {
        expect((await session.read(5, 100)).equals(noise(SIZE, 1).subarray(5, 105))).toBe(true);
      }, name);
    await server.stop();
  });

  test("may not have a name that no client could say", async () => {
    expect(await refusal(["--export", `${"n".repeat(4097)}=${at("base.img")}`], 16)).toMatch(/^usage: /);
    expect(await refusal(["--export", at("base.img")], 16)).toMatch(/^usage: .*NAME=STACK/);
    expect(await refusal([], 16)).toMatch(/^usage: /);
  });

  test("of which one cannot be opened are all refused, and nothing is left open or dirty", async () => {
    const argv = [
      "--export",
      `a=${at("base.img")},${at("vm.cow")}`,
      "--export",
      `b=${at("base.img")},${at("none.cow")}`,
    ];
    expect(await refusal(argv, 8)).toMatch(/^not-found: .*none\.cow/);
    expect((await check(at("vm.cow"), {}, {})).state).toBe("clean");
    expect(pictureOf(at("."))).not.toHaveProperty("vm.cow.cowtool-live");
  });
});

describe("a cowfile", () => {
  test("of another base is refused", async () => {
    expect(await refusal([at("wrong.img"), at("vm.cow")], 4)).toMatch(/^wrong-base: .*fingerprint/);
    makeImage(at("short.img"), noise(MIB, 1));
    expect(await refusal([at("short.img"), at("vm.cow")], 4)).toMatch(/^wrong-base: /);
    expect(await refusal([at("base.img"), at("vm.cow"), at("vm.cow")], 8)).toMatch(/^(?:locked|usage): /);
  });

  /** A file as the driver leaves it when the machine goes down: dirty, with a block that its bitmap does not have. */
  async function makeDirty(): Promise<void> {
    const device = nodeStorage.open(at("vm.cow"), { writable: true, lock: "exclusive" });
    const { data_offset } = expectJson((await run("info", [at("other.cow"), "--json"])).stdout, "info");
    device.write(noise(KIB, 9), Number(data_offset) + 700 * KIB);
    device.write(Uint8Array.of(1), 6);
    device.close();
  }

  test("that another program left dirty is refused, and served with --repair", async () => {
    await makeDirty();
    const before = readFileSync(at("vm.cow"));
    const line = await refusal([at("base.img"), at("vm.cow")], 4);
    expect(line).toMatch(/^dirty: /);
    expect(readFileSync(at("vm.cow")).equals(before)).toBe(true);
    const server = await serveProgram([at("base.img"), at("vm.cow"), "--repair", "--socket", socket]);
    await using_(async (session) => {
      await expectVm(session);
      expect((await session.read(700 * KIB, KIB)).equals(noise(KIB, 9))).toBe(true);
      await session.write(1, noise(10, 1));
    });
    expect((await server.stop()).status).toBe(0);
    await expectClean(at("vm.cow"), at("base.img"));
  });

  test("that is packed is served below another one, not written", async () => {
    for (const format of ["zstd", "gzip"]) {
      expect((await run("pack", [at("vm.cow"), at(format), "--format", format])).status).toBe(0);
      expect(await refusal([at("base.img"), at(format)], 4)).toMatch(/^packed: /);
      const top = await makeCowfile(`${at("base.img")},${at(format)}`, at(`${format}.top`));
      const server = await serveProgram([at("base.img"), at(format), top, "--socket", socket]);
      await using_(async (session) => {
        await expectVm(session);
        await session.write(102 * KIB + 1, noise(100, 5));
        const wanted = Buffer.from(noise(5000, 3));
        wanted.set(noise(100, 5), 2 * KIB + 1);
        expect((await session.read(100 * KIB, 5000)).equals(wanted)).toBe(true);
      });
      expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
      const got = await contentOf(at("base.img"), at(format), top);
      expect(new Uint8Array(got.subarray(102 * KIB + 1, 102 * KIB + 101))).toEqual(noise(100, 5));
    }
  });

  test("that is packed can be read at the top, and written through a throw-away layer", async () => {
    expect((await run("pack", [at("vm.cow"), at("pack"), "-f"])).status).toBe(0);
    const reader = await serveProgram([at("base.img"), at("pack"), "--read-only", "--socket", socket]);
    await using_(expectVm);
    await reader.stop();
    const writer = await serveProgram([at("base.img"), at("pack"), "--ephemeral", "--socket", socket]);
    await using_(async (session) => {
      await expectVm(session);
      await session.write(0, noise(2000, 4));
      expect((await session.read(0, 2000)).equals(noise(2000, 4))).toBe(true);
    });
    await writer.stop();
  });
});

describe("--read-only and --ephemeral", () => {
  const READ_ONLY_FLAG = 2;

  test.each([
    ["--read-only", () => [at("base.img"), at("vm.cow"), "--read-only"]],
    ["a base alone", () => [at("base.img")]],
  ])("%s lets nobody write, and changes nothing", async (_, argv) => {
    const before = pictureOf(at("masters/.."));
    const server = await serveProgram([...argv(), "--socket", socket]);
    await using_(async (session) => {
      expect(session.terms.flags & READ_ONLY_FLAG).toBe(READ_ONLY_FLAG);
      const changes = [
        { type: CMD.WRITE, payload: noise(512, 1) },
        { type: CMD.WRITE_ZEROES, length: 512 },
        { type: CMD.TRIM, length: 512 },
      ];
      for (const { error } of await session.all(...changes)) expect(error).toBe(ERR.EPERM);
      expect((await session.ask({ type: CMD.FLUSH })).error).toBe(0);
      expect((await session.read(0, 512)).equals(noise(SIZE, 1).subarray(0, 512))).toBe(true);
    });
    expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
    expect(pictureOf(at("masters/.."))).toEqual(before);
  });

  test("--ephemeral over a base shows all of it, takes writes everywhere, and leaves no trace", async () => {
    const before = pictureOf(at("."));
    const server = await serveProgram([at("base.img"), "--ephemeral", "--socket", socket]);
    await using_(async (session) => {
      expect(session.terms.sizeBytes).toBe(BigInt(SIZE));
      expect(session.terms.flags & READ_ONLY_FLAG).toBe(0);
      expect((await session.read(0, SIZE)).equals(noise(SIZE, 1))).toBe(true);
      expect((await session.read(SIZE - TAIL, TAIL)).equals(readAt(at("base.img"), SIZE - TAIL, TAIL))).toBe(true);
      await session.write(SIZE - 300, noise(300, 7));
      await session.write(70 * KIB + 7, noise(3 * KIB, 8), 1);
      expect((await session.ask({ type: CMD.WRITE, offset: SIZE - 10, payload: noise(11, 1) })).error).toBe(ERR.ENOSPC);
    });
    // What one client wrote is there for the next one.
    await using_(async (session) => {
      const wanted = Buffer.from(noise(SIZE, 1));
      wanted.set(noise(300, 7), SIZE - 300);
      wanted.set(noise(3 * KIB, 8), 70 * KIB + 7);
      expect((await session.read(0, SIZE)).equals(wanted)).toBe(true);
    });
    const { s: _, ...during } = pictureOf(at("."));
    expect(during).toEqual(before);
    expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
    expect(pictureOf(at("."))).toEqual(before);
  });

  test("--ephemeral over a cowfile leaves it as it was, also when it is killed", async () => {
    const before = readFileSync(at("vm.cow"));
    const server = await serveProgram([at("base.img"), at("vm.cow"), "--ephemeral", "--socket", socket]);
    await using_(async (session) => {
      await expectVm(session);
      await session.write(0, noise(MIB, 4));
      expect((await session.ask({ type: CMD.FLUSH })).error).toBe(0);
    });
    await server.stop("SIGKILL");
    expect(readFileSync(at("vm.cow")).equals(before)).toBe(true);
    expect(statSync(at("base.img")).size).toBe(SIZE);
    expect(await refusal([at("base.img"), at("vm.cow"), "--ephemeral", "--read-only"], 16)).toMatch(/^usage: /);
  });

  test("a writable cowfile shows the whole blocks of its base, and its ready object says so", async () => {
    const server = await serveProgram([at("base.img"), at("vm.cow"), "--socket", socket, "--json"]);
    const ready = expectJson(server.said(), "serve");
    expect(ready).toMatchObject({ exports: [{ virtual_size: 2 * MIB, access: "writable", found: "clean" }] });
    await using_(async (session) => expect(session.terms.sizeBytes).toBe(BigInt(2 * MIB)));
    await server.stop();
  });
});
