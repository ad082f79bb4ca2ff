/**
 * Proves that `cowtool serve` serves on what it is handed: its standard streams, as pipes or as one socket, and the
 * sockets of a service manager.
 */
import { spawnSync } from "node:child_process";
import { closeSync, constants, existsSync, linkSync, openSync, renameSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { check } from "../../src/lib/index.ts";
import { handedDown } from "../../src/lib/nbd/server/listeners.ts";
import { expectErrorLine, expectJson } from "../support/command/harness.ts";
import { launch, portOf, serveProgram, until } from "../support/nbd/program.ts";
import { handshakeOf, RawClient } from "../support/nbd/raw-client.ts";
import { CMD, RawSession } from "../support/nbd/raw-session.ts";
import { BASE, BASE_BYTES, expectServed, unixUri, useServedBase } from "../support/nbd/served-base.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const at = scratchDirectory();
useServedBase(at);

describe("--stdio", () => {
  /** Says all at once what a client says: the handshake, one READ, goodbye. */
  function wholeConversation(): Buffer {
    const request = (type: number, length: number): Buffer => {
      const head = Buffer.alloc(28);
      head.writeUInt32BE(0x25609513, 0);
      head.writeUInt16BE(type, 6);
      head.writeUInt32BE(length, 24);
      return head;
    };
    return Buffer.concat([...handshakeOf("simple"), request(CMD.READ, BASE_BYTES), request(CMD.DISC, 0)]);
  }

  test("on pipes serves one client, and ends when it has said goodbye though stdin stays open", async () => {
    expect(spawnSync("mkfifo", [at("in"), at("out")]).status).toBe(0);
    // Each end can be opened only once the other one is there, except for reading without waiting.
    const theirIn = openSync(at("in"), constants.O_RDONLY | constants.O_NONBLOCK);
    const ourIn = openSync(at("in"), "w");
    const ourOut = openSync(at("out"), constants.O_RDONLY | constants.O_NONBLOCK);
    const theirOut = openSync(at("out"), "w");
    const server = launch([at("base.img"), "--stdio"], { stdio: [theirIn, theirOut, "pipe"] });
    closeSync(theirIn);
    closeSync(theirOut);
    const writer = new Socket({ fd: ourIn, readable: false, writable: true });
    const reader = new Socket({ fd: ourOut, readable: true, writable: false });
    const chunks: Buffer[] = [];
    reader.on("data", (chunk: Buffer) => chunks.push(chunk));
    writer.write(wholeConversation());
    const { status, timedOut, ms } = await server.ended;
    await until(() => reader.readableEnded || reader.destroyed, "the end of what it says");
    expect([status, timedOut]).toEqual([0, false]);
    expect(ms).toBeLessThan(15_000);
    expect(writer.destroyed).toBe(false);
    writer.destroy();
    const said = Buffer.concat(chunks);
    expect(said.subarray(said.length - BASE_BYTES).equals(BASE)).toBe(true);
    expect(said.toString("latin1", 0, 16)).toBe("NBDMAGICIHAVEOPT");
    // Whatever it has to say to people goes to stderr.
    expect(said.length - BASE_BYTES).toBeLessThan(200);
    reader.destroy();
  });

  /** A server whose stdin and stdout are one and the same socket, and the client at its other end. */
  async function onSocket(argv: readonly string[]): Promise<[ReturnType<typeof launch>, RawClient]> {
    const listener = createServer({ pauseOnConnect: true });
    await new Promise<void>((resolve) => listener.listen(at("pair"), resolve));
    const accepted = new Promise<Socket>((resolve) => listener.once("connection", resolve));
    const client = await RawClient.connect(at("pair"));
    const theirs = await accepted;
    listener.close();
    const server = launch([...argv, "--stdio"], { stdio: [theirs, theirs, "pipe"] });
    theirs.destroy();
    return [server, client];
  }

  test("on a socketpair, too, writable, with the ready object on stderr", async () => {
    const [server, client] = await onSocket([at("base.img"), at("vm.cow"), "--json"]);
    const session = new RawSession(client, await client.shakeHands("extended"));
    await session.write(1000, noise(5000, 7));
    expect((await session.read(1000, 5000)).equals(noise(5000, 7))).toBe(true);
    expect(await session.goodbye()).toHaveLength(0);
    const { status, stderr } = await server.ended;
    expect(status).toBe(0);
    expect(expectJson(stderr, "serve")).toMatchObject({ uri: "", pid: server.pid, exports: [{ access: "writable" }] });
    expect((await check(at("vm.cow"), {}, {})).state).toBe("clean");
  });

  test.each(["leaves without a word", "leaves in the middle of a WRITE"])("ends when its client %s", async (how) => {
    const [server, client] = await onSocket([at("base.img"), at("vm.cow")]);
    if (how.includes("WRITE")) {
      const session = new RawSession(client, await client.shakeHands("simple"));
      await session.write(0, noise(100, 1));
      await client.send(session.head({ type: CMD.WRITE, length: BASE_BYTES }), noise(1000, 1));
    }
    client.leave();
    expect((await server.ended).status).toBe(0);
    expect((await check(at("vm.cow"), {}, {})).state).toBe("clean");
  });

  test("that can't start ends although its streams stay open, and says so on stderr only", async () => {
    for (const argv of [[at("nosuch.img")], [at("base.img"), "--reserve", "much"], [at("nosuch.img"), "--json"]]) {
      const server = launch([...argv, "--stdio"], { stdio: ["pipe", "pipe", "pipe"] });
      const { status, stdout, stderr } = await server.ended;
      expect([[8, 16], stdout], stderr).toEqual([expect.arrayContaining([status]), ""]);
      expect(stderr).not.toBe("");
      server.child.stdin?.destroy();
    }
  });

  test("listens on nothing besides", async () => {
    expectErrorLine(await launch([at("base.img"), "--stdio", "--socket", at("s")]).ended, 16);
    expectErrorLine(await launch([at("base.img"), "--stdio", "--listen", "127.0.0.1:0"]).ended, 16);
  });
});

describe("sockets that are handed down", () => {
  /** A socket that somebody listens on, and its descriptor; this process accepts nobody. */
  async function listening(where: string | number): Promise<[fd: number, close: () => void]> {
    const server: Server = createServer();
    await new Promise<void>((resolve) => {
      if (typeof where === "string") server.listen(`${where}.bound`, resolve);
      else server.listen({ host: "127.0.0.1", port: where }, resolve);
    });
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    return [fd, () => server.close()];
  }

  test("serves on a unix socket, and tells its path", async () => {
    const [fd, close] = await listening(at("act"));
    // Node removes what it bound when it closes it.
    linkSync(at("act.bound"), at("act.kept"));
    const server = await serveProgram([at("base.img"), "--exit-last"], {
      stdio: ["ignore", "pipe", "pipe", fd],
      env: { LISTEN_FDS: "1" },
      pidIn: "LISTEN_PID",
    });
    close();
    renameSync(at("act.kept"), at("act"));
    expect(server.complained()).toBe(`${unixUri(at("act.bound"))}\n`);
    await expectServed(at("act"));
    // Its standard streams are those of whoever started it.
    expect(await server.ended).toMatchObject({ status: 0, stdout: "" });
    // It is the service manager's, who goes on listening.
    expect(existsSync(at("act"))).toBe(true);
  });

  test("serves on two of them, of which one is TCP", async () => {
    const [unix, closeUnix] = await listening(at("two"));
    const [tcp, closeTcp] = await listening(0);
    linkSync(at("two.bound"), at("two"));
    const server = await serveProgram([at("base.img")], {
      stdio: ["ignore", "pipe", "pipe", tcp, unix],
      env: { LISTEN_FDS: "2" },
      pidIn: "LISTEN_PID",
    });
    closeUnix();
    closeTcp();
    const [first, second] = server.complained().split("\n");
    expect(first).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/$/);
    expect(second).toBe(unixUri(at("two.bound")));
    await expectServed(at("two"));
    await expectServed(portOf(first ?? ""));
    expect(await server.stop()).toMatchObject({ status: 0, stdout: "" });
  });

  test("must be true: as many, all of them sockets that listen", () => {
    const env = (count: string): NodeJS.ProcessEnv => ({ LISTEN_PID: `${process.pid}`, LISTEN_FDS: count });
    for (const count of ["1", "5", "1000000000"])
      expect(() => handedDown(env(count))).toThrow(`LISTEN_FDS says ${count}, but descriptor`);
    for (const count of ["", "-1", "1.5", "many"])
      expect(() => handedDown(env(count))).toThrow("LISTEN_FDS is not a number of sockets");
    expect([handedDown(env("0")), handedDown({ ...env("5"), LISTEN_PID: "1" })]).toEqual([0, 0]);
  });

  test("meant for another process are not touched", async () => {
    const env = { LISTEN_FDS: "1", LISTEN_PID: `${process.pid}` };
    const server = await serveProgram([at("base.img"), "--socket", at("s")], { env });
    expect(server.said()).toBe(`${unixUri(at("s"))}\n`);
    await expectServed(at("s"));
    await server.stop();
  });
});
