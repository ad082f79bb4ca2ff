/**
 * What nbdinfo, nbd-client and qemu-img say of a server of ours, and whether qemu-nbd says the same of a qcow2 overlay
 * with the same history.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { cowtool, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients, runClient } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { startQemuNbd, uriOf } from "../support/nbd/servers.ts";
import { scratchDirectory } from "../support/scratch.ts";

const SIZE = 48 * MIB;
const DATA = 32 * MIB;
const [ALLOCATION, DEPTH, DIRTY] = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cowtool"];

const noNbdinfo = missesClients("nbdinfo is not asked", "nbdinfo");
const noNbdClient = missesClients("nbd-client is not asked", "nbd-client");
const noQemu = missesClients("what qemu-nbd says is not compared", "nbdinfo", "qemu-nbd", "qemu-img", "qemu-io");

const path = scratchDirectory();
let served: Served;
let port: string;

interface Info {
  readonly exports: readonly Readonly<Record<string, unknown>>[];
}

type Extents = readonly { readonly offset: number; readonly length: number; readonly type: number }[];

/** What is done to both: data, zeros that may be holes, discards, over data of the base and over its hole. */
const HISTORY = [
  ...["write -P 5 1M 128k", "write -zu 8M 1M", "write -z 4M 64k"],
  ...["write -P 7 40M 64k", "discard 12M 1M", "write -P 1 0 64k"],
].flatMap((command) => ["-c", command]);

async function map(uri: string, context: string): Promise<Extents> {
  return JSON.parse(await client("nbdinfo", "--json", `--map=${context}`, uri)) as Extents;
}

beforeAll(async () => {
  makeBase(path("base"), DATA, SIZE);
  makeBase(path("other"), MIB);
  await cowtool("create", path("base"), path("top.cow"));
  served = await startServe([
    ...[path("base"), path("top.cow"), "--export", `read only=${path("other")}`],
    ...["--listen", "127.0.0.1:0"],
  ]);
  port = /:(\d+)\//.exec(served.uri)?.[1] ?? "";
});

describe.skipIf(noNbdinfo)("nbdinfo", () => {
  test("is told everything about an export", async () => {
    const info = JSON.parse(await client("nbdinfo", "--json", served.uri)) as Info;
    expect(info).toMatchObject({ protocol: "newstyle-fixed", TLS: false, structured: true });
    expect(info.exports).toHaveLength(1);
    expect(info.exports[0]).toMatchObject({
      "export-name": "",
      "export-size": SIZE,
      contexts: [ALLOCATION, DEPTH, DIRTY],
      is_read_only: false,
      is_rotational: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 64 * MIB,
    });
  });

  test("lists the exports", async () => {
    const { exports } = JSON.parse(await client("nbdinfo", "--json", "--list", served.uri)) as Info;
    expect(exports.map((one) => one["export-name"])).toEqual(["", "read only"]);
    expect(exports[1]).toMatchObject({ "export-size": MIB, is_read_only: true, can_zero: false, can_trim: false });
  });

  test("can do everything", async () => {
    for (const what of ["flush", "fua", "trim", "zero", "fast-zero", "df", "cache", "multi-conn", "structured-reply"])
      expect((await runClient("nbdinfo", ["--can", what, served.uri])).status, what).toBe(0);
  });

  test("sees that an export is read-only, by the URI it was told", async () => {
    expect((await runClient("nbdinfo", ["--is", "read-only", served.uris.get("read only") ?? ""])).status).toBe(0);
    expect((await runClient("nbdinfo", ["--is", "read-only", served.uri])).status).toBe(2);
  });

  test("is refused a wrong name", async () => {
    const { status, stderr } = await runClient("nbdinfo", [`nbd://127.0.0.1:${port}/nobody`]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/no export|No such file/i);
  });

  test("gets what it printed itself, and no more, where it starts the server", async () => {
    const argv = [process.execPath, "bin/run.js", "serve", path("other")];
    expect(await client("nbdinfo", "--size", "--", "[", ...argv, "]")).toBe(`${MIB}\n`);
  });
});

describe.skipIf(noNbdClient)("nbd-client", () => {
  test("lists the exports", async () => {
    const { stdout, stderr, status } = await runClient("nbd-client", ["-l", "127.0.0.1", port]);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(stdout).toContain("read only");
  });
});

describe.skipIf(noQemu)("the same history on a qcow2 overlay behind qemu-nbd", () => {
  let theirs: string;

  beforeAll(async () => {
    const overlay = path("top.qcow2");
    await client("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", path("base"), overlay);
    await client("qemu-img", "bitmap", "--add", overlay, "b0");
    const socket = path("qemu.sock");
    await startQemuNbd(socket, ["-A", "-B", "b0", "-f", "qcow2", "--discard=unmap", overlay]);
    theirs = uriOf(socket);
    for (const uri of [theirs, served.uri]) await client("qemu-io", "-f", "raw", ...HISTORY, uri);
  });

  test("has the same bytes", async () => {
    expect(await client("qemu-img", "compare", "-f", "raw", "-F", "raw", theirs, served.uri)).toContain("identical");
  });

  test("has the same written parts in its dirty bitmap", async () => {
    expect(await map(served.uri, `${DIRTY}`)).toEqual(await map(theirs, "qemu:dirty-bitmap:b0"));
  });

  test("has the same depths, but that we call a hole of the base nowhere", async () => {
    const [mine, other] = [await map(served.uri, `${DEPTH}`), await map(theirs, `${DEPTH}`)];
    const typeAt = (extents: Extents, at: number): number =>
      extents.find(({ offset, length }) => at >= offset && at < offset + length)?.type ?? -1;
    for (let at = 0; at < SIZE; at += 64 * 1024) {
      const type = typeAt(mine, at);
      expect(type === 0 && at >= DATA ? 2 : type, `at byte ${at}`).toBe(typeAt(other, at));
    }
  });

  test("has as many zeros, but for those that must not be holes and pages at the ends", async () => {
    const zeros = (extents: Extents): number =>
      extents.reduce((sum, { length, type }) => ((type & 2) !== 0 ? sum + length : sum), 0);
    const more = zeros(await map(theirs, `${ALLOCATION}`)) - zeros(await map(served.uri, `${ALLOCATION}`));
    expect(more).toBeGreaterThanOrEqual(0);
    expect(more).toBeLessThanOrEqual(64 * 1024 + 4 * 4096);
  });
});

describe.skipIf(noQemu)("qemu-img", () => {
  test("knows size and map of an export", async () => {
    const info: unknown = JSON.parse(await client("qemu-img", "info", "--output", "json", served.uri));
    expect(info).toMatchObject({ "virtual-size": SIZE, format: "raw" });
    const extents = JSON.parse(await client("qemu-img", "map", "-f", "raw", "--output", "json", served.uri)) as {
      readonly length: number;
    }[];
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(SIZE);
    expect(extents.at(-1)).toMatchObject({ zero: true, data: false });
  });
});
