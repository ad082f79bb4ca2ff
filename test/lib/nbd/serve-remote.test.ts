/**
 * Proves what a server does with a base on another server that goes away: one that comes back is taken up again, also by a
 * thread that had met it while it was down; another image that comes back in its place never is.
 */
import { rmSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { skipsLoudly } from "../../support/command/real-process.ts";
import { CMD, ERR, RawSession } from "../../support/nbd/raw-session.ts";
import { hasProgram, type NbdServer, startNbdkit, uriOf } from "../../support/nbd/servers.ts";
import { makeCowfile, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const KIB = 1024;
const SIZE = 2048 * KIB;
const at = scratchDirectory();
const isWithoutNbdkit = skipsLoudly(!hasProgram("nbdkit"), "bases that are exchanged: there is no nbdkit");
let server: TestServer | undefined;
let upstream: NbdServer | undefined;

/** The same but for a few bytes in the middle, so that the fingerprint is the same, too. */
const ORIGINAL = Buffer.from(noise(SIZE, 1));
const OTHER = Buffer.from(ORIGINAL).fill(7, 1000 * KIB, 1000 * KIB + 100);

async function upstreamHas(image: Uint8Array): Promise<void> {
  await upstreamEnds();
  writeFileSync(at("up.img"), image);
  upstream = await startNbdkit(at("up"), ["file", at("up.img")]);
}

async function upstreamEnds(): Promise<void> {
  await upstream?.kill();
  rmSync(at("up"), { force: true });
  upstream = undefined;
}

afterEach(async () => {
  await server?.stop();
  server = undefined;
  await upstreamEnds();
});

async function serveOver(): Promise<string> {
  await upstreamHas(ORIGINAL);
  await makeCowfile(at("up.img"), at("vm.cow"));
  server = await startServing(at, [uriOf(at("up")), at("vm.cow")]);
  return server.socket;
}

async function errorOf(session: RawSession, offset: number): Promise<number> {
  return (await session.ask({ type: CMD.READ, offset, length: 512 })).error;
}

describe.skipIf(isWithoutNbdkit)("a base on another server that was away", () => {
  test("and is the same is read on, by each client", async () => {
    const socket = await serveOver();
    const session = await RawSession.open(socket, "structured");
    expect(await errorOf(session, 0)).toBe(0);
    await upstreamHas(ORIGINAL);
    expect((await session.read(1000 * KIB, 100)).equals(ORIGINAL.subarray(1000 * KIB, 1000 * KIB + 100))).toBe(true);
    await session.goodbye();
    expect(server?.notices).toEqual([]);
  });

  test("and is another image is an error for ever and for all, said once", async () => {
    const socket = await serveOver();
    const session = await RawSession.open(socket, "structured");
    expect(await errorOf(session, 0)).toBe(0);
    await upstreamHas(OTHER);
    expect(await errorOf(session, 1500 * KIB)).toBe(ERR.EIO);
    await upstreamHas(ORIGINAL);
    expect(await errorOf(session, 1500 * KIB)).toBe(ERR.EIO);
    const next = await RawSession.open(socket, "structured");
    await expect(
      errorOf(next, 0).then((error) => error === 0 || Promise.reject(new Error("refused"))),
    ).rejects.toThrow();
    session.client.leave();
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(server?.notices.filter((text) => text.includes("another image is there"))).toHaveLength(1);
  });

  test("when a thread met it is asked again for the next client", async () => {
    const socket = await serveOver();
    await upstreamEnds();
    const early = await RawSession.open(socket, "structured");
    await expect(errorOf(early, 0)).rejects.toThrow();
    await upstreamHas(ORIGINAL);
    const late = await RawSession.open(socket, "structured");
    expect((await late.read(1000 * KIB, 100)).equals(ORIGINAL.subarray(1000 * KIB, 1000 * KIB + 100))).toBe(true);
    await late.goodbye();
  });
});
