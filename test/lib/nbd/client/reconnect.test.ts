/**
 * Proves that a device outlives its server: killed and started again it goes on, gone for good it says so in bounded
 * time, and a program that is done ends although a connection is open.
 */
import { spawn, spawnSync } from "node:child_process";
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { RemoteDevice } from "../../../../src/lib/device/remote/remote-device.ts";
import { CowError } from "../../../../src/lib/errors.ts";
import { skipsLoudly } from "../../../support/command/real-process.ts";
import { ROOT } from "../../../support/command/run-command.ts";
import { hasProgram, startNbdkit, uriOf } from "../../../support/nbd/servers.ts";
import { noise } from "../../../support/random.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

const scratch = scratchDirectory();
const noNbdkit = skipsLoudly(
  !hasProgram("nbdkit"),
  "reconnecting of the NBD client is not tried: nbdkit is not installed",
);

const devices: RemoteDevice[] = [];
const late: number[] = [];
afterAll(() => {
  for (const device of devices) device.close();
  for (const pid of late) {
    try {
      process.kill(pid);
    } catch {
      // It ended by itself.
    }
  }
});

const MOST_LATE_S = 120;
let count = 0;

interface Served {
  readonly path: string;
  readonly socket: string;
  readonly device: RemoteDevice;
  readonly pid: number;
  kill(): Promise<void>;
  /** Starts the server again after a while, during which this thread may well be blocked. */
  startLater(seconds: number, more?: readonly string[]): void;
}

async function serve(
  limits: Parameters<typeof RemoteDevice.open>[1],
  filters: readonly string[] = [],
  parameters: readonly string[] = [],
): Promise<Served> {
  const [path, socket] = [scratch(`${count}.img`), scratch(`${count++}.sock`)];
  writeFileSync(path, noise(8 << 20, 4));
  const server = await startNbdkit(socket, [...filters, "file", path, ...parameters]);
  const device = RemoteDevice.open(uriOf(socket), limits);
  devices.push(device);
  return {
    path,
    socket,
    device,
    pid: server.pid,
    kill: async () => {
      await server.kill();
      rmSync(socket, { force: true });
    },
    startLater: (seconds, args = []) => {
      const command = `sleep ${seconds}; rm -f "$0"; exec timeout ${MOST_LATE_S} nbdkit -f -U "$0" "$@"`;
      const child = spawn("sh", ["-c", command, socket, ...args, "file", path], { stdio: "ignore" });
      if (child.pid !== undefined) late.push(child.pid);
    },
  };
}

function expectContents({ device }: Served, offset: number, length: number): void {
  const target = Buffer.alloc(length);
  expect(device.read(target, offset)).toBe(length);
  expect(target.equals(Buffer.from(noise(8 << 20, 4).subarray(offset, offset + length)))).toBe(true);
}

function failureOf(work: () => unknown): CowError {
  try {
    work();
  } catch (error) {
    if (error instanceof CowError) return error;
  }
  throw new Error("it did not fail as it should");
}

describe.skipIf(noNbdkit)("a server that", () => {
  test("is killed and started again", async () => {
    const served = await serve({ reconnectMs: 20_000 });
    expectContents(served, 0, 200_000);
    await served.kill();
    served.startLater(0.7);
    expectContents(served, 3 << 20, 1 << 20);
    expectContents(served, 12_345, 1000);
    expect([...served.device.dataExtents(0, 8 << 20)]).toEqual([{ offset: 0, length: 8 << 20 }]);
  });

  test("is killed with requests under way", async () => {
    const served = await serve({ reconnectMs: 20_000 }, ["--filter=delay"], ["rdelay=1"]);
    // Half a second from now this thread will be waiting for its second read.
    const command = 'sleep 1.5; kill -KILL "$0"';
    spawn("sh", ["-c", command, String(served.pid)], { stdio: "ignore" });
    served.startLater(2);
    expectContents(served, 0, 1000);
    expectContents(served, 4 << 20, 2 << 20);
  });

  test("goes away for good: an error in words, in bounded time, and again at once", async () => {
    const served = await serve({ reconnectMs: 1500 });
    expectContents(served, 0, 10);
    await served.kill();
    const began = performance.now();
    const failure = failureOf(() => served.device.read(Buffer.alloc(4096), 8192));
    const took = performance.now() - began;
    expect([failure.code, failure.file, failure.details["offset"]]).toEqual(["io", served.device.name, 8192]);
    expect(failure.message).toBe(
      "cannot read at byte 8192 (0x2000): the connection was lost and could not be made again within 1.5 s: there is no such socket",
    );
    expect(took).toBeGreaterThan(1000);
    const again = performance.now();
    failureOf(() => served.device.read(Buffer.alloc(1 << 20), 0));
    failureOf(() => [...served.device.dataExtents(0, 100)]);
    // Neither waits as the first one did.
    expect(performance.now() - again).toBeLessThan(took);
    // It may still come back.
    served.startLater(0);
    for (let i = 0; i < 100; i++) {
      try {
        served.device.read(Buffer.alloc(1), 0);
        break;
      } catch {
        spawnSync("sleep", ["0.1"]);
      }
    }
    expectContents(served, 0, 100_000);
    served.device.close();
  });

  test("comes back with another size", async () => {
    const served = await serve({ reconnectMs: 10_000 });
    await served.kill();
    truncateSync(served.path, 4 << 20);
    served.startLater(0);
    const failure = failureOf(() => served.device.read(Buffer.alloc(10), 0));
    expect(failure.message).toMatch(/reconnected to, and serves an image of 4194304 bytes instead of 8388608/);
  });

  test("comes back with another image, where parts of it are remembered: an error, also once the first one is back", async () => {
    const served = await serve({ reconnectMs: 10_000 });
    served.device.remember([{ offset: 5 << 20, length: 1024 }]);
    await served.kill();
    writeFileSync(served.path, Buffer.from(noise(8 << 20, 4)).fill(1, (5 << 20) + 700, (5 << 20) + 701));
    served.startLater(0);
    const failure = failureOf(() => served.device.read(Buffer.alloc(10), 0));
    expect(failure.message).toMatch(/serves another image: it differs in the 1024 bytes at byte 5242880/);
    writeFileSync(served.path, noise(8 << 20, 4));
    expect(failureOf(() => served.device.read(Buffer.alloc(10), 0)).message).toMatch(/must be opened again/);
    expect(() => RemoteDevice.open(served.device.name, { remembered: served.device.remembered })).toThrow(
      /opened again/,
    );
  });
});

describe.skipIf(noNbdkit)("a program", () => {
  test("ends although its device is open, and a closed device is told to be", async () => {
    const served = await serve({});
    const module = `${ROOT}/src/lib/device/remote/remote-device.ts`;
    const script = `import { RemoteDevice } from ${JSON.stringify(module)};
      const device = RemoteDevice.open(${JSON.stringify(served.device.name)});
      device.read(Buffer.alloc(300000), 0); device.read(Buffer.alloc(300000), 300000);
      console.log("read");`;
    const done = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
      timeout: 20_000,
    });
    expect([done.stdout, done.stderr, done.status]).toEqual(["read\n", "", 0]);
    served.device.close();
    served.device.close();
    expect(() => served.device.read(Buffer.alloc(10), 0)).toThrow(/is closed/);
  });
});
