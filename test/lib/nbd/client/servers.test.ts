/**
 * Proves the client against servers that others wrote, nbdkit and qemu-nbd, in every way that they speak: contents,
 * block status, block sizes, errors.
 */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import type { Worker } from "node:worker_threads";
import { afterAll, describe, expect, test, vi } from "vitest";
import { NbdClient } from "../../../../src/lib/device/remote/client.ts";
import { RemoteDevice } from "../../../../src/lib/device/remote/remote-device.ts";
import { CowError } from "../../../../src/lib/errors.ts";
import { Context } from "../../../../src/lib/protocol/constants.ts";
import { parseNbdUri } from "../../../../src/lib/protocol/uri.ts";
import { skipsLoudly } from "../../../support/command/real-process.ts";
import { hasProgram, startNbdkit, startQemuNbd, uriOf } from "../../../support/nbd/servers.ts";
import { noise, random } from "../../../support/random.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

const scratch = scratchDirectory();
const noNbdkit = skipsLoudly(!hasProgram("nbdkit"), "the NBD client is not tried with nbdkit: it is not installed");
const noQemu = skipsLoudly(!hasProgram("qemu-nbd"), "the NBD client is not tried with qemu-nbd: it is not installed");
const noNbdinfo = skipsLoudly(!hasProgram("nbdinfo"), "block status is not compared with nbdinfo: it is not installed");

const closers: (() => unknown)[] = [];
afterAll(() => Promise.all(closers.map((close) => close())));

let count = 0;
async function nbdkit(args: readonly string[], name?: string): Promise<string> {
  const { socket } = await startNbdkit(scratch(`${count++}.sock`), args);
  return uriOf(socket, name === undefined ? {} : { name });
}

async function qemu(args: readonly string[], name?: string): Promise<string> {
  const { socket } = await startQemuNbd(scratch(`${count++}.sock`), args);
  return uriOf(socket, name === undefined ? {} : { name });
}

async function connect(uri: string, contexts: readonly string[] = []): Promise<NbdClient> {
  const client = await NbdClient.connect(parseNbdUri(uri), { name: uri, contexts });
  closers.push(() => client.disconnect());
  return client;
}

function open(uri: string, options?: Parameters<typeof RemoteDevice.open>[1]): RemoteDevice {
  const device = RemoteDevice.open(uri, options);
  closers.push(() => device.close());
  return device;
}

async function failureOf(work: () => unknown): Promise<CowError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof CowError) return error;
    throw error;
  }
  throw new Error("it did not fail as it should");
}

/** What nbdkit's plugin `pattern` holds: each eight bytes are their offset. */
function pattern(offset: number, length: number): Buffer {
  const start = Math.floor(offset / 8) * 8;
  const bytes = Buffer.alloc(Math.ceil((offset + length - start) / 8) * 8);
  for (let at = 0; at < bytes.length; at += 8) bytes.writeBigUInt64BE(BigInt(start + at), at);
  return bytes.subarray(offset - start, offset - start + length);
}

/** A file with holes: noise in three places, one of them at the end. */
function sparseFile(name: string, sizeBytes = 24 << 20): string {
  const path = scratch(name);
  const fd = openSync(path, "w");
  ftruncateSync(fd, sizeBytes);
  for (const [offset, length] of [
    [0, 70_000],
    [9 << 20, 1 << 20],
    [sizeBytes - 5000, 5000],
  ] as const)
    writeSync(fd, noise(length, offset), 0, length, offset);
  closeSync(fd);
  return path;
}

/** Ways in which a server speaks. */
const WAYS: readonly (readonly [way: string, args: readonly string[]])[] = [
  ["structured replies", []],
  ["simple replies", ["--no-sr"]],
  ["EXPORT_NAME only", ["--mask-handshake=0"]],
  ["EXPORT_NAME only, without the zeros", ["--mask-handshake=2"]],
  ["GO, with zeros elsewhere", ["--mask-handshake=1"]],
  ["one request at a time", ["--filter=noparallel"]],
  ["replies in another order", ["--filter=delay", "rdelay=1ms"]],
];

describe.skipIf(noNbdkit)("nbdkit", () => {
  test.each(WAYS)("contents by %s", async (_, args) => {
    const plugin = args.findIndex((word) => word.includes("=") && !word.startsWith("--"));
    const [before, after] = plugin === -1 ? [args, []] : [args.slice(0, plugin), args.slice(plugin)];
    const uri = await nbdkit([...before, "pattern", "size=33554433", ...after]);
    const [device, client] = [open(uri), await connect(uri)];
    expect([device.sizeBytes, client.export.sizeBytes]).toEqual([33_554_433, 33_554_433]);
    const next = random(7);
    const many: Promise<void>[] = [];
    for (let i = 0; i < 25; i++) {
      const length = Math.floor(next() ** 4 * 3_000_000) + 1;
      const offset = Math.floor(next() * (device.sizeBytes - length));
      const [a, b] = [Buffer.alloc(length, 1), Buffer.alloc(length, 2)];
      const expected = pattern(offset, length);
      expect(device.read(a, offset)).toBe(length);
      expect(a.equals(expected)).toBe(true);
      many.push(client.read(b, offset).then(() => expect(b.equals(expected)).toBe(true)));
    }
    await Promise.all(many);
  });

  test("is not left while it still owes replies: it has been seen to abort then", async () => {
    const server = await startNbdkit(scratch(`${count++}.sock`), [
      "--filter=delay",
      "pattern",
      "size=1M",
      "rdelay=200ms",
    ]);
    const client = await connect(uriOf(server.socket));
    const target = Buffer.alloc(65_536);
    const read = client.read(target, 4096);
    await Promise.all([read, client.disconnect()]);
    expect(target.equals(pattern(4096, target.length))).toBe(true);
    await expect(client.read(target, 0)).rejects.toThrow("closed");
    expect(server.said()).toBe("");
  });

  test("leaves no thread behind, be it opened or not", async () => {
    const { socket } = await startNbdkit(scratch(`${count++}.sock`), [
      "--filter=exportname",
      "pattern",
      "size=1M",
      "exportname=a",
      "exportname-strict=true",
    ]);
    let [begun, ended] = [0, 0];
    const onWorker = (worker: Worker): void => {
      begun++;
      worker.once("exit", () => ended++);
    };
    process.on("worker", onWorker);
    RemoteDevice.open(uriOf(socket, { name: "a" })).close();
    expect((await failureOf(() => RemoteDevice.open(uriOf(socket, { name: "b" })))).code).toBe("not-found");
    await vi.waitUntil(() => begun > 0 && ended === begun, { timeout: 10_000 });
    process.off("worker", onWorker);
    expect(begun).toBe(2);
  });

  test("the end of the export is where reading ends", async () => {
    const device = open(await nbdkit(["pattern", "size=100000"]));
    const target = Buffer.alloc(4096, 9);
    expect(device.read(target, 99_000)).toBe(1000);
    expect(target.subarray(0, 1000).equals(pattern(99_000, 1000))).toBe(true);
    expect([...target.subarray(1000)].every((byte) => byte === 9)).toBe(true);
    expect([device.read(target, 100_000), device.read(target, 1e12)]).toEqual([0, 0]);
  });

  test("forward in any steps, from several places at once", async () => {
    const device = open(await nbdkit(["pattern", "size=48M"]));
    const next = random(11);
    const readers = Array.from({ length: 5 }, (_, i) => ({ at: i * 8_000_000 + i, step: 100 + i * 40_000 }));
    for (let i = 0; i < 150; i++) {
      const reader = readers[Math.floor(next() * readers.length)];
      if (!reader) continue;
      const length = Math.min(reader.step, device.sizeBytes - reader.at);
      const target = Buffer.alloc(length);
      device.read(target, reader.at);
      expect(target.equals(pattern(reader.at, length))).toBe(true);
      reader.at += length + Math.floor(next() * 3) * 1000;
    }
  });

  test("whole blocks only: what is asked for in parts of them is rounded", async () => {
    const sizes = ["minimum=4096", "preferred=65536", "maximum=131072"].map((word) => `blocksize-${word}`);
    const path = scratch("whole-blocks.img");
    const model = Buffer.from(noise(4 << 20, 1));
    writeFileSync(path, model);
    const args = ["--filter=blocksize-policy", "file", path, ...sizes, "blocksize-error-policy=error"];
    const uri = await nbdkit(args);
    const client = await connect(uri);
    expect(client.export.blockSizes).toEqual({ minimum: 4096, preferred: 65_536, maximum: 131_072 });
    for (const [offset, length] of [
      [0, 1],
      [5, 4096],
      [4095, 2],
      [777_770, 1_100_000],
      [(4 << 20) - 1, 1],
      [0, 4 << 20],
    ] as const) {
      const target = Buffer.alloc(length);
      await client.read(target, offset);
      expect(target.equals(model.subarray(offset, offset + length))).toBe(true);
    }
    const device = open(uri);
    const target = Buffer.alloc(1_000_003);
    device.read(target, 777_777);
    expect(target.equals(model.subarray(777_777, 1_777_780))).toBe(true);
    expect(device.allocationUnitBytes).toBe(65_536);
  });

  test.each([
    ["EPERM", "permission"],
    ["EIO", "io"],
    ["ENOMEM", "io"],
    ["EINVAL", "io"],
    ["ENOSPC", "no-space"],
  ])("the error %s", async (errno, code) => {
    for (const replies of [[], ["--no-sr"]]) {
      const uri = await nbdkit([...replies, "--filter=error", "memory", "1M", `error=${errno}`, "error-rate=100%"]);
      const client = await connect(uri);
      for (const failure of [
        await failureOf(() => client.read(Buffer.alloc(512), 4096)),
        await failureOf(() => open(uri).read(Buffer.alloc(512), 4096)),
      ]) {
        expect([failure.code, failure.file, failure.details["errno"], failure.details["offset"]]).toEqual([
          code,
          uri,
          errno,
          4096,
        ]);
        expect(failure.message).toMatch(/^cannot read at byte 4096 \(0x1000\): /);
      }
    }
  });

  test.each([[[]], [["--no-sr"]]])("errors in the middle: only what needs those bytes fails %j", async (replies) => {
    const bad = 1 << 20;
    // 4 KiB at 1 MiB cannot be read; the rest is ones.
    const script = `if [ $4 -lt ${bad + 4096} ] && [ $(($4 + $3)) -gt ${bad} ]; then echo EIO bad sector >&2; exit 1; fi
      head -c $3 /dev/zero | tr '\\0' '\\1'`;
    const uri = await nbdkit([...replies, "eval", "get_size=echo 4194304", `pread=${script}`]);
    const device = open(uri);
    for (let at = 0; at < bad; at += 256 << 10) {
      const target = Buffer.alloc(256 << 10);
      device.read(target, at);
      expect(target.every((byte) => byte === 1)).toBe(true);
    }
    expect((await failureOf(() => device.read(Buffer.alloc(4096), bad))).code).toBe("io");
    const target = Buffer.alloc(1 << 20);
    device.read(target, bad + 4096);
    expect(target.every((byte) => byte === 1)).toBe(true);
  });

  test("a server whose block status fails has data everywhere", async () => {
    const device = open(await nbdkit(["--filter=error", "memory", "1M", "error-extents-rate=100%"]));
    expect([...device.dataExtents(100, 1 << 20)]).toEqual([{ offset: 100, length: (1 << 20) - 100 }]);
  });

  test("a hole that is not known to be zeros may hold anything, and zeros that are no hole do not", async () => {
    const told = ["0 65536 hole", "65536 65536 zero", "131072 65536 hole,zero", "196608 65536"];
    const extents = `printf '%s\\n' ${told.map((line) => `'${line}'`).join(" ")}`;
    const uri = await nbdkit(["eval", "get_size=echo 262144", "pread=head -c $3 /dev/zero", `extents=${extents}`]);
    expect([...open(uri).dataExtents(0, 262_144)]).toEqual([
      { offset: 0, length: 65_536 },
      { offset: 196_608, length: 65_536 },
    ]);
  });

  test.each([
    ["simple replies", ["--no-sr"], false],
    ["a server that knows nothing of holes", ["--filter=noextents"], true],
  ])("everything is data with %s", async (_, args, seesHoles) => {
    const device = open(await nbdkit([...args, "memory", "64M"]));
    expect([device.seesHoles, ...device.dataExtents(0, 64 << 20)]).toEqual([
      seesHoles,
      { offset: 0, length: 64 << 20 },
    ]);
  });

  test("no export is written", async () => {
    const device = open(await nbdkit(["memory", "1M"]));
    expect((await failureOf(() => device.write())).code).toBe("permission");
    expect((await failureOf(() => device.resize())).code).toBe("permission");
    expect([device.writable, device.punchHole()]).toEqual([false, false]);
  });

  test("the old style is refused in words", async () => {
    const failure = await failureOf(async () => open(await nbdkit(["-o", "memory", "1M"])));
    expect(failure.message).toMatch(/old style/);
  });

  test("names of exports arrive as they are", async () => {
    const name = "a b/ü%2F💾";
    const uri = await nbdkit(["info", "mode=exportname"], name);
    const device = open(uri);
    const target = Buffer.alloc(Buffer.byteLength(name));
    device.read(target, 0);
    expect([target.toString(), device.sizeBytes]).toEqual([name, target.length]);
  });

  test("an export without a byte", async () => {
    const device = open(await nbdkit(["null", "size=0"]));
    expect([device.sizeBytes, device.read(Buffer.alloc(5), 0), ...device.dataExtents(0, 10)]).toEqual([0, 0]);
  });

  test("an export of 2^62 bytes", async () => {
    const failure = await failureOf(async () => open(await nbdkit(["null", `size=${2n ** 62n}`])));
    expect(failure.message).toMatch(/the export's size is 4611686018427387904/);
    const huge = open(await nbdkit(["null", `size=${2 ** 52}`]));
    expect(huge.read(Buffer.alloc(100), 2 ** 52 - 50)).toBe(50);
  });
});

describe.skipIf(noQemu)("qemu-nbd", () => {
  test("contents", async () => {
    const path = sparseFile("contents.img");
    const uri = await qemu(["-r", "-f", "raw", path]);
    const device = open(uri);
    const [got, expected] = [Buffer.alloc(24 << 20), readFileSync(path)];
    for (let at = 0; at < got.length; at += 300_000) device.read(got.subarray(at, at + 300_000), at);
    expect(got.equals(expected)).toBe(true);
  });

  test("an export by its name, and one that there is not", async () => {
    const path = sparseFile("named.img");
    const right = await qemu(["-r", "-f", "raw", "-x", "disk one", path], "disk one");
    expect(open(right).sizeBytes).toBe(24 << 20);
    const failure = await failureOf(() => open(right.replace("disk%20one", "disk%20two")));
    expect([failure.code, failure.file]).toEqual(["not-found", right.replace("disk%20one", "disk%20two")]);
    expect(failure.message).toMatch(/the server does not give out the export "disk two": it has no such export/);
  });

  test("several contexts at once, and one that it does not know", async () => {
    const path = scratch("bitmap.qcow2");
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", path, "8M"]);
    execFileSync("qemu-img", ["bitmap", "--add", path, "b0"]);
    const client = await connect(await qemu(["-r", "-f", "qcow2", "-A", "-B", "b0", path]), [
      "qemu:allocation-depth",
      "qemu:dirty-bitmap:b0",
      "qemu:dirty-bitmap:none",
    ]);
    expect([...client.export.contexts.values()].sort()).toEqual(
      [Context.ALLOCATION, "qemu:allocation-depth", "qemu:dirty-bitmap:b0"].sort(),
    );
    const status = await client.blockStatus(0, 8 << 20);
    expect(status.get(Context.ALLOCATION)).toEqual([{ length: 8 << 20, flags: 3 }]);
    expect(status.get("qemu:allocation-depth")).toEqual([{ length: 8 << 20, flags: 0 }]);
    expect(status.size).toBe(3);
  });
});

describe.skipIf(noNbdkit || noQemu || noNbdinfo)("block status", () => {
  interface Told {
    readonly offset: number;
    readonly length: number;
    readonly type: number;
  }

  test.each(["nbdkit", "qemu-nbd"])("of %s is what nbdinfo says", async (program) => {
    const path = sparseFile(`${program}.img`);
    const uri = program === "nbdkit" ? await nbdkit(["file", path]) : await qemu(["-r", "-f", "raw", path]);
    const told = JSON.parse(execFileSync("nbdinfo", ["--map", "--json", uri]).toString()) as Told[];
    const data = told.filter(({ type }) => (type & 2) === 0).map(({ offset, length }) => ({ offset, length }));
    expect(data.length).toBeGreaterThan(1);
    const device = open(uri);
    expect(device.seesHoles).toBe(true);
    expect([...device.dataExtents(0, device.sizeBytes)]).toEqual(data);
    // In any part, from what is known by now and afresh.
    const [first] = data;
    expect([...open(uri).dataExtents(1000, 60_000)]).toEqual([{ offset: 1000, length: 59_000 }]);
    expect([...device.dataExtents((first?.length ?? 0) + 5, 9 << 20)]).toEqual([]);
    const [extents] = (await (await connect(uri)).blockStatus(12_345, 100_000)).values();
    expect(extents?.[0]?.length).toBeGreaterThan(0);
  });

  test("of many extents comes in parts, and is whole", async () => {
    const parts = Array.from({ length: 3000 }, (_, i) => `@${i * 65_536} 1`).join(" ");
    const uri = await nbdkit(["data", `data=${parts}`, "size=256M"]);
    const extents = [...open(uri).dataExtents(0, 256 << 20)];
    // nbdkit's plugin keeps pages of 32 KiB.
    expect(extents.map(({ offset }) => offset)).toEqual(Array.from({ length: 3000 }, (_, i) => i * 65_536));
  });
});
