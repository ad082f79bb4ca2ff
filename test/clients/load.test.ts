/**
 * Load that checks itself, by fio, against a server of ours: several jobs on connections of their own; and what was
 * answered before a kill -9 in the middle of it.
 */
import { statSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { cowtool, isClean, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients, runClient } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { until } from "../support/nbd/program.ts";
import { scratchDirectory, sha256 } from "../support/scratch.ts";

const SIZE = 64 * MIB;
const JOBS = 4;

const noFio = missesClients("no load by fio", "fio");

const path = scratchDirectory();
const base = makeBase(path("base"), SIZE);
const baseSum = sha256(base);
let served: Served | undefined;

afterEach(() => served?.stop("SIGKILL"));

/** fio on a part of the export, each job on its own quarter of it. */
function fio(uri: string, offset: number, length: number, ...more: readonly string[]): readonly string[] {
  const quarter = length / JOBS;
  return [
    ...["--name=job", "--ioengine=nbd", `--uri=${uri}`, `--numjobs=${JOBS}`, "--group_reporting", "--iodepth=16"],
    ...[`--offset=${offset}`, `--offset_increment=${quarter}`, `--size=${quarter}`, "--randseed=4711"],
    ...["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--output-format=terse", ...more],
  ];
}

describe.skipIf(noFio)("fio", () => {
  test.each([
    ["4 KiB, random", ["--rw=randwrite", "--bs=4k"]],
    ["512 B to 64 KiB, random, flushed now and then", ["--rw=randrw", "--bsrange=512-64k", "--fsync=64"]],
    ["768 bytes, which are no block of anybody's", ["--rw=randwrite", "--bs=768", "--size=1536000"]],
    ["1 MiB, one after another", ["--rw=write", "--bs=1m"]],
  ])("reads what it wrote: %s", async (name, way) => {
    const cowfile = path(`${name[0]}.cow`);
    await cowtool("create", base, cowfile);
    served = await startServe([base, cowfile, "--socket", path(`${name[0]}.sock`)]);
    await client("fio", ...fio(served.uri, 0, 16 * MIB, ...way));
    expect(await served.stop()).toMatchObject({ status: 0 });
    expect(await isClean(base, cowfile)).toBe(true);
    expect(sha256(base)).toBe(baseSum);
  });

  test("finds everything that was answered before a kill -9 in the middle of its load", async () => {
    const [cowfile, socket] = [path("top.cow"), path("s.sock")];
    await cowtool("create", base, cowfile);
    served = await startServe([base, cowfile, "--socket", socket]);
    const answered = fio(served.uri, 0, 16 * MIB, "--rw=randwrite", "--bs=4k", "--end_fsync=0");
    await client("fio", ...answered, "--do_verify=0");

    // The same again elsewhere, until the server is no more.
    const way = ["--rw=randwrite", "--bs=4k", "--time_based=1", "--runtime=30", "--do_verify=0"];
    const load = runClient("fio", fio(served.uri, 32 * MIB, 32 * MIB, ...way));
    const { blocks } = statSync(cowfile);
    await until(() => statSync(cowfile).blocks > blocks + MIB / 512, "the load to be under way");
    await served.stop("SIGKILL");
    expect((await load).status).not.toBe(0);

    served = await startServe([base, cowfile, "--socket", socket]);
    expect(served.complained()).toContain("nothing is lost");
    await client("fio", ...answered, "--verify_only");
    await client("fio", ...fio(served.uri, 0, SIZE, "--rw=randrw", "--bs=64k"));
    expect(await served.stop()).toMatchObject({ status: 0 });
    expect(await isClean(base, cowfile)).toBe(true);
    expect(sha256(base)).toBe(baseSum);
  });
});
