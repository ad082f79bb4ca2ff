/**
 * Proves the page of a server against a running one, without a browser: what it sends, whom it refuses, and that its map is
 * right. test/browser shows it.
 */
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { afterEach, expect, test } from "vitest";
import { type ControlClient, connect } from "../../../src/lib/control/client.ts";
import type { PageDocument } from "../../../src/lib/control/page/page-document.ts";
import { BITMAP_OFFSET_BYTES } from "../../../src/lib/formats/cowfile/layout.ts";
import { makePki } from "../../support/clients/tls.ts";
import { makeChain } from "../../support/nbd/chained-stack.ts";
import { CMD, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SIZE = 64 << 20;
/** 1024 cells. */
const CELL = SIZE / 1024;
const at = scratchDirectory();
let server: TestServer | undefined;
let count = 0;

afterEach(async () => {
  await server?.stop().catch(() => undefined);
  server = undefined;
});

interface Page {
  readonly control: ControlClient;
  readonly url: URL;
  readonly token: string;
}

async function startPage(stack: string, name = "vm1"): Promise<Page> {
  const control = at(`control${count++}`);
  const dashboard = { host: "127.0.0.1", port: 0 };
  server = await startServing(at, [{ name, stack }], { control, dashboard });
  const client = await connect({ server: control });
  const { url, token } = await client.dashboard();
  expect(server.ready).toMatchObject({ dashboard: url });
  return { control: client, url: new URL(url), token };
}

/** 64 MiB: data in the first four cells, the rest a hole; a cowfile over it. */
async function freshStack(): Promise<readonly [base: string, cowfile: string]> {
  const base = at(`base${count++}.img`);
  makeImage(base, Buffer.alloc(4 * CELL, 1), SIZE);
  return [base, await makeCowfile(base, at(`vm${count++}.cow`))];
}

interface Asked {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Answered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

/** With any headers, which fetch does not allow. */
function ask(url: URL, path: string, { method = "GET", headers = {} }: Asked = {}): Promise<Answered> {
  const { hostname, port } = url;
  return new Promise((resolve, reject) => {
    const asked = http.request({ hostname, port, path, method, agent: false, headers }, async (response) => {
      let text = "";
      for await (const part of response.setEncoding("utf8")) text += part;
      resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
    });
    asked.on("error", reject);
    asked.end();
  });
}

/** The page's data until one of its documents is as wanted. */
async function dataUntil(url: URL, name: string, isWanted: (page: PageDocument) => boolean): Promise<PageDocument> {
  const query = new URLSearchParams({ name });
  const response = await fetch(new URL(`data?${query}`, url));
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  let rest = "";
  for await (const bytes of response.body ?? []) {
    const parts = `${rest}${Buffer.from(bytes).toString("utf8")}`.split("\n\n");
    rest = parts.pop() ?? "";
    const pages = parts.map((part) => JSON.parse(part.replace(/^data: /, "")) as PageDocument);
    const wanted = pages.find(isWanted);
    if (wanted) return wanted;
  }
  throw new Error("the server ended its data");
}

/** Is the page there? So that something can be done until then. */
function whileAsking(asked: Promise<PageDocument>): { readonly page: Promise<PageDocument>; is: boolean } {
  const state = { page: asked, is: false };
  asked.finally(() => {
    state.is = true;
  });
  return state;
}

const isMapped = ({ looked_at }: PageDocument): boolean => looked_at?.parts[0]?.shown_bytes !== null;

test("the page and its files are small, and every answer tells browsers to trust nothing else", async () => {
  const { url } = await startPage((await freshStack()).join(","));
  let bytes = 0;
  for (const path of ["/", "/page.js", "/page.css", "/icon.svg"]) {
    const { status, headers, text } = await ask(url, path);
    expect([path, status]).toEqual([path, 200]);
    bytes += text.length;
    expect(headers).toMatchObject({ "x-content-type-options": "nosniff", "cache-control": "no-store" });
    expect(headers["content-security-policy"]).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self';/);
    expect(headers).not.toHaveProperty("access-control-allow-origin");
    // Nothing is loaded from elsewhere, and nothing is inline.
    expect(text.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\/|\bstyle=|<script>|\son\w+=/);
  }
  expect(bytes).toBeLessThan(300 << 10);
});

test("a name that is not its own, another site, and a missing or wrong token are refused; nothing is synced by that", async () => {
  const [base, cowfile] = await freshStack();
  const { url, token } = await startPage(`${base},${cowfile}`);
  const session = await RawSession.open(server?.socket ?? "", "structured", { name: "vm1" });
  await session.ask({ type: CMD.WRITE, offset: 0, length: 4096, payload: Buffer.alloc(4096, 2) });
  const isSynced = (): boolean => ((readFileSync(cowfile)[BITMAP_OFFSET_BYTES] ?? 0) & 1) === 1;
  const origin = url.origin;
  const authorization = `Bearer ${token}`;
  const own = { origin, authorization };
  const refused: readonly (readonly [path: string, asked: Asked])[] = [
    ["/", { headers: { host: "evil.example" } }],
    ["/", { headers: { host: `evil.example:${url.port}` } }],
    ["/", { headers: { host: "127.0.0.1:1" } }],
    ["/data", { headers: { host: `rebound.example:${url.port}` } }],
    ["/data", { headers: { origin: "http://evil.example" } }],
    ["/data", { headers: { origin: "null" } }],
    ["/data", { headers: { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" } }],
    ["/page.js", { headers: { "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors" } }],
    ["/sync", { method: "POST" }],
    ["/sync", { method: "POST", headers: { authorization } }],
    ["/sync", { method: "POST", headers: { origin } }],
    ["/sync", { method: "POST", headers: { ...own, origin: "http://evil.example" } }],
    ["/sync", { method: "POST", headers: { ...own, host: `evil.example:${url.port}` } }],
    ["/sync", { method: "POST", headers: { ...own, "sec-fetch-site": "cross-site" } }],
    ["/sync", { method: "POST", headers: { origin, authorization: `Bearer ${token.slice(1)}` } }],
    ["/sync", { method: "POST", headers: { origin, authorization: token } }],
    [`/sync?token=${token}`, { method: "POST", headers: { origin } }],
    ["/sync", { method: "OPTIONS", headers: { "access-control-request-method": "POST" } }],
  ];
  for (const [path, asked] of refused) {
    const { status, text, headers } = await ask(url, path, asked);
    expect([path, asked, status]).toEqual([path, asked, 403]);
    expect(JSON.parse(text)).toMatchObject({ error: { code: "permission" } });
    expect(headers).toHaveProperty("content-security-policy");
    expect(text).not.toContain(token);
  }
  const odd = { host: `127.0.0.1:${url.port}@evil.example` };
  expect((await ask(url, "/", { headers: odd })).status).toBe(400);
  expect((await ask(url, "/sync", { headers: own })).status).toBe(404);
  expect(isSynced()).toBe(false);
  const link = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" };
  expect((await ask(url, "/", { headers: link })).status).toBe(200);
  expect((await ask(url, "/", { headers: { host: `localhost:${url.port}` } })).status).toBe(200);
  expect((await ask(url, "/sync?name=none", { method: "POST", headers: own })).status).toBe(404);
  const done = await ask(url, "/sync?name=vm1", { method: "POST", headers: own });
  expect([done.status, JSON.parse(done.text)]).toMatchObject([200, { exports: [{ name: "vm1" }] }]);
  expect(isSynced()).toBe(true);
  await session.goodbye();
});

test("the data has counters, latencies, and hostile names as they are", async () => {
  const name = `~</script><img src=x onerror=alert(1)>\u202e"'&\n\ndata: x`;
  const { url } = await startPage((await freshStack()).join(","), name);
  const session = await RawSession.open(server?.socket ?? "", "structured", { name });
  const isOver = whileAsking(dataUntil(url, `~${name}`, ({ looked_at }) => (looked_at?.latency.write.p99 ?? 0) > 0));
  while (!isOver.is) {
    await session.ask({ type: CMD.WRITE, offset: 8192, length: 4096, payload: Buffer.alloc(4096, 2) });
  }
  const { exports, looked_at } = await isOver.page;
  expect(exports).toMatchObject([{ name, state: "open", access: "writable", connections: 1, layers: 1, errors: 0 }]);
  expect(exports[0]?.bytes_written).toBe((exports[0]?.writes ?? 0) * 4096);
  expect(exports[0]?.free_bytes).toBeGreaterThan(0);
  expect(looked_at).toMatchObject({ name, parts: [{ role: "base", shared_by: 1 }, { role: "written" }] });
  for (const { held_bytes } of looked_at?.parts ?? []) expect(held_bytes).toBeGreaterThan(0);
  await session.goodbye();
});

test("the map has each cell from where it is, and what was written since", async () => {
  const [base, cowfile] = await freshStack();
  const { url } = await startPage(`${base},${cowfile}`);
  const session = await RawSession.open(server?.socket ?? "", "structured", { name: "vm1" });
  const write = async (offset: number, length: number): Promise<void> => {
    const { error } = await session.ask({ type: CMD.WRITE, offset, length, payload: Buffer.alloc(length, 2) });
    expect(error).toBe(0);
  };
  // Most of cell 1, little of cell 2, half of cell 9, and one of the last.
  await write(CELL, CELL - 8192);
  await write(2 * CELL, 4096);
  await write(9 * CELL, CELL / 2);
  await write(SIZE - 4096, 4096);
  const before = await dataUntil(url, "vm1", isMapped);
  const { levels = [], shares = [], ages = [], cell_bytes } = before.looked_at?.map ?? {};
  expect(cell_bytes).toBe(CELL);
  expect(levels.slice(0, 5)).toEqual([0, 1, 0, 0, -1]);
  expect([levels[9], levels[1023], levels.filter((level) => level === -1).length]).toEqual([1, 1, 1024 - 6]);
  expect(shares.slice(0, 3)).toEqual([100, 88, 94]);
  expect([shares[9], shares[1023], shares[1022]]).toEqual([50, 6, 100]);
  expect(before.looked_at?.parts.map((part) => part.shown_bytes)).toEqual([
    4 * CELL - (CELL - 8192) - 4096,
    CELL - 8192 + 4096 + CELL / 2 + 4096,
  ]);
  // What was written before it was looked at has no known time.
  expect(ages.every((age) => age === -1)).toBe(true);
  // Also what is written again, and needs no new block.
  const isOver = whileAsking(dataUntil(url, "vm1", ({ looked_at }) => (looked_at?.map?.ages[9] ?? -1) >= 0));
  while (!isOver.is) {
    await write(3 * CELL, 4096);
    await write(9 * CELL, 4096);
  }
  const written = (await isOver.page).looked_at?.map?.ages ?? [];
  expect(written.flatMap((age, cell) => (age >= 0 ? [cell] : []))).toEqual([3, 9]);
  await session.goodbye();
});

test("a checkpoint by the page needs the token and a stack file; chain and map have it, and what is written since", async () => {
  const base = makeImage(at(`base${count++}.img`), Buffer.alloc(4 * CELL, 1), SIZE);
  const { url, token, control } = await startPage(await makeChain(at, "p.stack", base, [], "p.cow"));
  const session = await RawSession.open(server?.socket ?? "", "structured", { name: "vm1" });
  const write = (offset: number): Promise<unknown> =>
    session.ask({ type: CMD.WRITE, offset, length: CELL, payload: Buffer.alloc(CELL, 2) });
  await write(CELL);
  const before = await dataUntil(url, "vm1", isMapped);
  expect(before.exports).toMatchObject([{ can_checkpoint: true }]);
  const origin = url.origin;
  const path = "/checkpoint?name=vm1&as=monday";
  expect((await ask(url, path, { method: "POST", headers: { origin } })).status).toBe(403);
  const own = { origin, authorization: `Bearer ${token}` };
  expect((await ask(url, "/checkpoint?name=vm1", { method: "POST", headers: own })).status).toBe(400);
  const made = await ask(url, path, { method: "POST", headers: own });
  expect([made.status, JSON.parse(made.text)]).toMatchObject([
    200,
    { checkpoint: "monday", exports: [{ name: "vm1" }] },
  ]);
  await write(2 * CELL);
  const after = await dataUntil(url, "vm1", ({ looked_at }) => looked_at?.map?.levels[2] === 2);
  expect(after.looked_at?.map?.levels.slice(0, 4)).toEqual([0, 1, 2, 0]);
  expect(after.looked_at?.parts.map((part) => [part.role, part.checkpoint])).toEqual([
    ["base", null],
    ["layer", "monday"],
    ["written", null],
  ]);
  expect(after.looked_at?.parts[1]?.checkpoint_ms).toBeGreaterThan(Date.now() - 60_000);
  await session.goodbye();
  await control.reopen("vm1", { access: "read-only" });
  expect((await dataUntil(url, "vm1", isMapped)).exports).toMatchObject([{ can_checkpoint: false }]);
});

test("an export that is closed and opened again, or removed and added, is shown as it is then", async () => {
  const stack = (await freshStack()).join(",");
  const { url, control } = await startPage(stack);
  await dataUntil(url, "vm1", isMapped);
  const closed = dataUntil(url, "vm1", ({ looked_at, exports }) => exports[0]?.state === "closed" && !looked_at?.map);
  await control.close("vm1");
  expect((await closed).exports).toMatchObject([{ virtual_size: null, allocated_bytes: null }]);
  const open = dataUntil(url, "vm1", isMapped);
  await control.reopen("vm1", { access: "read-only" });
  expect((await open).looked_at?.parts).toMatchObject([{ role: "base" }, { role: "layer" }]);
  await control.remove("vm1");
  let wasGone = false;
  const again = dataUntil(url, "vm1", ({ looked_at }) => {
    wasGone ||= looked_at === null;
    return wasGone && looked_at !== null;
  });
  await dataUntil(url, "vm1", ({ looked_at }) => looked_at === null);
  await control.add({ name: "vm1", stack });
  expect((await again).looked_at).toMatchObject({ name: "vm1" });
});

test("a page that others could reach needs a certificate; then it is known by the names in it only", async () => {
  const [base, cowfile] = await freshStack();
  const exports = [{ name: "vm1", stack: `${base},${cowfile}` }];
  const dashboard = { host: "0.0.0.0", port: 0 };
  for (const more of [{}, { insecure: true }, { tls: { psk: at("keys"), mode: "require" as const } }])
    await expect(startServing(at, exports, { dashboard, ...more })).rejects.toMatchObject({ code: "usage" });
  expect(existsSync(`${cowfile}.cowtool-live`)).toBe(false);
  const { server: certificates, trusting } = await makePki(at(`pki${count++}`));
  server = await startServing(at, exports, { dashboard, tls: { certificates, mode: "require" } });
  const port = new URL(server.ready.dashboard ?? "").port;
  const ca = readFileSync(`${trusting}/ca-cert.pem`);
  const statusOf = (host: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { host: `${host}:${port}` };
      https
        .get({ host: "127.0.0.1", servername: "localhost", port, ca, headers, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        })
        .on("error", reject);
    });
  expect(await Promise.all(["localhost", "127.0.0.1", "evil.example"].map(statusOf))).toEqual([200, 200, 403]);
});

test("a server without a page says so, and one whose address is in use does not start", async () => {
  const stack = (await freshStack()).join(",");
  const { url } = await startPage(stack);
  const dashboard = { host: "127.0.0.1", port: Number(url.port) };
  await expect(startServing(at, [], { control: at("second"), dashboard })).rejects.toMatchObject({ code: "io" });
  await server?.stop();
  const control = at(`control${count++}`);
  server = await startServing(at, [], { control });
  await expect((await connect({ server: control })).dashboard()).rejects.toMatchObject({ code: "not-found" });
});

test("a TiB with one byte of data is mapped", async () => {
  const base = at(`large${count++}.img`);
  writeFileSync(base, "");
  truncateSync(base, 2 ** 40);
  const fd = openSync(base, "r+");
  writeSync(fd, "x", 2 ** 39);
  closeSync(fd);
  const { url } = await startPage(base);
  const page = await dataUntil(url, "vm1", isMapped);
  expect(page.looked_at?.map?.levels.flatMap((level, cell) => (level === 0 ? [cell] : []))).toEqual([512]);
  expect(page.looked_at?.map?.cell_bytes).toBe(2 ** 30);
});
