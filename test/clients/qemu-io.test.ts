/**
 * Single requests by qemu-io, and requests that nbdkit's checkwrite filter compares with the data, against a server of
 * ours: patterns at any offset, zeros, discards, FUA.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cowtool, isClean, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients, runClient } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { scratchDirectory, sha256 } from "../support/scratch.ts";

const SIZE = 32 * MIB;

const noQemu = missesClients("single requests are not made by qemu-io", "qemu-io");
const noNbdkit = missesClients("nbdkit is not put before our server", "nbdkit", "nbdcopy", "nbdinfo");

const path = scratchDirectory();
const base = makeBase(path("base"), SIZE);
const baseSum = sha256(base);
const cowfile = path("top.cow");
let served: Served;

beforeAll(async () => {
  await cowtool("create", base, cowfile);
  served = await startServe([base, cowfile, "--socket", path("s.sock"), "--export", `ro=${base}`]);
});

afterAll(async () => {
  expect(await served.stop()).toMatchObject({ status: 0 });
  expect(await isClean(base, cowfile)).toBe(true);
  expect(sha256(base)).toBe(baseSum);
});

/** Runs commands of qemu-io; it fails when one of them does, or a pattern isn't there. */
function qemuIo(...commands: readonly string[]): Promise<string> {
  return client("qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), served.uri);
}

describe.skipIf(noQemu)("qemu-io", () => {
  test("reads what it wrote, at any offset and length", () =>
    qemuIo(
      ...["write -P 0xa1 0 512", "write -P 0xa2 511 3", "write -P 0xa3 1023 2050", "write -P 0xa4 1048575 65538"],
      ...["read -P 0xa1 0 511", "read -P 0xa2 511 3", "read -P 0xa3 1023 2050", "read -P 0xa4 1048575 65538"],
      ...[`write -P 0xa5 ${SIZE - 1} 1`, `read -P 0xa5 ${SIZE - 1} 1`],
    ));

  test("writes with FUA and flushes", () =>
    qemuIo(
      ...["write -f -P 0xb1 2M 70000", "flush", "read -P 0xb1 2M 70000", "write -z -f 2M 35000"],
      ...["read -P 0 2M 35000", `read -P 0xb1 ${2 * MIB + 35_000} 35000`],
    ));

  test("writes zeros, with holes and without, over data of the base", () =>
    qemuIo(
      ...["write -z 4M 1M", "read -P 0 4M 1M", "write -zu 6M 1M", "read -P 0 6M 1M"],
      ...["write -z 8389000 777", "read -P 0 8389000 777", "write -zu 8400001 99999", "read -P 0 8400001 99999"],
    ));

  test("discards, and the base does not show through", async () => {
    await qemuIo("write -P 0xc1 12M 2M", "discard 12M 1M", "read -P 0xc1 13M 1M");
    // All zeros, or all as written; never the base, which is neither.
    const reads = ["0", "0xc1"].map((pattern) => ["-f", "raw", "-c", `read -P ${pattern} 12M 1M`, served.uri]);
    const [zeros, kept] = await Promise.all(reads.map((args) => runClient("qemu-io", args)));
    expect([zeros?.status, kept?.status].sort()).toEqual([0, 1]);
  });

  test("has many requests at a time", () => {
    const all = (command: string): string[] =>
      Array.from({ length: 64 }, (_, i) => `${command} -P ${i + 1} ${16 * MIB + i * 33_333} 33333`);
    return qemuIo(...all("aio_write"), "aio_flush", ...all("read"));
  });

  test("is refused on a read-only export", async () => {
    const uri = served.uris.get("ro") ?? "";
    const { status, stderr } = await runClient("qemu-io", ["-f", "raw", "-c", "write 0 512", uri]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/permission denied|read-only/i);
    await client("qemu-io", "-r", "-f", "raw", "-c", "read 0 64k", uri);
  });
});

describe.skipIf(noNbdkit)("nbdkit before our server", () => {
  test("finds with its checkwrite filter that every byte is what it was", async () => {
    const image = path("as-is.img");
    await client("nbdcopy", served.uri, image);
    const nbd = ["--filter=checkwrite", "nbd", `uri=${served.uri}`];
    await client("nbdkit", "-U", "-", ...nbd, "--run", `nbdcopy --connections=4 ${image} "$uri"`);
  });

  test("logs every kind of request without an error", async () => {
    const log = path("log");
    const run = `nbdinfo "$uri" && nbdinfo --map "$uri" && nbdcopy "$uri" null:`;
    await client("nbdkit", "-U", "-", "--filter=log", "nbd", `uri=${served.uri}`, `logfile=${log}`, "--run", run);
    const text = readFileSync(log, "utf8");
    expect(text).toMatch(/Extents/);
    expect(text).not.toMatch(/return=-1|error=/);
  });
});
