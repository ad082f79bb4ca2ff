/**
 * TLS between a server of ours and other people's clients: GnuTLS by way of libnbd's tools and of QEMU, certificates and
 * pre-shared keys, who gets in and who does not.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { cowtool, isClean, MIB, makeBase } from "../support/clients/images.ts";
import { type ClientResult, client, missesClients, runClient } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { makePki, type Pki } from "../support/clients/tls.ts";
import { scratchDirectory, sha256 } from "../support/scratch.ts";

const SIZE = 20 * MIB;

const noTools = missesClients("TLS is not tried with libnbd", "nbdinfo", "nbdcopy", "certtool", "psktool");
const noQemu = missesClients("TLS is not tried with QEMU", "qemu-img", "certtool", "psktool");

const path = scratchDirectory();
const base = makeBase(path("base"), SIZE);
const source = makeBase(path("source"), 5 * MIB, SIZE);
const keys = join(path("psk"), "keys.psk");
const wrongKeys = join(path("wrong"), "keys.psk");
let pki: Pki;
let served: Served | undefined;
let count = 0;

/** Serves a new cowfile over TCP with these flags. */
async function serve(...flags: readonly string[]): Promise<{ readonly authority: string; readonly cowfile: string }> {
  const cowfile = path(`${++count}.cow`);
  await cowtool("create", base, cowfile);
  served = await startServe([base, cowfile, "--listen", "127.0.0.1:0", ...flags]);
  const port = /:(\d+)\//.exec(served.uri)?.[1] ?? "";
  return { authority: `localhost:${port}`, cowfile };
}

async function expectIn(uri: string): Promise<void> {
  expect(await runClient("nbdinfo", ["--size", uri])).toEqual({ stdout: `${SIZE}\n`, stderr: "", status: 0 });
}

async function expectOut(uri: string, words: RegExp): Promise<void> {
  const { status, stderr } = await runClient("nbdinfo", ["--size", uri]);
  expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(words) });
}

beforeAll(async () => {
  if (noTools && noQemu) return;
  pki = await makePki(path("pki"));
  for (const [directory, file] of [
    [path("psk"), keys],
    [path("wrong"), wrongKeys],
  ] as const) {
    mkdirSync(directory);
    await client("psktool", "-u", "alice", "-p", file);
  }
});

afterEach(() => served?.stop("SIGKILL"));

describe.skipIf(noTools)("libnbd", () => {
  test("gets in with the authority's certificate, plain clients do not", async () => {
    const { authority } = await serve("--tls-certificates", pki.server);
    expect(served?.uri).toMatch(/^nbds:/);
    await expectIn(`nbds://${authority}/?tls-certificates=${pki.trusting}`);
    await expectIn(`nbds://${authority.replace("localhost", "127.0.0.1")}/?tls-certificates=${pki.trusting}`);
    await expectOut(`nbd://${authority}/`, /server requires TLS encryption first/);
    await expectIn(`nbds://${authority}/?tls-certificates=${pki.trusting}`);
    expect(await served?.stop()).toMatchObject({ status: 0 });
    expect(served?.complained()).toBe("");
  });

  test("gets in with and without TLS where TLS is allowed", async () => {
    const { authority } = await serve("--tls-certificates", pki.server, "--tls", "allow");
    await expectIn(`nbds://${authority}/?tls-certificates=${pki.trusting}`);
    await expectIn(`nbd://${authority}/`);
  });

  test("gets TLS refused by a server that has none", async () => {
    const { authority } = await serve();
    await expectOut(`nbds://${authority}/?tls-certificates=${pki.trusting}`, /TLS/);
    await expectIn(`nbd://${authority}/`);
  });

  test("needs a client's certificate where the server has an authority's", async () => {
    const { authority } = await serve("--tls-certificates", pki.serverAsksClients);
    await expectIn(`nbds://${authority}/?tls-certificates=${pki.known}`);
    await expectOut(`nbds://${authority}/?tls-certificates=${pki.trusting}`, /TLS|reset/i);
    await expectOut(`nbds://${authority}/?tls-certificates=${pki.stranger}`, /TLS|reset/i);
    await expectIn(`nbds://${authority}/?tls-certificates=${pki.known}`);
  });

  test("gets in with the right pre-shared key only", async () => {
    const socket = path("psk.sock");
    await serve("--tls-psk", keys, "--socket", socket);
    const uri = `nbds+unix://alice@/?socket=${socket}&tls-psk-file=`;
    await expectIn(uri + keys);
    await expectOut(uri + wrongKeys, /TLS/);
    await expectOut(`nbd+unix:///?socket=${socket}`, /server requires TLS encryption first/);
    await expectIn(uri + keys);
  });

  test.each([
    ["pre-shared keys", () => ["--tls-psk", keys], () => `tls-psk-file=${keys}`],
    ["certificates", () => ["--tls-certificates", pki.server], () => `tls-certificates=${pki.trusting}`],
  ] as const)("copies an image in and out over four connections with %s", async (_name, flags, query) => {
    const { authority, cowfile } = await serve(...flags());
    const uri = `nbds://alice@${authority}/?${query()}`;
    await client("nbdcopy", "--connections=4", source, uri);
    await client("nbdcopy", "--connections=4", uri, path("back.img"));
    expect(sha256(path("back.img"))).toBe(sha256(source));
    expect(await served?.stop()).toMatchObject({ status: 0 });
    expect(await isClean(base, cowfile)).toBe(true);
  });
});

describe.skipIf(noQemu)("QEMU", () => {
  function compare(authority: string, credentials: string): Promise<ClientResult> {
    const port = authority.split(":")[1];
    const mine = `driver=raw,file.driver=nbd,file.host=localhost,file.port=${port},file.tls-creds=t`;
    const object = ["--object", `${credentials},id=t,endpoint=client`, "--image-opts"];
    return runClient("qemu-img", ["compare", ...object, mine, `driver=raw,file.filename=${base}`]);
  }

  test("gets in with certificates, and reads all of an image", async () => {
    const { authority } = await serve("--tls-certificates", pki.serverAsksClients);
    expect(await compare(authority, `tls-creds-x509,dir=${pki.known}`)).toMatchObject({ status: 0 });
    expect((await compare(authority, `tls-creds-x509,dir=${pki.stranger}`)).status).toBeGreaterThan(1);
  });

  test("gets in with a pre-shared key, and reads all of an image", async () => {
    const { authority } = await serve("--tls-psk", keys);
    expect(await compare(authority, `tls-creds-psk,username=alice,dir=${path("psk")}`)).toMatchObject({ status: 0 });
    expect((await compare(authority, `tls-creds-psk,username=alice,dir=${path("wrong")}`)).status).toBeGreaterThan(1);
  });
});
