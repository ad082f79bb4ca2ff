/**
 * Proves where `cowtool serve` listens, and what it says of that: unix sockets that only their owner may use, TCP; stale
 * and foreign things in a socket's place; addresses that are not this machine's alone; pid files. Streams and sockets
 * that it is handed are in serve-handed.test.ts.
 */
import { spawn } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { describe, expect, test } from "vitest";
import { serve } from "../../src/lib/control/serve.ts";
import { check, create } from "../../src/lib/index.ts";
import { listenUnix } from "../../src/lib/nbd/server/listeners.ts";
import { expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { portOf, serveProgram } from "../support/nbd/program.ts";
import { serveRefusal } from "../support/nbd/refusal.ts";
import { BASE_BYTES, expectServed, unixUri, useServedBase } from "../support/nbd/served-base.ts";
import { scratchDirectory } from "../support/scratch.ts";

const at = scratchDirectory();
useServedBase(at);

describe("a unix socket", () => {
  test("has mode 0600, is told in one line, and is gone afterwards", async () => {
    const server = await serveProgram([at("base.img"), at("vm.cow"), "--socket", at("s")]);
    expect(server.said()).toBe(`${unixUri(at("s"))}\n`);
    expect((lstatSync(at("s")).mode & 0o7777).toString(8)).toBe("600");
    await expectServed(at("s"));
    expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
    expect(existsSync(at("s"))).toBe(false);
  });

  test("is told with its whole path, as clients are elsewhere", async () => {
    const server = await serveProgram(["base.img", "--socket", "a b&c.s"], { cwd: at(".") });
    const socket = /socket=(.*)\n/.exec(server.said())?.[1] ?? "";
    expect(decodeURIComponent(socket)).toBe(at("a b&c.s"));
    expect(socket).not.toMatch(/[ &]/);
    await expectServed(at("a b&c.s"));
    await server.stop();
  });

  test("--json gives a ready object, with every export", async () => {
    const exports = ["--export", `one=${at("base.img")}`, "--export", `two=${at("base.img")},${at("vm.cow")}`];
    const server = await serveProgram([at("base.img"), ...exports, "--socket", at("s"), "--json"]);
    const ready = expectJson(server.said(), "serve");
    expect(ready).toMatchObject({
      uri: unixUri(at("s")),
      pid: server.pid,
      exports: [
        {
          name: "",
          uri: unixUri(at("s")),
          stack: at("base.img"),
          virtual_size: BASE_BYTES,
          access: "read-only",
          found: null,
        },
        { name: "one", uri: unixUri(at("s"), "one"), access: "read-only" },
        { name: "two", stack: `${at("base.img")},${at("vm.cow")}`, access: "writable", found: "clean" },
      ],
    });
    const ended = await server.stop();
    expect(ended.status).toBe(0);
    expectJson(ended.stdout, "serve");
  });

  test("besides a port: both are told, and served", async () => {
    const argv = ["--export", `one=${at("base.img")}`, "--socket", at("s"), "--listen", "127.0.0.1:0", "--json"];
    const server = await serveProgram(argv);
    const { exports } = expectJson(server.said(), "serve") as { exports: readonly { more_uris: readonly string[] }[] };
    const [more] = exports[0]?.more_uris ?? [];
    expect(more).toMatch(/^nbd:\/\/127\.0\.0\.1:[1-9]\d*\/one$/);
    await expectServed(at("s"), "one");
    await expectServed(portOf(more ?? ""), "one");
    await server.stop();
  });

  test("that a killed server left is replaced", async () => {
    const first = await serveProgram([at("base.img"), "--socket", at("s")]);
    await first.stop("SIGKILL");
    expect(lstatSync(at("s")).isSocket()).toBe(true);
    const second = await serveProgram([at("base.img"), "--socket", at("s")]);
    expect((lstatSync(at("s")).mode & 0o777).toString(8)).toBe("600");
    await expectServed(at("s"));
    await second.stop();
  });

  test("that somebody listens on is left to them", async () => {
    const first = await serveProgram([at("base.img"), "--socket", at("s")]);
    expect(await serveRefusal([at("base.img"), at("vm.cow"), "--socket", at("s")], 8)).toContain(at("s"));
    await expectServed(at("s"));
    await first.stop();
    expect((await check(at("vm.cow"), {}, {})).state).toBe("clean");
  });

  test("never replaces what is no socket", async () => {
    writeFileSync(at("file"), "precious");
    symlinkSync("nowhere", at("link"));
    expect(await serveRefusal([at("base.img"), "--socket", at("file")], 8)).toContain(at("file"));
    // From the shell it is the same.
    await serveRefusal([at("base.img"), "--socket", at("link")], 8, {});
    await serveRefusal([at("base.img"), "--socket", at(".")], 8);
    expect(readFileSync(at("file"), "utf8")).toBe("precious");
    expect(existsSync(at("nowhere"))).toBe(false);
  });

  test("cannot be where there is no directory, nor under too long a name", async () => {
    await serveRefusal([at("base.img"), "--socket", at("none/s")], 8);
    await serveRefusal([at("base.img"), "--socket", at("x".repeat(120))], 16);
  });
});

describe("a start that fails", () => {
  /** Listens, and is too busy to accept anybody: the sockets that wait fill its backlog. */
  async function busySocket(path: string): Promise<() => void> {
    const program = `require("net").createServer().listen({ path: process.argv[1], backlog: 1 }, () => {
      console.log("up"); setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20000)); })`;
    const child = spawn(process.execPath, ["-e", program, path], { stdio: ["ignore", "pipe", "ignore"] });
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    const waiting = [1, 2, 3, 4].map(() => connect(path).on("error", () => undefined));
    return () => {
      for (const socket of waiting) socket.destroy();
      child.kill("SIGKILL");
    };
  }

  test("as a busy server has the socket leaves that alone", async () => {
    const end = await busySocket(at("busy"));
    const { ino } = lstatSync(at("busy"));
    try {
      await expect(listenUnix(at("busy"), () => undefined)).rejects.toMatchObject({ code: "io", file: at("busy") });
      expect(lstatSync(at("busy")).ino).toBe(ino);
    } finally {
      end();
    }
  });

  test.each([
    ["a pid file that is none", { pidFile: at("base.img") }],
    ["a pid file in no folder", { pidFile: at("none/pid") }],
    ["a socket in no folder", { socket: at("none/s") }],
    ["an address in use", { listen: { host: "127.0.0.1", port: 1 } }],
    ["keys beside certificates", { tls: { certificates: at("."), psk: at("."), mode: "require" } }],
  ] as const)("for %s leaves nothing behind", async (_, request) => {
    await create(at("base.img"), at("fresh.cow"), { force: true, identity: "none" }, {});
    const [files, bytes] = [readdirSync(at(".")).sort(), readFileSync(at("fresh.cow"))];
    const hosts = "listen" in request ? await occupied() : undefined;
    const listen = hosts && { listen: { host: "127.0.0.1", port: hosts.port } };
    const exports = [{ name: "", stack: `${at("base.img")},${at("fresh.cow")}` }];
    const never = { ...request, ...listen, exports, env: {}, onReady: fail };
    await expect(serve("socket" in request ? never : { socket: at("n"), ...never })).rejects.toThrow();
    hosts?.close();
    expect([readdirSync(at(".")).sort(), readFileSync(at("fresh.cow")).equals(bytes)]).toEqual([files, true]);
  });
});

function fail(): never {
  throw new Error("it is ready");
}

async function occupied(): Promise<{ readonly port: number; close(): void }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, close: () => void server.close() };
}

describe("--pid-file", () => {
  test("has the process id while the server runs", async () => {
    const server = await serveProgram([at("base.img"), "--socket", at("s"), "--pid-file", at("pid")]);
    expect(readFileSync(at("pid"), "utf8")).toBe(`${server.pid}\n`);
    await server.stop();
    expect(existsSync(at("pid"))).toBe(false);
  });

  test("replaces what another server left, and nothing that is no process id", async () => {
    writeFileSync(at("pid"), "123\n");
    const server = await serveProgram([at("base.img"), "--socket", at("s"), "--pid-file", at("pid")]);
    expect(readFileSync(at("pid"), "utf8")).toBe(`${server.pid}\n`);
    await server.stop();
    const before = readFileSync(at("base.img"));
    const argv = [at("base.img"), "--socket", at("s"), "--pid-file", at("base.img")];
    expect(await serveRefusal(argv, 8)).toContain(at("base.img"));
    expect(readFileSync(at("base.img")).equals(before)).toBe(true);
  });

  test("that cannot be written ends the server in order", async () => {
    const argv = [at("base.img"), at("vm.cow"), "--socket", at("s"), "--pid-file", at("none/pid")];
    expect(await serveRefusal(argv, 8)).toContain(at("none/pid"));
    expect([existsSync(at("s")), existsSync(at("vm.cow.cowtool-live"))]).toEqual([false, false]);
    expect((await check(at("vm.cow"), {}, {})).state).toBe("clean");
  });
});

describe("TCP", () => {
  const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"));

  test.each([
    ["127.0.0.1:0", "127.0.0.1"],
    [":0", "127.0.0.1"],
    ["localhost:0", "localhost"],
    ["127.0.0.3:0", "127.0.0.3"],
  ])("%s picks a port, and says which", async (address, host) => {
    const server = await serveProgram([at("base.img"), "--listen", address]);
    expect(server.said()).toMatch(new RegExp(`^nbd://${host}:[1-9]\\d*/\n$`));
    if (address !== "127.0.0.3:0" && (address !== "localhost:0" || !hasIpv6)) await expectServed(portOf(server.said()));
    expect((await server.stop()).status).toBe(0);
  });

  test.skipIf(skipsLoudly(!hasIpv6, "serve on ::1: this machine has no IPv6"))("[::1]:0, too", async () => {
    const server = await serveProgram([at("base.img"), "--listen", "[::1]:0"]);
    expect(server.said()).toMatch(/^nbd:\/\/\[::1\]:[1-9]\d*\/\n$/);
    await server.stop();
  });

  test("a port that is in use is refused", async () => {
    const server = await serveProgram([at("base.img"), "--listen", "127.0.0.1:0"]);
    const address = `127.0.0.1:${portOf(server.said())}`;
    expect(await serveRefusal([at("base.img"), at("vm.cow"), "--listen", address], 8)).toContain(address);
    await expectServed(portOf(server.said()));
    await server.stop();
    expect((await check(at("vm.cow"), {}, {})).state).toBe("clean");
  });

  test.each([
    "0.0.0.0:0",
    "[::]:0",
    "127.example.com:0",
    "127.0.0.1.example.com:0",
    "localhost.example.com:0",
    "1.2.3.4:0",
  ])("%s can be reached by others: not without TLS", async (address) => {
    const line = await serveRefusal([at("base.img"), "--listen", address], 16);
    expect(line).toContain(address.replace(/:0$/, "").replaceAll(/[[\]]/g, ""));
  });

  test("--insecure serves them all the same", async () => {
    const server = await serveProgram([at("base.img"), "--listen", "0.0.0.0:0", "--insecure"]);
    await expectServed(portOf(server.said()));
    await server.stop();
  });

  test.each(["", "127.0.0.1:65536", "127.0.0.1:x", "::1", "[::1", "127.0.0.1:-1", "a:b:c"])(
    "%j is no address",
    async (address) => {
      expectErrorLine(await run("serve", [at("base.img"), "--listen", address]), 16);
    },
  );
});
