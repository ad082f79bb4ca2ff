/**
 * Proves what `cowtool serve` does where the system lets it go no further: files may not grow beyond a limit (RLIMIT_FSIZE,
 * whose signal must not kill it), the base's server is slow, or fails for a while. Full disks are serve-space's business.
 *
 * Two things of that kind cannot be had everywhere. Quotas need a kernel with a quota format, and reach us as EDQUOT, which
 * test/faults injects. A slow device for the cowfile needs device-mapper; test/faults has one that takes its time.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { create } from "../../src/lib/index.ts";
import { expectErrorLine } from "../support/command/harness.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";
import { contentOf, expectClean } from "../support/nbd/left-behind.ts";
import { serveProgram } from "../support/nbd/program.ts";
import { CMD, ERR, RawSession } from "../support/nbd/raw-session.ts";
import { hasProgram, startNbdkit, uriOf } from "../support/nbd/servers.ts";
import { makeCowfile, makeImage } from "../support/nbd/test-server.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 40 * MIB;
/** More than the journal's length, which is 16 MiB and a bit (most of it a hole), and no multiple of a block. */
const LIMIT = 24 * MIB + 700;
const PIECE = 100_001;

const at = scratchDirectory();
const data = noise(MIB, 1);
makeImage(at("base.img"), data, SIZE);
const isWithoutPrlimit = skipsLoudly(!hasProgram("prlimit"), "limits of file sizes: there is no prlimit");
const isWithoutNbdkit = skipsLoudly(!hasProgram("nbdkit"), "slow and failing bases: there is no nbdkit");

describe.skipIf(isWithoutPrlimit)("a limit of the size of files", () => {
  const limited = (bytes: number): readonly string[] => ["prlimit", `--fsize=${bytes}`];

  test.each([
    ["", {}],
    ["without system calls of its own", { COWTOOL_NO_FFI: "1" }],
  ])("is ENOSPC to clients, and not the end of the server %s", async (_, env) => {
    const cowfile = await makeCowfile(at("base.img"), at("vm.cow"));
    const argv = [at("base.img"), cowfile, "--socket", at("s")];
    const server = await serveProgram(argv, { env, through: limited(LIMIT) });
    const session = await RawSession.open(at("s"), "structured");
    const model = Buffer.concat([data, Buffer.alloc(SIZE - MIB)]);
    const write = async (offset: number, payload: Uint8Array): Promise<number> => {
      const { error } = await session.ask({ type: CMD.WRITE, offset, payload });
      if (error === 0) model.set(payload, offset);
      return error;
    };
    expect(await write(0, noise(PIECE, 2))).toBe(0);
    expect(await write(20 * MIB + 5, noise(PIECE, 3))).toBe(0);
    // Beyond it, across it (of which a part may be done), and for zeros, for which the file has to be longer, too.
    const across = 24 * MIB - 50_000;
    expect(await write(30 * MIB, noise(PIECE, 4))).toBe(ERR.ENOSPC);
    expect(await write(across, noise(PIECE, 5))).toBe(ERR.ENOSPC);
    const zeros = { type: CMD.WRITE_ZEROES, offset: SIZE - 5000, length: 5000, flags: 2 };
    expect((await session.ask(zeros)).error).toBe(ERR.ENOSPC);
    const seen = await session.read(across, PIECE);
    const partly = noise(PIECE, 5);
    expect(seen.findIndex((byte, i) => byte !== 0 && byte !== partly[i])).toBe(-1);
    model.set(seen, across);

    // It lives, reads, writes below the limit, makes things durable.
    expect(await write(10 * MIB + 1, noise(PIECE, 6))).toBe(0);
    expect((await session.ask({ type: CMD.FLUSH })).error).toBe(0);
    expect((await session.read(0, SIZE)).equals(model)).toBe(true);
    expect(await session.goodbye()).toHaveLength(0);
    const { status, signal, stderr } = await server.stop();
    expect([status, signal], stderr).toEqual([0, undefined]);
    await expectClean(cowfile, at("base.img"));
    expect((await contentOf(at("base.img"), cowfile)).equals(model)).toBe(true);

    const free = await serveProgram(argv);
    const again = await RawSession.open(at("s"), "simple");
    await again.write(30 * MIB, noise(PIECE, 4));
    model.set(noise(PIECE, 4), 30 * MIB);
    expect((await again.read(0, SIZE)).equals(model)).toBe(true);
    expect(await again.goodbye()).toHaveLength(0);
    expect((await free.stop()).status).toBe(0);
    await expectClean(cowfile, at("base.img"));
  });

  test("in which a killed server had everything that it answered", async () => {
    const cowfile = await makeCowfile(at("base.img"), at("killed.cow"));
    const argv = [at("base.img"), cowfile, "--socket", at("s")];
    const server = await serveProgram(argv, { through: limited(LIMIT) });
    const session = await RawSession.open(at("s"), "simple");
    const model = Buffer.concat([data, Buffer.alloc(SIZE - MIB)]);
    for (let offset = 15 * MIB; offset < 28 * MIB; offset += 2 * MIB) {
      const payload = noise(PIECE, offset);
      const { error } = await session.ask({ type: CMD.WRITE, offset, payload });
      // No piece comes near the limit.
      expect(error).toBe(offset < LIMIT ? 0 : ERR.ENOSPC);
      if (error === 0) model.set(payload, offset);
    }
    await server.stop("SIGKILL");
    session.client.leave();
    const next = await serveProgram(argv, { through: limited(LIMIT) });
    const reader = await RawSession.open(at("s"), "simple");
    expect((await reader.read(0, SIZE)).equals(model)).toBe(true);
    expect(await reader.goodbye()).toHaveLength(0);
    expect((await next.stop()).status).toBe(0);
    await expectClean(cowfile, at("base.img"));
  });

  test("too small for the journal: refused at the start, and nothing was changed", async () => {
    const cowfile = await makeCowfile(at("base.img"), at("small.cow"));
    const before = [readFileSync(cowfile), readdirSync(at("."))] as const;
    const argv = [at("base.img"), cowfile, "--socket", at("s2")];
    const error = await serveProgram(argv, { through: limited(MIB) }).catch((why: unknown) => why);
    expect(error).toMatchObject({
      message: expect.stringMatching(/ended with 8: .*small\.cow\.cowtool-live.*largest size/s),
    });
    expect([readFileSync(cowfile), readdirSync(at("."))]).toEqual(before);
  });

  test("offline commands stop with status 8, name the file, and leave nothing with its name", async () => {
    makeImage(at("other.img"), noise(3 * MIB, 8), SIZE);
    await create(at("base.img"), at("other.cow"), { from: at("other.img") }, {});
    const jobs: readonly (readonly [name: string, argv: readonly string[]])[] = [
      ["new.img", ["merge", at("base.img"), at("other.cow"), "-o", at("new.img")]],
      ["new.cow", ["create", at("base.img"), at("new.cow"), "--from", at("other.img")]],
      ["new.pack", ["pack", at("other.cow"), at("new.pack"), "--format", "plain"]],
    ];
    const before = readdirSync(at("."));
    for (const [name, argv] of jobs) {
      const line = [`--fsize=${MIB / 4 + 100}`, process.execPath, `${ROOT}/bin/run.js`, ...argv];
      const { status, signal, stderr, stdout } = spawnSync("prlimit", line, { encoding: "utf8" });
      expect(signal, name).toBeNull();
      const text = expectErrorLine({ status: status ?? undefined, stderr, stdout }, 8);
      expect(text).toContain(at(name));
      expect(existsSync(at(name))).toBe(false);
      expect(readdirSync(at(".")), name).toEqual(before);
    }
  });
});

test.skipIf(isWithoutPrlimit)("a limit of open files is the end of no client that has come in before", async () => {
  const through = ["prlimit", "--nofile=110"];
  const server = await serveProgram([at("base.img"), "--socket", at("s")], { through });
  const kept: RawSession[] = [];
  let refused = 0;
  for (let i = 0; i < 60; i++) {
    const session = await RawSession.open(at("s"), "simple").catch(() => undefined);
    if (!session) refused++;
    else kept.push(session);
  }
  expect([kept.length > 0, refused > 0]).toEqual([true, true]);
  for (const session of kept) expect((await session.read(1000, 100)).equals(data.subarray(1000, 1100))).toBe(true);
  for (const session of kept) await session.goodbye();
  const next = await RawSession.open(at("s"), "simple");
  expect(await next.goodbye()).toHaveLength(0);
  const { status, stderr } = await server.stop();
  // Told whenever it begins anew.
  expect([status, [...new Set(stderr.match(/too many open files/g))]], stderr).toEqual([0, ["too many open files"]]);
});

describe.skipIf(isWithoutNbdkit)("a base on another server", () => {
  const FILTERS = ["--filter=delay", "--filter=error", "file", at("base.img")];

  test("that is slow: everything is answered, and what the cowfile holds does not wait for it", async () => {
    const base = await startNbdkit(at("slow"), [...FILTERS, "rdelay=200ms"]);
    await makeCowfile(at("base.img"), at("slow.cow"));
    const server = await serveProgram([uriOf(base.socket), at("slow.cow"), "--socket", at("s")]);
    const session = await RawSession.open(at("s"), "structured");
    const other = await RawSession.open(at("s"), "simple");
    const whole = noise(64 * 1024, 9);
    await session.write(8 * MIB, whole);
    const model = Buffer.concat([data, Buffer.alloc(SIZE - MIB)]);
    model.set(whole, 8 * MIB);
    // Copied up from there, on one connection, while another one reads what is here.
    const order: string[] = [];
    const slow = session.write(500_001, noise(5000, 10)).then(() => order.push("slow"));
    model.set(noise(5000, 10), 500_001);
    expect(Buffer.compare(await other.read(8 * MIB, whole.length), whole)).toBe(0);
    order.push("here");
    await slow;
    expect(order).toEqual(["here", "slow"]);
    for (const offset of [0, 499_000, 8 * MIB - 10])
      expect((await session.read(offset, 9000)).equals(model.subarray(offset, offset + 9000)), `${offset}`).toBe(true);
    for (const each of [session, other]) expect(await each.goodbye()).toHaveLength(0);
    expect((await server.stop()).status).toBe(0);
    await expectClean(at("slow.cow"), at("base.img"));
    await base.kill();
  });

  test("that fails for a while: EIO for what is there, everything else goes on, and so does that afterwards", async () => {
    const base = await startNbdkit(at("sick"), [
      ...FILTERS,
      "error-pread=EIO",
      "error-pread-rate=100%",
      `error-pread-file=${at("sick-now")}`,
    ]);
    await makeCowfile(at("base.img"), at("sick.cow"));
    const server = await serveProgram([uriOf(base.socket), at("sick.cow"), "--socket", at("s")]);
    const session = await RawSession.open(at("s"), "structured");
    const whole = noise(64 * 1024, 11);
    await session.write(512 * 1024, whole);
    writeFileSync(at("sick-now"), "");
    // Far from what may have been read ahead.
    const place = 900 * 1024;
    expect((await session.ask({ type: CMD.READ, offset: place, length: 2048 })).error).toBe(ERR.EIO);
    const part = { type: CMD.WRITE, offset: place + 4096 + 10, payload: noise(20, 12) };
    expect((await session.ask(part)).error).toBe(ERR.EIO);
    expect(Buffer.compare(await session.read(512 * 1024, whole.length), whole)).toBe(0);
    await session.write(3 * MIB, noise(4096, 13));
    expect((await session.ask({ type: CMD.FLUSH })).error).toBe(0);
    rmSync(at("sick-now"));
    expect(Buffer.compare(await session.read(place, 2048), data.subarray(place, place + 2048))).toBe(0);
    await session.write(part.offset, part.payload);
    const around = Buffer.from(data.subarray(place + 4096, place + 5120));
    around.set(part.payload, 10);
    expect(Buffer.compare(await session.read(place + 4096, 1024), around)).toBe(0);
    expect(await session.goodbye()).toHaveLength(0);
    expect((await server.stop()).status).toBe(0);
    await expectClean(at("sick.cow"), at("base.img"));
    await base.kill();
  });
});
