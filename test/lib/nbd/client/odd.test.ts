/**
 * Proves what the client makes of servers that keep to the protocol in ways that the servers installed here do not:
 * extended headers, chunks out of order, errors with a place, connections that come and go.
 */
import { describe, expect, test } from "vitest";
import { RemoteDevice } from "../../../../src/lib/device/remote/remote-device.ts";
import { CowError } from "../../../../src/lib/errors.ts";
import { startFakeThread } from "../../../support/nbd/fake-nbd-server.ts";
import type { FakeName } from "../../../support/nbd/fakes.ts";
import { uriOf } from "../../../support/nbd/servers.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

const scratch = scratchDirectory();
let count = 0;

async function open(name: FakeName): Promise<RemoteDevice> {
  const socket = scratch(`${count++}.sock`);
  await startFakeThread(socket, name);
  return RemoteDevice.open(uriOf(socket), { reconnectMs: 2000, silenceMs: 5000 });
}

function content(offset: number, length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (offset + i) % 251));
}

function readAt(device: RemoteDevice, offset: number, length: number): Buffer {
  const target = Buffer.alloc(length, 0xee);
  expect(device.read(target, offset)).toBe(length);
  return target;
}

function failureOf(work: () => unknown): CowError {
  try {
    work();
  } catch (error) {
    if (error instanceof CowError) return error;
  }
  throw new Error("it did not fail as it should");
}

describe("a server with", () => {
  test("extended headers: 64-bit lengths and statuses", async () => {
    const device = await open("extended headers");
    expect(device.sizeBytes).toBe(2 ** 40);
    const offset = 2 ** 39 + 12_345;
    expect(readAt(device, offset, 70_000)).toEqual(content(offset, 70_000));
    const [first] = device.dataExtents(0, device.sizeBytes);
    expect(first).toEqual({ offset: 0, length: 65_536 });
    device.close();
  });

  test("chunks out of order, and holes", async () => {
    const device = await open("pieces out of order");
    for (const [offset, length] of [
      [0, 4096],
      [4096, 4096],
      [8192, 8192],
      [500_000, 333],
    ] as const) {
      // What is asked for is cut otherwise once it is read ahead: only where it is read directly the halves are known.
      if (offset === 4096 || offset === 8192) device.read(Buffer.alloc(length), offset);
      else {
        const half = Math.floor(length / 2);
        const expected = Buffer.concat([Buffer.alloc(half), content(offset + half, length - half)]);
        expect(readAt(device, offset, length)).toEqual(expected);
      }
    }
    device.close();
  });

  test.each(["one byte at a time", "one byte at a time from the beginning"] as const)(
    "replies in single bytes: %s",
    async (name) => {
      const device = await open(name);
      expect(readAt(device, 77, 3000)).toEqual(content(77, 3000));
      device.close();
    },
  );

  test("an error and its place; what lies before and after can be read", async () => {
    const device = await open("fails at byte 100000");
    const failure = failureOf(() => device.read(Buffer.alloc(200_000), 0));
    expect(failure.message).toBe('cannot read at byte 100000 (0x186a0): input/output error ("head crash")');
    expect([failure.code, failure.details]).toEqual(["io", { file: device.name, errno: "EIO", offset: 100_000 }]);
    // Read forward in small steps, too, only the step that holds the byte fails: not what is read ahead over it.
    for (let at = 0; at + 4000 <= 100_000; at += 4000) expect(readAt(device, at, 4000)).toEqual(content(at, 4000));
    expect(failureOf(() => device.read(Buffer.alloc(4000), 100_000)).details["offset"]).toBe(100_000);
    for (let at = 104_000; at < 300_000; at += 4000) expect(readAt(device, at, 4000)).toEqual(content(at, 4000));
    device.close();
  });

  test.each(["closes once", "shuts down once"] as const)(
    "a connection that %s: the read is done on the next one",
    async (name) => {
      const device = await open(name);
      expect(readAt(device, 0, 1 << 20)).toEqual(content(0, 1 << 20));
      device.close();
    },
  );

  test("another size behind the next connection", async () => {
    const device = await open("another size afterwards");
    const failure = failureOf(() => device.read(Buffer.alloc(10), 0));
    expect(failure.message).toMatch(/serves an image of 2097152 bytes instead of 1048576/);
    device.close();
  });

  test("a dislike for one request: not asked for ever", async () => {
    const device = await open("closes on each READ");
    expect(failureOf(() => device.read(Buffer.alloc(10), 0)).message).toMatch(
      /the connection was lost 5 times meanwhile/,
    );
    device.close();
  });
});
