/**
 * Proves that a server cannot make the client hang, grow or believe nonsense: each of the fakes ends in an error with
 * words, in bounded time.
 */
import { afterAll, describe, expect, test } from "vitest";
import { NbdClient } from "../../../../src/lib/device/remote/client.ts";
import { ConnectionLost } from "../../../../src/lib/device/remote/failures.ts";
import { RemoteDevice } from "../../../../src/lib/device/remote/remote-device.ts";
import { CowError } from "../../../../src/lib/errors.ts";
import { parseNbdUri } from "../../../../src/lib/protocol/uri.ts";
import { startFake, startFakeThread } from "../../../support/nbd/fake-nbd-server.ts";
import { BROKEN, type FakeName } from "../../../support/nbd/fakes.ts";
import { uriOf } from "../../../support/nbd/servers.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

const LIMITS = { handshakeMs: 500, silenceMs: 400, reconnectMs: 300 };
/** A test that is not done by then has been made to hang; a machine under load may take most of it. */
const HANGS = { timeout: 20_000 };
const scratch = scratchDirectory();
const clients: NbdClient[] = [];
let count = 0;

afterAll(() => Promise.all(clients.map((client) => client.disconnect())));

async function fake(name: FakeName): Promise<string> {
  const socket = scratch(`${count++}.sock`);
  await startFake(socket, name);
  return uriOf(socket);
}

async function connect(uri: string): Promise<NbdClient> {
  const client = await NbdClient.connect(parseNbdUri(uri), { name: uri, ...LIMITS });
  clients.push(client);
  return client;
}

/** The error that work ends in. */
async function failureOf(work: () => Promise<unknown>): Promise<CowError | ConnectionLost> {
  const failure = await work().then(
    () => undefined,
    (error: unknown) => error,
  );
  if (failure instanceof CowError || failure instanceof ConnectionLost) return failure;
  throw new Error("it did not fail as it should", { cause: failure });
}

describe("a server that breaks", HANGS, () => {
  test.each(BROKEN.handshakes)("the handshake: %s", async (name) => {
    const uri = await fake(name);
    const tls = name === "plain bytes before TLS";
    const failure = await failureOf(() => connect(tls ? `${uri.replace("nbd+", "nbds+")}&tls-verify-peer=0` : uri));
    expect(failure.message).not.toBe("");
    if (failure instanceof CowError) expect(failure.file).toContain("nbd");
  });

  test.each(BROKEN.replies)("the reply to a READ: %s", async (name) => {
    const uri = await fake(name);
    const client = await connect(uri);
    const target = Buffer.alloc(8192, 0x55);
    const failure = await failureOf(() => client.read(target, 4096));
    // Afterwards there is nothing to be had from this connection, unless it was an error by the book.
    if (failure instanceof CowError) expect([failure.code, failure.file]).toEqual(["io", uri]);
    expect(failure.message).toMatch(/cannot read at byte 4096 \(0x1000\): |did not answer|closed the connection/);
    expect((await failureOf(() => client.read(target, 0))).message).not.toBe("");
  });

  test.each(BROKEN.statuses)("the reply to a BLOCK_STATUS: %s", async (name) => {
    const client = await connect(await fake(name));
    await client.read(Buffer.alloc(10), 0);
    expect((await failureOf(() => client.blockStatus(0, 65_536))).message).toMatch(/breaks the protocol/);
  });

  test.each([
    ["another protocol", /does not begin as an NBD server does/],
    ["old style", /old style/],
    ["silent", /did not answer within 0\.5 s/],
    ["plain bytes before TLS", /between its consent to TLS and TLS/],
  ] as const)("is told: %s", async (name, why) => {
    const uri = await fake(name);
    const tls = name === "plain bytes before TLS";
    const failure = await failureOf(() => connect(tls ? uri.replace("nbd+", "nbds+") : uri));
    expect(failure.message).toMatch(why);
  });

  test("does not make memory grow", async () => {
    const client = await connect(await fake("the same data again and again"));
    const before = process.memoryUsage.rss();
    await failureOf(() => client.read(Buffer.alloc(1 << 20), 0));
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 << 20);
  });
});

describe("a device that blocks", HANGS, () => {
  async function open(name: FakeName): Promise<RemoteDevice> {
    const socket = scratch(`${count++}.sock`);
    await startFakeThread(socket, name);
    return RemoteDevice.open(uriOf(socket), LIMITS);
  }

  test.each([
    "silent",
    "half a greeting",
    "half a reply",
    "endless greeting",
    "endless infos",
    "a reply of 2 GiB",
  ] as const)("is not opened by a server that breaks the handshake: %s", async (name) => {
    await expect(open(name)).rejects.toThrow(CowError);
  });

  test.each([
    "never answers",
    "errors for ever",
    "data from beyond",
    "closes on each READ",
    "closes in mid-data",
  ] as const)("gives a read up: %s", async (name) => {
    const device = await open(name);
    for (const size of [512, 1 << 20])
      expect(() => device.read(Buffer.alloc(size), 0)).toThrow(/cannot read at byte 0/);
    device.close();
  });

  test("gives a block status up that is nonsense", async () => {
    const device = await open("half an extent");
    expect(() => [...device.dataExtents(0, 1 << 20)]).toThrow(/breaks the protocol/);
    device.close();
  });
});
