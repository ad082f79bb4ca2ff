/**
 * Proves that the benchmarks run: each kind of workload once, small, with its rows, report and picture, against a server
 * that others wrote (COWTOOL_EXHAUSTIVE: every workload, all servers). Says nothing about times.
 */
import { execFile } from "node:child_process";
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { cowtool, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients, runClient } from "../support/clients/programs.ts";
import { startServe } from "../support/clients/server.ts";
import { ROOT } from "../support/command/run-command.ts";
import { HOW, sampleOf } from "../support/sample.ts";
import { scratchDirectory } from "../support/scratch.ts";

const LIMIT_MS = 600_000;

const ALL_PEERS = ["qemu", "nbdkit", "nbdkit4k", "nbdserver"];
/** QEMU's is the one that the README shows. */
const PEERS = ["qemu", ...sampleOf(ALL_PEERS.slice(1), 0)];
const EVERYBODY = [...PEERS, "cowtool", "bare"];
const COPIERS = [...PEERS, "cowtool"];
const OVER_NBD = COPIERS.filter((name) => name !== "nbdserver");

/** They differ in depth and connections only. */
const WRITES = sampleOf(["write-q1", "write-q16", "write-q64", "write-q64x4"], 1);
const WORKLOADS = [
  ...["read", ...WRITES, "overlay", "cold", "flush", "copy", "tcp", "remote", "tls"],
  ...["stall", "growth", "reopen", "offline"],
];

/** Which row is to have figures of which servers. */
const ROWS: ReadonlyArray<readonly [servers: readonly string[], ...ids: readonly string[]]> = [
  [EVERYBODY, "read-q1", "read-q16", "read-q64", "read-q64x4", "read-q64-single", "read-seq"],
  [EVERYBODY, ...WRITES.flatMap((id) => [`${id}-first`, `${id}-again`])],
  [EVERYBODY, "write-seq-first", "write-seq-again", "overlay-seq", "overlay-q16", "mix-q16"],
  [EVERYBODY, "cold-q1", "cold-q16", "cold-q64", "cold-seq", "flush-q1"],
  [EVERYBODY, "tcp-q1", "tcp-q64", "tcp-seq", "tcp-write-q16"],
  [COPIERS, "copy"],
  [COPIERS.filter((name) => name !== "nbdkit"), "copy-4k"],
  [OVER_NBD, "remote-q1", "remote-q16", "remote-q64", "remote-seq", "tls"],
  [OVER_NBD.filter((name) => name !== "nbdkit"), "tls-4k"],
];

interface Row {
  readonly id: string;
  readonly title: string;
  readonly metric: string;
  readonly results: Readonly<Record<string, ReadonlyArray<Readonly<Record<string, number>> | null>>>;
}

interface Results {
  readonly online: readonly Row[];
  readonly stall: readonly Row[];
  readonly growth: ReadonlyArray<{ readonly id: string; readonly results: ReadonlyArray<readonly unknown[]> }>;
  readonly reopen: ReadonlyArray<{ readonly id: string; readonly results: readonly unknown[] }>;
  readonly offline: ReadonlyArray<{
    readonly rows: ReadonlyArray<{ readonly name: string; readonly results: object }>;
  }>;
  readonly failures: number;
}

const noLoad = missesClients("no load of the benchmarks", "gcc");
const noPeers = missesClients("no smoke run of the benchmarks", "gcc", "qemu-nbd", "nbdkit", "nbd-server", "nbdcopy");

const path = scratchDirectory();

/** Much longer than a quiet machine needs: other tests run beside it. */
const runScript = (script: string, ...args: readonly string[]): Promise<unknown> =>
  promisify(execFile)(process.execPath, [join(ROOT, script), ...args], { timeout: LIMIT_MS, maxBuffer: 16 * MIB });

describe.skipIf(noPeers)(`a smoke run of the benchmarks (${HOW})`, () => {
  let results: Results;
  let [report, picture] = ["", ""];

  beforeAll(async () => {
    const [json, markdown, svg] = [path("results.json"), path("RESULTS.md"), path("bench.svg")];
    const files = ["--json", json, "--report", markdown, "--svg", svg, "--dir", path(".")];
    const some = ["--peers", [...PEERS, "bare"].join(","), "--only", WORKLOADS.join(",")];
    await runScript("bench/run.mjs", "--smoke", ...some, ...files);
    results = JSON.parse(readFileSync(json, "utf8"));
    report = readFileSync(markdown, "utf8");
    picture = readFileSync(svg, "utf8");
  }, LIMIT_MS);

  test("has the rows, with figures of every server that can do it", () => {
    const wanted = ROWS.flatMap(([servers, ...ids]) => ids.map((id) => [id, [...servers].sort()]));
    const found = results.online.map(({ id, metric, results: samples }) => [
      id,
      Object.keys(samples)
        .filter((server) => (samples[server]?.[0]?.[metric] ?? 0) > 0)
        .sort(),
    ]);
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(wanted));
    expect(results.failures).toBe(0);
  });

  test("looks at slow disks, growth, reopening and the offline commands", () => {
    const slow = existsSync("/dev/fuse") ? ["stall-nbd", "stall-file"] : ["stall-nbd"];
    expect(results.stall.map(({ id }) => id)).toEqual(slow);
    for (const row of results.stall)
      expect(row.results["cowtool"]?.[0], row.id).toMatchObject({ beside_p99_us: expect.any(Number) });
    expect(results.growth.map(({ id }) => id)).toEqual(["size", "connections", "layers", "extents"]);
    expect(results.growth.flatMap((row) => row.results.flat())).not.toContain(null);
    expect(results.reopen.map(({ id }) => id)).toEqual(["image"]);
    expect(results.reopen.flatMap((row) => row.results)).not.toContain(null);
    const jobs = results.offline.flatMap(({ rows }) => rows);
    expect(jobs.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["repair", "merge", "diff of two cowfiles", "pack (zstd)", "unpack (zstd)", "info --map"]),
    );
    for (const { name, results: samples } of jobs) expect(samples, name).toMatchObject({ cowtool: [{}] });
  });

  test("tells all of it in a report, and draws what has a peer", () => {
    for (const { title } of results.online) expect(report).toContain(`| ${title} |`);
    expect(report).not.toMatch(/NaN|undefined|Infinity/);
    expect(picture).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    expect(picture).not.toMatch(/NaN|undefined|Infinity/);
    for (const { title } of results.online) expect(picture).toContain(`>${title}<`);
  });

  test("writes the table of README.md, and nothing else there", async () => {
    copyFileSync(join(ROOT, "README.md"), path("README.md"));
    const args = ["--readme", "--file", path("README.md"), path("results.json")];
    await runScript("bench/report.mjs", ...args);
    const withoutTable = (text: string): string =>
      text.replace(/(<!-- bench:begin -->)[\s\S]*(<!-- bench:end -->)/, "$1$2");
    const [before, after] = [join(ROOT, "README.md"), path("README.md")].map((name) => readFileSync(name, "utf8"));
    expect(after).toContain("| 4 KiB random read QD1 |");
    expect(withoutTable(after ?? "")).toBe(withoutTable(before ?? ""));
  });
});

describe.skipIf(noLoad)("the load generator", () => {
  test("finds what it wrote, and finds out what it did not write", async () => {
    const [base, cowfile, load] = [path("base"), path("top.cow"), path("load")];
    makeBase(base, 16 * MIB);
    await cowtool("create", base, cowfile);
    await client("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", load, join(ROOT, "bench/load.c"));
    const served = await startServe([base, cowfile, "--socket", path("s.sock")]);
    const half = ["--length", `${8 * MIB}`, "--verify"];
    const to = ["--unix", path("s.sock"), "--connections", "2"];
    try {
      const [write, read] = [
        ["randwrite", "--depth", "16", "--operations", "2048", ...half],
        ["randread", "--bytes", "1536", "--depth", "16", "--operations", "2000", ...half],
      ];
      const lines = (await client(load, ...to, ...write, "/", ...read)).trim().split("\n");
      expect(lines.map((line) => JSON.parse(line))).toMatchObject([
        { mode: "randwrite", operations: 2048, failed: 0, wrong: 0 },
        { mode: "randread", operations: 2000, failed: 0, wrong: 0 },
      ]);
      const beyond = await runClient(load, [...to, "read", "--operations", "16", "--offset", `${8 * MIB}`, "--verify"]);
      expect(beyond.status).toBe(2);
      expect(JSON.parse(beyond.stdout)).toMatchObject({ operations: 16, failed: 0, wrong: expect.any(Number) });
      expect(JSON.parse(beyond.stdout).wrong).toBeGreaterThan(0);
    } finally {
      await served.stop();
    }
  });
});
