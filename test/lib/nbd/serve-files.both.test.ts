/**
 * Proves what a server does when other programs cut short, remove or replace the files that it serves: errors instead of
 * zeros, a word on each, and an end that says so.
 */
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { check, convert } from "../../../src/lib/index.ts";
import { CMD, ERR, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const KIB = 1024;
const SIZE = 256 * KIB;
const BLOCK_200 = 200 * KIB;

const at = scratchDirectory();
let server: TestServer | undefined;
let count = 0;

afterEach(async () => {
  await server?.stop().catch(() => undefined);
  server = undefined;
});

interface Served {
  readonly base: string;
  readonly cow: string;
  readonly session: RawSession;
}

/** Serves a cowfile over noise; `more` are layers below it. */
async function serveNoise(more: readonly string[] = []): Promise<Served> {
  const [base, cow] = [at(`${count}.img`), at(`${count++}.cow`)];
  if (!existsSync(base)) makeImage(base, noise(SIZE, 7));
  await makeCowfile([base, ...more].join(","), cow);
  server = await startServing(at, [base, ...more, cow]);
  return { base, cow, session: await RawSession.open(server.socket, "structured") };
}

async function errorOf(session: RawSession, offset: number, length: number): Promise<number> {
  return (await session.ask({ type: CMD.READ, offset, length })).error;
}

/** What the server threw at its end. */
async function endOf(): Promise<string> {
  const ending = server?.stop();
  server = undefined;
  return ending === undefined
    ? ""
    : ending.then(
        () => "ended well",
        (error: Error) => error.message,
      );
}

async function isSound(cowfile: string): Promise<boolean> {
  return [...(await check(cowfile, {}, {})).problems].length === 0;
}

async function told(part: string): Promise<void> {
  for (let i = 0; i < 40 && !server?.notices.some((text) => text.includes(part)); i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  expect(server?.notices.filter((text) => text.includes(part))).toHaveLength(1);
}

describe("a base that is cut short while it is served", () => {
  test("is an I/O error for small and large reads, and a write of a part of a block copies no zeros", async () => {
    const { base, cow, session } = await serveNoise();
    copyFileSync(base, `${base}.kept`);
    truncateSync(base, 100 * KIB + 7);
    expect(await errorOf(session, BLOCK_200, 512)).toBe(ERR.EIO);
    expect(await errorOf(session, 100 * KIB, 64 * KIB)).toBe(ERR.EIO);
    const part = { type: CMD.WRITE, offset: BLOCK_200 + 1, length: 10, payload: Buffer.alloc(10, 1) };
    expect((await session.ask(part)).error).toBe(ERR.EIO);
    await session.write(BLOCK_200, Buffer.alloc(KIB, 5));
    await told("was cut short by another program");
    await session.goodbye();
    expect(await endOf()).toBe("ended well");
    copyFileSync(`${base}.kept`, base);
    await convert(`${base},${cow}`, at("view.img"), { to: "raw", force: true }, {});
    const expected = Buffer.from(noise(SIZE, 7)).fill(5, BLOCK_200, BLOCK_200 + KIB);
    expect(readFileSync(at("view.img")).equals(expected)).toBe(true);
  });

  test("stays an error when it has grown back, as nothing tells what is in it", async () => {
    const { base, session } = await serveNoise();
    truncateSync(base, 100 * KIB);
    expect(await errorOf(session, BLOCK_200, 512)).toBe(ERR.EIO);
    truncateSync(base, SIZE);
    expect(await errorOf(session, BLOCK_200, 512)).toBe(ERR.EIO);
    await session.goodbye();
  });
});

test("a layer that is cut short while it is served is an I/O error, and no hole", async () => {
  const base = at(`${count}.img`);
  makeImage(base, noise(SIZE, 7));
  const [full, layer] = [at("full.img"), at("layer.cow")];
  makeImage(full, noise(SIZE, 8));
  await makeCowfile(base, layer);
  server = await startServing(at, [base, layer]);
  const filling = await RawSession.open(server.socket, "structured");
  await filling.write(0, noise(SIZE, 8));
  await filling.goodbye();
  await server.stop();
  const { session } = await serveNoise([layer]);
  truncateSync(layer, 150 * KIB);
  expect(await errorOf(session, BLOCK_200, 64)).toBe(ERR.EIO);
  expect(await errorOf(session, 140 * KIB, 64 * KIB)).toBe(ERR.EIO);
  await session.goodbye();
});

describe("a cowfile that is being written and", () => {
  test("is cut short is neither read nor written any more, nor marked clean", async () => {
    const { cow, session } = await serveNoise();
    await session.write(0, noise(SIZE, 9));
    truncateSync(cow, 150 * KIB);
    expect(await errorOf(session, BLOCK_200, 64 * KIB - 9 * KIB)).toBe(ERR.EIO);
    // It would make the file longer, with zeros where there was data.
    const again = { type: CMD.WRITE, offset: SIZE - KIB, length: KIB, payload: Buffer.alloc(KIB) };
    expect((await session.ask(again)).error).toBe(ERR.EIO);
    expect((await session.ask({ type: CMD.FLUSH })).error).toBe(ERR.EIO);
    await session.goodbye();
    // The flush that failed is what the end tells; that the file was cut was said when it was found.
    expect(await endOf()).toMatch(/was cut short by another program|an earlier write or fsync failed/);
    expect(await isSound(cow)).toBe(false);
  });

  test("is removed: said at once with the way to save it, and no good end", async () => {
    const { cow, session } = await serveNoise();
    await session.write(0, noise(KIB, 9));
    rmSync(cow);
    await told(
      `was removed while it is served: what clients write is lost when the server ends, unless you copy /proc/`,
    );
    const saved = /copy (\S+) before/.exec(server?.notices.join("\n") ?? "")?.[1] ?? "";
    expect(readFileSync(saved).includes(Buffer.from(noise(KIB, 9)))).toBe(true);
    await session.goodbye();
    expect(await endOf()).toBe("was removed while it was served: what clients wrote is lost");
  });

  test("is moved away, or another file takes its place: said, and no good end", async () => {
    const { cow, session } = await serveNoise();
    await session.write(0, noise(KIB, 9));
    renameSync(cow, `${cow}.moved`);
    writeFileSync(cow, "another");
    await session.goodbye();
    expect(await endOf()).toContain("was moved or replaced while it was served");
    expect(readFileSync(cow, "utf8")).toBe("another");
    expect(await isSound(`${cow}.moved`)).toBe(true);
  });

  test("loses its journal: said, and no good end, although all of it is in the cowfile", async () => {
    const { cow, session } = await serveNoise();
    await session.write(0, noise(KIB, 9));
    rmSync(`${cow}.cowtool-live`);
    await told("was removed or replaced by another program");
    await session.goodbye();
    expect(await endOf()).toContain("the cowfile itself is complete");
    expect(await isSound(cow)).toBe(true);
  });
});

test("a cowfile that a killed server left is served with all that was answered, and nothing is written", async () => {
  const { base, cow, session } = await serveNoise();
  const left = at("left.cow");
  await session.write(KIB + 100, noise(5000, 9));
  // As kill -9 would leave them.
  copyFileSync(cow, left);
  copyFileSync(`${cow}.cowtool-live`, `${left}.cowtool-live`);
  await session.goodbye();
  await server?.stop();
  const [files, bytes] = [readdirSync(at(".")), readFileSync(left)];
  const expected = Buffer.from(noise(SIZE, 7));
  expected.set(noise(5000, 9), KIB + 100);
  for (const how of [{ readOnly: true }, { ephemeral: true }]) {
    server = await startServing(at, [base, left], { ...how, socket: at("left.s") });
    expect(server.ready.exports[0]?.found).toBe("recovered");
    const reader = await RawSession.open(server.socket, "structured");
    expect((await reader.read(0, SIZE)).equals(expected)).toBe(true);
    await reader.goodbye();
    await server.stop();
  }
  expect([readdirSync(at(".")), readFileSync(left).equals(bytes)]).toEqual([files, true]);
});
