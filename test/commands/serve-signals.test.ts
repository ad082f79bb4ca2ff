/**
 * Proves how `cowtool serve` ends when it is told to: SIGTERM and SIGINT let it answer what it has, keep what it
 * answered, and mark the cowfile clean, with exit status 0; no client can keep it from that; a second signal ends it at
 * once, as a crash would.
 */
import { existsSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { pause } from "../support/command/real-process.ts";
import { contentOf, expectClean } from "../support/nbd/left-behind.ts";
import { serveProgram, until } from "../support/nbd/program.ts";
import { RawClient, STYLES } from "../support/nbd/raw-client.ts";
import { CMD, RawSession } from "../support/nbd/raw-session.ts";
import { cellsFor, LoggingClient, ReplyLog } from "../support/nbd/reply-log.ts";
import { makeCowfile, makeImage } from "../support/nbd/test-server.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const CLIENTS = 4;

const at = scratchDirectory();
beforeAll(() => makeImage(at("base.img"), noise(SIZE, 1)));

async function expectEnded(cowfile: string): Promise<void> {
  await expectClean(cowfile, at("base.img"));
  expect(existsSync(`${cowfile}.cowtool-live`)).toBe(false);
}

interface Busy {
  readonly log: ReplyLog;
  /** Resolves when all clients have been hung up on. */
  readonly written: Promise<unknown>;
}

async function startWriting(socket: string): Promise<Busy> {
  const log = new ReplyLog(readFileSync(at("base.img")));
  const cells = cellsFor(CLIENTS, SIZE, 3);
  const clients: LoggingClient[] = [];
  for (let i = 0; i < CLIENTS; i++) {
    const session = await RawSession.open(socket, STYLES[i % 3] ?? "simple");
    clients.push(new LoggingClient(session, log, cells[i] ?? [], i));
  }
  const written = Promise.all(clients.map((client) => client.run()));
  await until(() => log.replied >= 60, "the first replies");
  return { log, written };
}

const KINDS = [
  ["with threads", {}],
  ["without system calls", { COWTOOL_NO_FFI: "1" }],
] as const;

describe.each(KINDS)("a server %s", (kind, env) => {
  const name = kind.replaceAll(" ", "-");

  test.each(["SIGTERM", "SIGINT"] as const)("%s ends it in order while clients write", async (signal) => {
    const cowfile = await makeCowfile(at("base.img"), at(`${name}-${signal}.cow`));
    const server = await serveProgram([at("base.img"), cowfile, "--socket", at("s"), "--pid-file", at("pid")], { env });
    const { log, written } = await startWriting(at("s"));
    expect(readFileSync(at("pid"), "utf8")).toBe(`${server.pid}\n`);
    expect(await server.stop(signal)).toMatchObject({ status: 0, stderr: "", timedOut: false });
    await written;
    expect([existsSync(at("s")), existsSync(at("pid"))]).toEqual([false, false]);
    await expectEnded(cowfile);
    log.judge(await contentOf(at("base.img"), cowfile));
  });

  test("a second signal ends it at once; the next start finds everything that was answered", async () => {
    const cowfile = await makeCowfile(at("base.img"), at(`${name}-twice.cow`));
    const argv = [at("base.img"), cowfile, "--socket", at("s")];
    const server = await serveProgram(argv, { env });
    const { log, written } = await startWriting(at("s"));
    // One who never reads makes the orderly end take its time.
    const stuck = await RawSession.open(at("s"), "simple");
    stuck.client.socket.pause();
    for (let i = 0; i < 64; i++) void stuck.client.send(stuck.head({ type: CMD.READ, length: MIB }));
    await pause(50);
    server.child.kill("SIGTERM");
    await pause(200);
    const { status, ms: _, signal } = await server.stop("SIGTERM");
    expect([status, signal]).toEqual([143, undefined]);
    await written;
    stuck.client.leave();
    const again = await serveProgram(argv, { env });
    const reader = await RawSession.open(at("s"), "simple");
    log.judge(await reader.read(0, SIZE));
    await reader.goodbye();
    expect((await again.stop()).status).toBe(0);
    await expectEnded(cowfile);
  });
});

describe("a client that reads nothing, and one that says nothing,", () => {
  // It waits for them for some seconds, which the two servers do at once.
  test.concurrent.each(KINDS)("do not keep a server from ending %s", async (kind, env) => {
    const [cowfile, socket] = [at(`${kind}-stuck.cow`), at(`${kind}.s`)];
    await makeCowfile(at("base.img"), cowfile);
    const server = await serveProgram([at("base.img"), cowfile, "--socket", socket], { env });
    const silent = await RawClient.connect(socket);
    const idle = await RawSession.open(socket, "simple");
    await idle.write(1000, noise(5000, 2));
    const stuck = await RawSession.open(socket, "extended");
    stuck.client.socket.pause();
    for (let i = 0; i < 64; i++) void stuck.client.send(stuck.head({ type: CMD.READ, length: MIB }));
    await pause(50);
    // None of them leaves before it has ended.
    const { status, stderr } = await server.stop();
    expect([status, stderr]).toEqual([0, ""]);
    for (const client of [silent, idle.client, stuck.client]) client.leave();
    await expectEnded(cowfile);
    const bytes = await contentOf(at("base.img"), cowfile);
    expect(bytes.subarray(1000, 6000).equals(noise(5000, 2))).toBe(true);
  });
});
