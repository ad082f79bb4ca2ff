/**
 * Proves what `cowtool serve` does on a disk that is full, or that is to keep a reserve: new blocks get ENOSPC, and are
 * not lost by half; reads, and writes to blocks that are there, go on; so does everything once there is room; and the
 * server ends in order. On real file systems that are really full: a small tmpfs, and a small ext4 on a loop device, where
 * space is promised before it is given out. For both one has to be root.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { skipsLoudly } from "../support/command/real-process.ts";
import { contentOf, expectClean } from "../support/nbd/left-behind.ts";
import { serveProgram } from "../support/nbd/program.ts";
import { CMD, ERR, RawSession } from "../support/nbd/raw-session.ts";
import { makeCowfile, makeImage } from "../support/nbd/test-server.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const KIB = 1024;
const MIB = 1 << 20;
const DISK_MIB = 12;
const SIZE = 24 * MIB;
const RESERVE = 4 * MIB;
/** Odd, so that most writes begin and end inside a block. */
const PIECE = 100_001;

const at = scratchDirectory();
const disk = at("disk");
const on = (name: string): string => join(disk, name);
mkdirSync(disk);

interface Disk {
  readonly name: string;
  /** @returns whether it could be mounted */
  readonly mount: () => boolean;
}

function mount(...args: readonly string[]): boolean {
  return spawnSync("mount", [...args, disk], { stdio: "ignore" }).status === 0;
}

const DISKS: readonly Disk[] = [
  { name: "tmpfs", mount: () => mount("-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs") },
  {
    name: "ext4 on a loop device",
    mount: () => {
      // Its own journal and tables take some of it.
      makeImage(at("ext4.img"), new Uint8Array(0), (DISK_MIB + 4) * MIB);
      const made = spawnSync("mkfs.ext4", ["-q", "-F", "-m", "0", "-b", "4096", at("ext4.img")], { stdio: "ignore" });
      return made.status === 0 && mount("-o", "loop", at("ext4.img"));
    },
  },
];

/** Each is tried once, and let go of. */
const there = DISKS.filter((each) => each.mount() && spawnSync("umount", [disk]).status === 0);
for (const { name } of DISKS.filter((each) => !there.includes(each)))
  skipsLoudly(true, `serve on a full disk: a small ${name} can be mounted by root only`);

makeImage(at("base.img"), noise(MIB, 1), SIZE);

async function emptyDisk(): Promise<void> {
  for (const name of readdirSync(disk)) rmSync(on(name), { recursive: true });
  await makeCowfile(at("base.img"), on("vm.cow"));
}

function freeBytes(): number {
  const { bavail, bsize } = statfsSync(disk);
  return bavail * bsize;
}

/** Writes pieces one after the other until there is no room; returns where that was. */
async function fill(session: RawSession, model: Buffer): Promise<number> {
  for (let offset = 0; offset + PIECE <= SIZE; offset += PIECE) {
    const payload = noise(PIECE, offset);
    const { error } = await session.ask({ type: CMD.WRITE, offset, payload });
    if (error === 0) {
      model.set(payload, offset);
      continue;
    }
    expect(error).toBe(ERR.ENOSPC);
    return offset;
  }
  throw new Error("the disk was never full");
}

async function expectDisk(session: RawSession, model: Buffer, except: number): Promise<void> {
  for (let offset = 0; offset < SIZE; offset += 4 * MIB) {
    const got = await session.read(offset, 4 * MIB);
    // A write that was refused may have been done in part.
    for (let i = Math.max(0, except - offset); i < Math.min(got.length, except + PIECE - offset); i++)
      model[offset + i] = got[i] ?? 0;
    expect(Buffer.compare(got, model.subarray(offset, offset + got.length)), `from ${offset}`).toBe(0);
  }
}

const WAYS = [
  ["with a reserve", ["--reserve", "4M"], {}, RESERVE],
  ["without a reserve", [], {}, 0],
  ["with a reserve, without system calls", ["--reserve", "4M"], { COWTOOL_NO_FFI: "1" }, RESERVE],
] as const;

describe.skipIf(there.length === 0).each(there)("a small $name", (small) => {
  beforeAll(() => {
    expect(small.mount()).toBe(true);
  });
  afterAll(() => {
    execFileSync("umount", [disk]);
  });
  beforeEach(emptyDisk);

  test.each(WAYS)("%s: ENOSPC, and everything else goes on", async (_, flags, env, reserve) => {
    const room = freeBytes();
    const server = await serveProgram([at("base.img"), on("vm.cow"), "--socket", at("s"), ...flags], { env });
    const session = await RawSession.open(at("s"), "structured");
    const model = Buffer.concat([noise(MIB, 1), Buffer.alloc(SIZE - MIB)]);
    const refused = await fill(session, model);
    expect(refused).toBeGreaterThan(room - 2 * MIB - reserve - MIB);
    // The journal's room, and what is taken between two looks.
    if (reserve > 0) expect(freeBytes()).toBeGreaterThan(reserve - 2 * MIB);
    else expect(freeBytes()).toBeLessThan(MIB);

    // Reads, writes where blocks are, flushes, zeros and other connections go on.
    await expectDisk(session, model, refused);
    const again = noise(3 * PIECE, 99);
    await session.write(PIECE + 5, again, 1);
    model.set(again, PIECE + 5);
    expect((await session.ask({ type: CMD.FLUSH })).error).toBe(0);
    const other = await RawSession.open(at("s"), "extended");
    const { error } = await other.ask({ type: CMD.WRITE, offset: SIZE - 2 * PIECE, payload: noise(PIECE, 4) });
    expect(error).toBe(ERR.ENOSPC);
    await other.write(10 * KIB, noise(KIB, 5));
    model.set(noise(KIB, 5), 10 * KIB);
    expect(await other.goodbye()).toHaveLength(0);
    await expectDisk(session, model, refused);
    expect(await session.goodbye()).toHaveLength(0);

    const { status, stderr } = await server.stop();
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/^(?:cowtool: warning: [^\n]*vm\.cow: \d+ bytes are left on its file system\n)+$/);
    await expectClean(on("vm.cow"), at("base.img"));
    const got = await contentOf(at("base.img"), on("vm.cow"));
    got.set(model.subarray(refused, refused + PIECE), refused);
    expect(Buffer.compare(got, model)).toBe(0);
  });

  test("goes on where it was refused once there is room", async () => {
    writeFileSync(on("filler"), new Uint8Array(6 * MIB));
    const server = await serveProgram([at("base.img"), on("vm.cow"), "--socket", at("s"), "--reserve", "1M"]);
    const session = await RawSession.open(at("s"), "simple");
    const model = Buffer.concat([noise(MIB, 1), Buffer.alloc(SIZE - MIB)]);
    const refused = await fill(session, model);
    rmSync(on("filler"));
    const payload = noise(PIECE, 7);
    await session.write(refused, payload);
    model.set(payload, refused);
    await session.write(SIZE - PIECE, payload, 1);
    model.set(payload, SIZE - PIECE);
    await expectDisk(session, model, SIZE);
    expect(await session.goodbye()).toHaveLength(0);
    expect((await server.stop()).status).toBe(0);
    await expectClean(on("vm.cow"), at("base.img"));
  });

  test("that is full when the server is killed has everything that was answered", async () => {
    const argv = [at("base.img"), on("vm.cow"), "--socket", at("s")];
    writeFileSync(on("filler"), new Uint8Array(2 * MIB));
    const server = await serveProgram(argv);
    const session = await RawSession.open(at("s"), "simple");
    const model = Buffer.concat([noise(MIB, 1), Buffer.alloc(SIZE - MIB)]);
    const refused = await fill(session, model);
    await server.stop("SIGKILL");
    session.client.leave();
    // The next server needs a new journal beside the old one.
    const tight = await serveProgram(argv).catch((error: unknown) => error);
    if (tight instanceof Error) {
      expect(tight.message).toMatch(/ended with 8: .*(?:no space|space left).*--read-only serves it/s);
      const readOnly = await serveProgram([...argv, "--read-only"]);
      const early = await RawSession.open(at("s"), "simple");
      await expectDisk(early, model, refused);
      expect(await early.goodbye()).toHaveLength(0);
      expect((await readOnly.stop()).status).toBe(0);
    }
    const small = tight instanceof Error ? await roomier(argv) : (tight as Awaited<ReturnType<typeof serveProgram>>);
    const reader = await RawSession.open(at("s"), "simple");
    await expectDisk(reader, model, refused);
    expect(await reader.goodbye()).toHaveLength(0);
    expect((await small.stop()).status).toBe(0);
    await expectClean(on("vm.cow"), at("base.img"));
  });
});

/** The same once there is room. */
function roomier(argv: readonly string[]): ReturnType<typeof serveProgram> {
  rmSync(on("filler"));
  return serveProgram(argv);
}
