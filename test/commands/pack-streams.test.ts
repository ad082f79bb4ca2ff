/**
 * Proves pack and unpack as processes in a pipeline: through pipes, into readers that go away, onto full disks, under
 * signals, and against files made to hurt. Each is done within seconds, and leaves nothing behind.
 */
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectErrorJson, expectErrorLine, expectJson } from "../support/command/harness.ts";
import { type Ended, finish, pause, type Started, start } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";
import { denseCow, packed, payloadOf, tinyCow } from "../support/images/pack-images.ts";
import { containerOf, honestRows } from "../support/images/zstd-containers.ts";
import { until } from "../support/nbd/program.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const at = scratchDirectory();
const dense = denseCow(5000);
const FORMATS = ["zstd", "gzip", "plain"] as const;
const COWTOOL = `"${process.execPath}" "${ROOT}/bin/run.js"`;

/** Where outputs go: empty before each test. */
let out = (name: string): string => at(name);
let count = 0;

beforeAll(async () => {
  writeFileSync(at("dense.cow"), dense.content.toBytes());
  for (const format of FORMATS) writeFileSync(at(`dense.${format}`), await packed(dense, format));
});

beforeEach(() => {
  const folder = at(`${count++}`);
  mkdirSync(folder);
  out = (name) => `${folder}/${name}`;
});

function shell(line: string): Buffer {
  const options = { shell: "/bin/bash", maxBuffer: 64 << 20, stdio: ["ignore", "pipe", "ignore"] } as const;
  return execFileSync(`set -o pipefail; ${line}`, options as unknown as string[]) as unknown as Buffer;
}

/** Ends it by SIGKILL if it is still there then: a test must fail, not hang, nor fill the disk. */
async function within(ms: number, { child, ended }: Started): Promise<Ended & { readonly late: boolean }> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, ms);
  const result = await ended;
  clearTimeout(timer);
  return { ...result, late };
}

describe("in a pipeline", () => {
  test.each(FORMATS)("%s: pack - - | unpack - - is cat", (format) => {
    const through = `cat ${at("dense.cow")} | ${COWTOOL} pack - - --format ${format} | ${COWTOOL} unpack - - | cat`;
    expect(shell(through).equals(readFileSync(at("dense.cow")))).toBe(true);
  });

  test("the stream is the file: both are the same bytes", () => {
    for (const format of FORMATS) {
      const line = `${COWTOOL} pack ${at("dense.cow")} - --format ${format} <&-`;
      expect(shell(line).equals(readFileSync(at(`dense.${format}`)))).toBe(true);
    }
  });

  test("the result is one JSON object on stderr", async () => {
    const ran = await finish(["pack", at("dense.cow"), "-", "--json"]);
    expect(ran.status).toBe(0);
    expect(expectJson(ran.stderr, "pack")).toMatchObject({ packfile: "-", blocks: 5000, format: "zstd" });
  });

  test.each([
    ["pack", "dense.cow"],
    ["unpack", "dense.gzip"],
  ])("%s: a reader that goes away ends it quietly", async (name, file) => {
    const { child, ended } = start([name, at(file), "-"]);
    child.stdout?.once("data", () => child.stdout?.destroy());
    expect(await ended).toMatchObject({ stderr: "", timedOut: false });
  });

  test.each([
    ["pack", "dense.cow"],
    ["unpack", "dense.zstd"],
  ])("%s: a full disk behind stdout is told, with status 8", async (name, file) => {
    const full = openSync("/dev/full", "w");
    const ran = await finish([name, at(file), "-"], { stdio: ["ignore", full, "pipe"] });
    closeSync(full);
    expect(ran.status).toBe(8);
    expect(ran.stderr).toMatch(/^cowtool: error: .*no space left/);
    expect(ran.stderr).not.toContain("bug");
  });

  test.each(["pack", "unpack"])("%s: stdin that ends at once is refused", async (name) => {
    const ran = await finish([name, "-", out("new")]);
    expectErrorLine(ran, 4);
    expect(readdirSync(out(""))).toEqual([]);
  });
});

describe("SIGINT", () => {
  test.each(["pack", "unpack"])("%s: stops it while it waits for stdin", async (name) => {
    const started = start([name, "-", out("new")], { stdio: ["pipe", "pipe", "pipe"] });
    // More than a pipe holds: once all of it has gone there, the program is reading.
    const begun = readFileSync(at("dense.gzip")).subarray(0, 200_000);
    await new Promise((resolve) => started.child.stdin?.write(begun, resolve));
    started.child.kill("SIGINT");
    const ran = await within(3000, started);
    expect(ran.late, "it waits on").toBe(false);
    expect(expectErrorLine(ran, 130)).toMatch(/interrupted/);
    expect(readdirSync(out(""))).toEqual([]);
  });

  test("stops an unpacking to stdout between two pieces", async () => {
    const started = start(["unpack", at("dense.plain"), "-"]);
    const { stdout } = started.child;
    stdout?.pause();
    await until(() => (stdout?.readableLength ?? 0) > 0, "the first piece");
    started.child.kill("SIGINT");
    await pause(100);
    started.child.stdout?.resume();
    const ran = await within(5000, started);
    expect([ran.late, ran.status]).toEqual([false, 130]);
    expect(ran.stderr).toMatch(/interrupted/);
  });
});

describe("damage in a real process", () => {
  test("in the second and third of several frames is damage, not a bug in cowtool", async () => {
    const bytes = readFileSync(at("dense.zstd"));
    for (const where of [0.4, 0.6]) {
      const byte = Math.floor(bytes.length * where);
      bytes[byte] = (bytes[byte] ?? 0) ^ 1;
    }
    writeFileSync(at("damaged.zstd"), bytes);
    for (const threads of [1, 8]) {
      const ran = await finish(["unpack", at("damaged.zstd"), out("new"), `--threads=${threads}`]);
      expect(expectErrorLine(ran, 4)).toMatch(/damaged\.zstd: .*byte \d+ \(0x[0-9a-f]+\)/);
      expect(readdirSync(out(""))).toEqual([]);
    }
    const error = expectErrorJson(await finish(["unpack", at("damaged.zstd"), out("new"), "--json"]), 4);
    expect(error).toMatchObject({ code: "damaged", details: { file: at("damaged.zstd") } });
  });
});

describe("a head of 2^40 blocks with next to nothing behind it", () => {
  beforeAll(() => {
    const head = Buffer.from(tinyCow().packedHead);
    const [blocks, mapSize] = [2n ** 40n, 2n ** 37n];
    head.writeBigUInt64LE(mapSize, 16);
    head.writeBigUInt64LE(mapSize + 4096n, 24);
    head.writeBigUInt64LE(blocks, 32);
    const payload = Buffer.concat([head, noise(9000, 1)]);
    writeFileSync(at("huge.gzip"), gzipSync(payload));
    writeFileSync(at("huge.zstd"), containerOf(honestRows(payload, 4096)));
    writeFileSync(at("huge.plain"), Buffer.concat([head, Buffer.alloc(1024 - head.length), noise(9000, 1)]));
    expect(payloadOf(tinyCow()).subarray(0, 8).equals(payload.subarray(0, 8))).toBe(true);
  });

  test.each(FORMATS)("%s: unpack refuses it at once, and nothing is left", async (format) => {
    const ran = await within(5000, start(["unpack", at(`huge.${format}`), out("new")]));
    expect(ran.late, "it takes its time").toBe(false);
    expect(expectErrorLine(ran, 4)).toContain(at(`huge.${format}`));
    expect(readdirSync(out(""))).toEqual([]);
  });

  test.each(FORMATS)("%s: info and check are done with it at once", async (format) => {
    for (const name of ["info", "check"]) {
      const ran = await within(5000, start([name, at(`huge.${format}`)]));
      expect(ran.late, `${name} takes its time`).toBe(false);
      expect([0, 4], ran.stderr).toContain(ran.status);
    }
  });
});
