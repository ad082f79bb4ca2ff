/**
 * Proves the control socket of a server against a running one: exports that come and go under their clients, what survives
 * a restart, what callers may send, and that schemas/openapi.json describes what is answered.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import * as net from "node:net";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { connect } from "../../../src/lib/control/client.ts";
import { Control } from "../../../src/lib/control/control.ts";
import { EventHub } from "../../../src/lib/control/events.ts";
import { nameIn, segmentOf } from "../../../src/lib/control/export-name.ts";
import { controlApp } from "../../../src/lib/control/http.ts";
import { MemoryStorage } from "../../../src/lib/device/memory-storage.ts";
import { BITMAP_OFFSET_BYTES } from "../../../src/lib/formats/cowfile/layout.ts";
import { Exports } from "../../../src/lib/nbd/server/exports.ts";
import { History } from "../../../src/lib/nbd/server/history.ts";
import { create } from "../../../src/lib/operations/create.ts";
import { info } from "../../../src/lib/operations/info.ts";
import { ROOT } from "../../support/command/run-command.ts";
import { controlled } from "../../support/nbd/controlled.ts";
import { CMD, FLAG, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SIZE = 1 << 20;
const DATA = Buffer.alloc(4096, 0x5a);
/** Exports without a server. */
const NO_SERVER = { defaults: {}, onClosed: () => undefined, isSound: () => true };
const at = scratchDirectory();
const base = makeImage(at("base.img"), Buffer.from("golden"), SIZE);
const held = controlled(at);
let count = 0;

/** A fresh cowfile over the base. @returns the stack of both */
async function freshStack(): Promise<string> {
  const cowfile = at(`vm${count++}.cow`);
  await makeCowfile(base, cowfile);
  return `${base},${cowfile}`;
}

async function createStack(path: string): Promise<void> {
  await create(base, at(`vm${count++}.cow`), { stackFile: path }, {});
}

async function client(name: string): Promise<RawSession> {
  return RawSession.open(held.server?.socket ?? "", "structured", { name });
}

async function write(session: RawSession, offset = 0): Promise<void> {
  const { error } = await session.ask({ type: CMD.WRITE, flags: FLAG.FUA, offset, length: DATA.length, payload: DATA });
  expect(error).toBe(0);
}

async function contentOf(name: string): Promise<Buffer> {
  const session = await client(name);
  const { data } = await session.ask({ type: CMD.READ, offset: 0, length: DATA.length });
  await session.goodbye();
  return data;
}

test("an export is added, written, and removed; its cowfile then is clean and holds what was written", async () => {
  const control = await held.start();
  expect(await control.list()).toEqual({ exports: [] });
  const stack = await freshStack();
  const added = await control.add({ name: "a/b ~", stack });
  expect(added).toMatchObject({ name: "a/b ~", state: "open", access: "writable", virtual_size: SIZE, connections: 0 });
  const session = await client("a/b ~");
  await write(session);
  expect(await control.show("a/b ~")).toMatchObject({ connections: 1, written: stack.split(",")[1] });
  await expect(control.remove("a/b ~")).rejects.toMatchObject({ code: "locked" });
  await session.goodbye();
  await control.remove("a/b ~");
  await expect(control.show("a/b ~")).rejects.toMatchObject({ code: "not-found" });
  expect(await info(stack.split(",")[1] ?? "", {}, {})).toMatchObject({ facts: { state: "clean", blocks_used: 4 } });
});

test("a forced removal answers what was received, hangs up, and lets a new export have the name and not the old image", async () => {
  const control = await held.start();
  await control.add({ name: "x", stack: await freshStack() });
  const session = await client("x");
  await write(session);
  await control.remove("x", { force: true });
  await expect(session.ask({ type: CMD.READ, offset: 0, length: 512 })).rejects.toThrow();
  await control.add({ name: "x", stack: await freshStack() });
  expect((await contentOf("x")).subarray(0, 6).toString()).toBe("golden");
});

test("a drained export lets in nobody else, goes when its client has gone, and comes back when that is cancelled", async () => {
  const control = await held.start();
  await control.add({ name: "x", stack: await freshStack() });
  const session = await client("x");
  const cancelled = await control.drain("x");
  await expect(client("x")).rejects.toThrow();
  expect(await control.cancel(cancelled.id)).toMatchObject({ state: "cancelled", error: { code: "interrupted" } });
  await (await client("x")).goodbye();
  const job = await control.drain("x");
  expect(await control.show("x")).toMatchObject({ state: "draining", connections: 1 });
  await session.goodbye();
  expect(await control.waitFor(job.id)).toMatchObject({ state: "done", error: null });
  expect((await control.jobs()).jobs.map(({ state }) => state)).toEqual(["cancelled", "done"]);
  expect(await control.list()).toEqual({ exports: [] });
});

test("a closed export has no file open; opened again, also for reading only, it shows what was written", async () => {
  const control = await held.start();
  const stack = await freshStack();
  await control.add({ name: "x", stack });
  const session = await client("x");
  await write(session);
  expect(await control.close("x")).toMatchObject({ state: "closed", virtual_size: null });
  const open = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return statSync(`/proc/self/fd/${fd}`).ino;
    } catch {
      return 0;
    }
  });
  expect(open).not.toContain(statSync(stack.split(",")[1] ?? "").ino);
  await expect(client("x")).rejects.toThrow();
  await expect(control.sync("x")).rejects.toMatchObject({ code: "unsuitable" });
  expect(await control.reopen("x", { access: "read-only" })).toMatchObject({ state: "open", access: "read-only" });
  expect(await contentOf("x")).toEqual(DATA);
});

test("sync makes a cowfile whole for readers without its journal", async () => {
  const control = await held.start();
  const stack = await freshStack();
  await control.add({ name: "x", stack });
  const session = await client("x");
  await session.ask({ type: CMD.WRITE, offset: 0, length: DATA.length, payload: DATA });
  const isMarked = (): number => (readFileSync(stack.split(",")[1] ?? "")[BITMAP_OFFSET_BYTES] ?? 0) & 1;
  expect(isMarked()).toBe(0);
  expect(await control.sync()).toMatchObject({ exports: [{ name: "x" }] });
  expect(isMarked()).toBe(1);
  await session.goodbye();
});

test("what was added is there again after a restart, closed exports are closed, and one without its file says why", async () => {
  const state = at("state");
  const control = await held.start({ state });
  const [kept, closed, lost] = [await freshStack(), await freshStack(), await freshStack()];
  await control.add({ name: "kept", stack: kept });
  await control.add({ name: "closed", stack: closed });
  await control.add({ name: "lost", stack: lost });
  await control.add({ name: "gone", stack: await freshStack() });
  await control.close("closed");
  await control.remove("gone");
  await expect(startServing(at, [], { state })).rejects.toMatchObject({ code: "locked" });
  const session = await client("kept");
  await write(session);
  await session.goodbye();
  await held.server?.stop();
  const file = lost.split(",")[1] ?? "";
  const bytes = readFileSync(file);
  writeFileSync(file, "no cowfile");
  const again = await held.start({ state });
  const found = (await again.list()).exports.map(({ name, state: how, error }) => [name, how, error?.code]);
  expect(found).toEqual([
    ["kept", "open", undefined],
    ["closed", "closed", undefined],
    ["lost", "failed", "bad-head"],
  ]);
  expect(await contentOf("kept")).toEqual(DATA);
  writeFileSync(file, bytes);
  expect(await again.reopen("lost")).toMatchObject({ state: "open", error: null });
});

test("what the server was started with holds for what is added and put back, and is the most that there is", async () => {
  const state = at("most");
  const control = await held.start({ state });
  await control.add({ name: "was", stack: await freshStack(), access: "writable" });
  await held.server?.stop();
  const reader = await held.start({ state, readOnly: true });
  await reader.add({ name: "new", stack: await freshStack() });
  expect((await reader.list()).exports.map(({ access }) => access)).toEqual(["read-only", "read-only"]);
  await expect(reader.reopen("was", { access: "writable" })).rejects.toMatchObject({ code: "usage" });
  await held.server?.stop();
  const quota = await held.start({ state: at("quota"), quotaBytes: 4096 });
  await quota.add({ name: "x", stack: await freshStack() });
  await quota.limit("x", { iops: 1000 });
  await quota.reopen("x");
  expect(await quota.limit("x")).toMatchObject({ iops: 1000, quota: 4096 });
  const session = await client("x");
  await write(session);
  expect((await session.ask({ type: CMD.WRITE, offset: 8192, payload: DATA })).error).toBe(28);
});

test("a stack file that is away keeps one export from being served, and no server from starting", async () => {
  const state = at("away");
  const control = await held.start({ state });
  const [stack, file] = [at("one.stack"), at("away.stack")];
  await createStack(stack);
  await control.add({ name: "open", stack: `stack:${stack}` });
  await createStack(file);
  await control.add({ name: "closed", stack: `stack:${file}` });
  await control.close("closed");
  await held.server?.stop();
  const kept = [stack, file].map((path) => readFileSync(path));
  for (const path of [stack, file]) rmSync(path);
  const again = await held.start({ state });
  const found = (await again.list()).exports.map(({ name, state: how, error }) => [name, how, error?.code]);
  expect(found).toEqual([
    ["open", "failed", "not-found"],
    ["closed", "closed", undefined],
  ]);
  for (const [i, path] of [stack, file].entries()) writeFileSync(path, kept[i] ?? "");
  for (const name of ["open", "closed"]) expect(await again.reopen(name)).toMatchObject({ state: "open" });
});

test("a name of the command line is not given to another disk, and changes to such an export are not kept", async () => {
  const state = at("given");
  const stack = await freshStack();
  const both = { control: at(`control${count++}`), state };
  held.server = await startServing(at, [{ name: "x", stack }], both);
  const control = await connect({ server: both.control });
  await control.remove("x");
  await expect(control.add({ name: "x", stack: await freshStack() })).rejects.toMatchObject({ code: "exists" });
  expect(JSON.parse(readFileSync(join(state, "exports.json"), "utf8"))).toMatchObject({ exports: [] });
});

test("a change that cannot be kept is not made", async () => {
  const state = at("full");
  const control = await held.start({ state });
  for (const name of ["x", "y"]) await control.add({ name, stack: await freshStack() });
  const before = [await control.list(), await control.limit("x")];
  // A directory in its place cannot be replaced by a file.
  rmSync(join(state, "exports.json"));
  mkdirSync(join(state, "exports.json/x"), { recursive: true });
  const changes = [
    control.remove("x"),
    control.close("x"),
    control.reopen("x", { access: "read-only" }),
    control.limit("x", { iops: 1 }),
    control.add({ name: "z", stack: await freshStack() }),
  ];
  expect((await Promise.allSettled(changes)).map(({ status }) => status)).toEqual(Array(5).fill("rejected"));
  expect([await control.list(), await control.limit("x")]).toEqual(before);
  rmSync(join(state, "exports.json"), { recursive: true });
  await control.remove("x");
  expect(JSON.parse(readFileSync(join(state, "exports.json"), "utf8"))).toMatchObject({ exports: [{ name: "y" }] });
});

test("an export that is being added is neither listed nor kept, and one that is refused leaves nothing", async () => {
  const exports = new Exports(NO_SERVER, {});
  await exports.add({ name: "x", stack: await freshStack() });
  const kept: string[][] = [];
  exports.keepWith((all) => void kept.push(all.map(({ settings }) => settings.name)));
  const [, cowfile = ""] = (await freshStack()).split(",");
  const other = makeImage(at("other.img"), Buffer.from(noise(SIZE, 5)));
  const refused = Promise.allSettled([exports.add({ name: "bad", stack: `${other},${cowfile}` })]);
  await exports.limit("x", { iops: 9 });
  expect([exports.all.map(({ name }) => name), kept]).toEqual([["x"], [["x"]]]);
  expect(await refused).toMatchObject([{ reason: { code: "wrong-base" } }]);
  expect(exports.all.map(({ name }) => name)).toEqual(["x"]);
  await exports.end();
});

test("a server ends although connections are open that ask nothing", async () => {
  const control = await held.start();
  const sockets = ["", "GET /v1/exp", "POST /v1/exports HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"].map((text) => {
    const socket = net.connect(control.path);
    socket.on("error", () => undefined).resume();
    socket.write(text);
    return socket;
  });
  await control.list();
  const closed = sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
  await control.stop();
  await held.server?.ended;
  await Promise.all(closed);
});

test("an export that is closed is drained at once; a second drain is the first one; a file in use names who has it", async () => {
  const control = await held.start();
  const stack = await freshStack();
  await control.add({ name: "x", stack });
  await expect(control.add({ name: "y", stack })).rejects.toThrow('is used by export "x" of this server');
  const session = await client("x");
  const first = await control.drain("x");
  expect((await control.drain("x")).id).toBe(first.id);
  await control.cancel(first.id);
  await session.goodbye();
  await control.close("x");
  const job = await control.drain("x");
  expect(await control.waitFor(job.id)).toMatchObject({ state: "done" });
});

test.each([
  ["text", "{"],
  ["a name twice", '{"version":1,"exports":[{"name":"a","stack":"/x"},{"name":"a","stack":"/y"}]}'],
  ["a name that is no text", '{"version":1,"exports":[{"name":"\\ud800","stack":"/x"}]}'],
  ["an unknown state", '{"version":1,"exports":[{"name":"a","stack":"/x","state":"draining"}]}'],
  ["another version", '{"version":2,"exports":[]}'],
  ["an export without a stack", '{"version":1,"exports":[{"name":"a"}]}'],
])("a state directory with %s is refused and stays as it is", async (title, text) => {
  const state = at(`damaged-${title}`);
  await held.start({ state });
  await held.server?.stop();
  writeFileSync(join(state, "exports.json"), text);
  await expect(startServing(at, [], { state })).rejects.toMatchObject({ code: "damaged" });
  expect(readFileSync(join(state, "exports.json"), "utf8")).toBe(text);
});

test("events come as they happen, and after a break from where they ended", async () => {
  const control = await held.start();
  const stop = new AbortController();
  const seen: (readonly [number, string, string | undefined])[] = [];
  const listening = (async () => {
    for await (const { id, type, name } of control.events({ signal: stop.signal })) seen.push([id, type, name]);
  })();
  while (seen.length < 1) {
    await control.add({ name: `x${seen.length}`, stack: await freshStack() }).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await control.close("x0");
  await control.remove("x0");
  while (!seen.some(([, type]) => type === "removed")) await new Promise((resolve) => setTimeout(resolve, 10));
  stop.abort();
  await listening;
  expect(seen.map(([, type]) => type)).toEqual(expect.arrayContaining(["added", "closed", "removed"]));
  const [closed] = seen.filter(([, type]) => type === "closed");
  for await (const event of control.events({ lastId: closed?.[0] ?? 0 })) {
    expect(event).toMatchObject({ type: "removed", name: "x0" });
    break;
  }
});

test("a stream that is asked for without its body is not begun: it would never end", async () => {
  const exports = new Exports(NO_SERVER, {});
  const bare = {
    exports,
    history: new History(exports, {}, () => undefined),
    urisOf: () => [],
    connectionCount: () => 0,
    end: () => undefined,
  };
  const control = new Control(bare, new MemoryStorage(), new EventHub(), { control: "", state: null });
  const app = controlApp(control);
  const timers = vi.spyOn(globalThis, "setInterval");
  const ask = (method: string) => app.fetch(new Request("http://x/v1/events", { method }));
  expect((await ask("HEAD")).status).toBe(200);
  expect(timers).not.toHaveBeenCalled();
  const response = await ask("GET");
  await response.body?.cancel();
  expect(timers).toHaveBeenCalledTimes(1);
  timers.mockRestore();
});

test("an event tells that space has fallen below a limit", async () => {
  const control = await held.start();
  await control.add({ name: "x", stack: await freshStack() });
  for await (const event of control.events({ name: "x", belowBytes: 1e15 })) {
    if (event.type !== "space-below") continue;
    expect(event).toMatchObject({ name: "x", below: 1e15 });
    break;
  }
});

test("figures are those of what clients did, as JSON and for Prometheus", async () => {
  const control = await held.start();
  await control.add({ name: 'x"y', stack: await freshStack() });
  const session = await client('x"y');
  await write(session);
  for (const offset of [0, 512, 8192]) await session.read(offset, 512);
  await session.goodbye();
  const { exports } = await control.stats();
  expect(exports).toMatchObject([
    {
      reads: 3,
      writes: 1,
      bytes_read: 1536,
      bytes_written: 4096,
      base_reads: 1,
      layer_reads: [2],
      blocks_allocated: 4,
    },
  ]);
  expect(exports[0]).toMatchObject({ rdoreads: 1, cowreads: 2, cowwrites: 1, nrcowblocks: 4, errors: 0 });
  expect(exports[0]?.latency.read.p50).toBeGreaterThan(0);
  const lines = (await control.metrics()).split("\n");
  expect(lines).toContain('cowtool_export_requests_total{export="x\\"y",kind="read"} 3');
  expect(lines).toContain('cowtool_export_level_reads_total{export="x\\"y",level="1"} 2');
  expect(lines).toContain('cowtool_export_latency_seconds_count{export="x\\"y",kind="write"} 1');
  expect(lines).toContain('cowtool_export_latency_seconds_bucket{export="x\\"y",kind="write",le="+Inf"} 1');
});

test("limits hold at once and after a restart, and can be taken away", async () => {
  const state = at("limited");
  const control = await held.start({ state });
  await control.add({ name: "x", stack: await freshStack(), quota: 4096 });
  expect(await control.limit("x", { iops: 1000, bandwidth: 1 << 20 })).toEqual({
    name: "x",
    iops: 1000,
    bandwidth: 1 << 20,
    quota: 4096,
  });
  const session = await client("x");
  await write(session);
  const full = await session.ask({ type: CMD.WRITE, offset: 8192, payload: DATA });
  expect(full.error).toBe(28);
  expect(await control.limit("x", { quota: null, iops: null })).toMatchObject({ iops: null, quota: null });
  await write(session, 8192);
  await session.goodbye();
  await held.server?.stop();
  const again = await held.start({ state });
  expect(await again.limit("x")).toEqual({ name: "x", iops: null, bandwidth: 1 << 20, quota: null });
});

test("a caller stops the server in order", async () => {
  const control = await held.start();
  await control.add({ name: "x", stack: await freshStack() });
  await write(await client("x"));
  await control.stop();
  await held.server?.ended;
  await expect(control.list()).rejects.toMatchObject({ code: "not-found" });
});

test("a name and its segment of a path stand for each other", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom(".", "..", "~", "~.", "...", "")), (name) => {
      const segment = segmentOf(name);
      expect(segment).toMatch(/^[^/?#]+$/);
      expect(new URL(`http://x/a/${segment}/b`).pathname).toBe(`/a/${segment}/b`);
      expect(nameIn(decodeURIComponent(segment))).toBe(name);
    }),
  );
});

interface Api {
  readonly paths: Record<string, Record<string, { readonly responses?: Record<string, unknown> }>>;
}

/** Asks without the client. */
function ask(path: string, method: string, body?: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const socketPath = held.server?.ready.control ?? "";
    const request = http.request({ socketPath, path, method, agent: false }, async (response) => {
      let text = "";
      for await (const part of response.setEncoding("utf8")) text += part;
      resolve({ status: response.statusCode ?? 0, text });
    });
    request.on("error", reject);
    request.end(body);
  });
}

test("openapi.json has every route, and every answer is as it says", async () => {
  const api = JSON.parse(readFileSync(join(ROOT, "schemas/openapi.json"), "utf8")) as Api;
  const ajv = new Ajv2020({ strict: false });
  ajv.addSchema(api, "api");
  await held.start({ dashboard: { host: "127.0.0.1", port: 0 } });
  await createStack(at("api.stack"));
  const bodies: Record<string, string> = {
    "post /v1/exports": JSON.stringify({ name: "x", stack: `stack:${at("api.stack")}` }),
    "post /v1/checkpoints": JSON.stringify({ names: ["x"], as: "cp" }),
    "post /v1/exports/{name}/rollback": JSON.stringify({ checkpoint: "cp" }),
    "post /v1/exports/{name}/fork": JSON.stringify({ as: "y" }),
    "post /v1/exports/{name}/flatten": JSON.stringify({ into: at("flat.img") }),
    "post /v1/exports/{name}/grow": JSON.stringify({ size: 2 * SIZE }),
  };
  const order = ["post /v1/exports", "post /v1/exports/{name}/close", "post /v1/exports/{name}/reopen"];
  const all = Object.entries(api.paths).flatMap(([path, ways]) => Object.keys(ways).map((way) => [way, path] as const));
  const ways = all.filter(([way]) => ["get", "post", "delete"].includes(way)).map((pair) => pair.join(" "));
  const last = ["delete /v1/exports/{name}", "delete /v1/jobs/{id}", "get /v1/jobs/{id}", "post /v1/stop"];
  const middle = ways.filter(
    (way) => !order.includes(way) && !last.includes(way) && !["get /v1/events", "get /metrics"].includes(way),
  );
  for (const way of [...order, ...middle, ...last]) {
    const [method = "", path = ""] = way.split(" ");
    const { status, text } = await ask(
      path.replace("{name}", "x").replace("{id}", "99").replace("{checkpoint}", "cp"),
      method.toUpperCase(),
      bodies[way],
    );
    const { responses } = api.paths[path]?.[method] ?? {};
    const key = String(status) in (responses ?? {}) ? String(status) : "default";
    expect([way, Object.keys(responses ?? {})], way).toEqual([way, expect.arrayContaining([key])]);
    if (status === 204) continue;
    const pointer = `api#/paths/${path.replaceAll("~", "~0").replaceAll("/", "~1").replaceAll("{", "%7B").replaceAll("}", "%7D")}/${method}/responses/${key}/content/application~1json/schema`;
    const validate = ajv.getSchema(pointer);
    expect(validate, pointer).toBeDefined();
    validate?.(JSON.parse(text));
    expect([way, status, validate?.errors]).toEqual([way, status, null]);
    // One after the other.
    if (text.includes('"state":"running"')) await ask(`/v1/jobs/${JSON.parse(text).id}?wait=true`, "GET");
    // Only jobs are asked for that are not there.
    expect(key === "default", `${way}: ${text}`).toBe(path.includes("{id}"));
  }
  await held.server?.ended;
});

test("rubbish is refused by name, and the server goes on", async () => {
  const control = await held.start();
  const refused = [
    ["/v1/exports", "POST", "{", 400],
    ["/v1/exports", "POST", "[]", 400],
    ["/v1/exports", "POST", '{"name":1,"stack":"x"}', 400],
    ["/v1/exports", "POST", `{"name":"a","stack":"relative.img"}`, 400],
    ["/v1/exports", "POST", `{"name":"a","stack":"${at("none.img")}"}`, 404],
    ["/v1/exports", "POST", `{"name":"a\\u0000","stack":"${base}"}`, 400],
    ["/v1/exports", "POST", `{"name":"${"n".repeat(5000)}","stack":"${base}"}`, 400],
    ["/v1/exports", "POST", `{"name":"${"n".repeat(100_000)}"}`, 400],
    ["/v1/exports", "POST", `{"name":"a","stack":"${base}","access":"any"}`, 400],
    ["/v1/exports", "POST", `{"name":"a","stack":"${base}","reserve":-1}`, 400],
    ["/v1/exports/x", "PUT", undefined, 404],
    ["/v1/exports/%ff", "GET", undefined, 404],
    ["/v1/exports/x?force=maybe", "DELETE", undefined, 400],
    ["/v1/exports", "POST", `{"name":"\\ud800","stack":"${base}"}`, 400],
    ["/v1/exports/x?force=true&drain=true", "DELETE", undefined, 400],
    ["/v1/jobs/-1", "GET", undefined, 400],
    ["/v1/events?below=5", "GET", undefined, 400],
    ["/v1/events?name=none", "GET", undefined, 404],
    ["/../../etc/passwd", "GET", undefined, 404],
  ] as const;
  for (const [path, method, body, status] of refused) {
    const answer = await ask(path, method, body);
    expect([method, path, body, answer.status]).toEqual([method, path, body, status]);
    expect(JSON.parse(answer.text)).toMatchObject({ error: { code: expect.any(String), message: expect.any(String) } });
  }
  expect(await control.list()).toEqual({ exports: [] });
});

test("what is no HTTP, or stops in the middle, is hung up on, and the server goes on", async () => {
  const control = await held.start();
  const said = [
    "NBDMAGIC",
    "GET /\r\n\r\n",
    `GET / HTTP/1.1\r\nx: ${"y".repeat(100_000)}\r\n\r\n`,
    "POST /v1/stop HTTP/1.1\r\n",
  ];
  for (const bytes of [...said, Buffer.from(noise(5000, 3))]) {
    const socket = net.connect(held.server?.ready.control ?? "");
    socket.on("error", () => undefined);
    socket.end(bytes);
    await new Promise((resolve) => socket.once("close", resolve).resume());
  }
  expect(await control.list()).toEqual({ exports: [] });
});
