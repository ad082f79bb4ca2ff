/**
 * Proves what clients see of data that is sent from where it lies in memory: the same as of any other, while others write,
 * on threads of their own and on shared ones, and when a file turns out to be shorter than it was.
 */
import { closeSync, fdatasyncSync, openSync, readFileSync, truncateSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { FileMapping } from "../../../src/lib/device/sys/file-mapping.ts";
import { libc } from "../../../src/lib/device/sys/libc.ts";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { CMD, ERR, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise, random } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const KIB = 1024;
const SIZE = 4 * MIB;
const POSIX_FADV_DONTNEED = 4;
/** More than have a thread of their own. */
const CLIENTS = 14;

const at = scratchDirectory();
let server: TestServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

/** Serves an empty cowfile over noise, all of which is in the page cache. */
async function serveNoise(name: string): Promise<{ readonly socket: string; readonly image: Buffer }> {
  const image = Buffer.from(noise(SIZE, 9));
  makeImage(at(`${name}.img`), image);
  readFileSync(at(`${name}.img`));
  await makeCowfile(at(`${name}.img`), at(`${name}.cow`));
  server = await startServing(at, [at(`${name}.img`), at(`${name}.cow`)]);
  return { socket: server.socket, image };
}

describe.skipIf(!libc()).each(STYLES)("data sent from where it lies, %s replies", (style) => {
  test("is what was written last, however often it was read before", async () => {
    const { socket, image } = await serveNoise(`written-${style}`);
    const [reader, writer] = await Promise.all([RawSession.open(socket, style), RawSession.open(socket, style)]);
    const next = random(3);
    const base = openSync(at(`written-${style}.img`), "r+");
    fdatasyncSync(base);
    for (let round = 0; round < runs(20); round++) {
      // Some of it is in memory, and some is not.
      libc()?.posixFadvise(base, Math.floor(next() * SIZE), MIB, POSIX_FADV_DONTNEED);
      const asks = Array.from({ length: 40 }, () => {
        const length = 1 + Math.floor(next() * (next() < 0.9 ? 9000 : 3 * MIB));
        const flags = next() < 0.1 && style !== "simple" ? FLAG.DF : 0;
        return { type: CMD.READ, offset: Math.floor(next() * (SIZE - length)), length, flags };
      });
      const answers = await reader.all(...asks);
      for (const [i, answer] of answers.entries()) {
        const { offset = 0, length = 0 } = asks[i] ?? {};
        expect(succeed(answer).data.equals(image.subarray(offset, offset + length))).toBe(true);
      }
      const payload = noise(1 + Math.floor(next() * 20_000), round);
      const place = Math.floor(next() * (SIZE - payload.length));
      await writer.write(place, payload);
      image.set(payload, place);
    }
    closeSync(base);
    await Promise.all([reader.goodbye(), writer.goodbye()]);
  });

  test("is an error, and no end of the connection, where the base was cut short under the server, and said once", async () => {
    const { socket } = await serveNoise(`cut-${style}`);
    const session = await RawSession.open(socket, style);
    const places = Array.from({ length: 64 }, (_, i) => ({ type: CMD.READ, offset: i * 64 * KIB, length: 8 * KIB }));
    for (const answer of await session.all(...places)) succeed(answer);
    truncateSync(at(`cut-${style}.img`), MIB + 100);
    const errors = (await session.all(...places)).map(({ error }) => error);
    expect(new Set(errors.slice(16))).toEqual(new Set([ERR.EIO]));
    await session.write(2 * MIB, Buffer.alloc(KIB, "still there"));
    expect((await session.read(2 * MIB, 11)).toString()).toBe("still there");
    await session.goodbye();
    await server?.stop();
    const said = server?.notices.filter((text) => text.includes("was cut short by another program"));
    expect(said).toEqual([expect.stringContaining("ends at byte 1048676 (0x100064)")]);
  });

  test("has no zeros for the rest of the last page of a base that was cut short", async () => {
    const { socket } = await serveNoise(`page-${style}`);
    const session = await RawSession.open(socket, style);
    // Too large to be tried without waiting first, and up to the end of the page.
    const ask = {
      type: CMD.READ,
      offset: MIB + 4096 - 20_000,
      length: 20_000,
      flags: style === "simple" ? 0 : FLAG.DF,
    };
    succeed(await session.ask(ask));
    truncateSync(at(`page-${style}.img`), MIB + 100);
    expect((await session.ask(ask)).error).toBe(ERR.EIO);
    await session.goodbye();
  });

  test("reaches every one of many clients, also those that share a thread", async () => {
    const { socket, image } = await serveNoise(`many-${style}`);
    const sessions = await Promise.all(Array.from({ length: CLIENTS }, () => RawSession.open(socket, style)));
    await Promise.all(
      sessions.map(async (session, i) => {
        for (let k = 0; k < 50; k++) {
          const [offset, length] = [((i * 50 + k) * 12_345) % (SIZE - 20_000), 1000 + k * 300];
          expect((await session.read(offset, length)).equals(image.subarray(offset, offset + length))).toBe(true);
        }
        await session.goodbye();
      }),
    );
  });
});

describe.skipIf(!libc())("a mapping of a file", () => {
  test("tells of what is in the page cache, and of nothing else", () => {
    makeImage(at("cached"), noise(MIB, 1), MIB + 5000);
    const fd = openSync(at("cached"), "r+");
    // What is to be written cannot be dropped.
    fdatasyncSync(fd);
    libc()?.posixFadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    const mapping = FileMapping.map(fd, MIB + 5000);
    expect(mapping?.locate(0, 4096)).toBe(0);
    readFileSync(at("cached"));
    expect(mapping?.locate(0, 4096)).toBe(mapping?.passed.address);
    expect(mapping?.locate(MIB, 5000)).toBe((mapping?.passed.address ?? 0) + MIB);
    expect(mapping?.locate(MIB, 5001)).toBe(0);
    mapping?.close();
    closeSync(fd);
  });

  test("asks again after a disappointment, and gives up after many", () => {
    makeImage(at("doubtful"), noise(MIB, 1));
    const fd = openSync(at("doubtful"), "r");
    readFileSync(at("doubtful"));
    const mapping = FileMapping.map(fd, MIB);
    for (let i = 0; i < 16; i++) {
      expect(mapping?.locate(1000, 70_000)).toBe((mapping?.passed.address ?? 0) + 1000);
      mapping?.invalidate();
    }
    expect(mapping?.locate(1000, 70_000)).toBe(0);
    mapping?.close();
    closeSync(fd);
  });

  test("of a stack goes with it, as it would keep the files open", async () => {
    const mapped = (): readonly string[] =>
      readFileSync("/proc/self/maps", "utf8")
        .split("\n")
        .filter((line) => line.includes(at("gone")));
    const { socket } = await serveNoise("gone");
    const session = await RawSession.open(socket, "simple");
    await session.read(0, 4096);
    expect(mapped()).toHaveLength(2);
    await session.goodbye();
    await server?.stop();
    server = undefined;
    expect(mapped()).toEqual([]);
  });
});
