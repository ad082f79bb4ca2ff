/**
 * Proves the bytes of generic netlink: what is asked is encoded as the kernel's headers say, and answers of any bytes are
 * taken apart without an exception.
 */
import { endianness } from "node:os";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeAttributes,
  decodeMessages,
  encodeAttributes,
  encodeRequest,
  NetlinkSocket,
  numberIn,
} from "../../../src/lib/device/sys/netlink.ts";

const LITTLE = endianness() === "LE";

describe("netlink", () => {
  it.runIf(LITTLE)("writes numbers, texts and nested lists, padded to four bytes", () => {
    expect(
      Buffer.from(
        encodeAttributes([
          [1, 7],
          [2, 9n],
          [10, "ab"],
          [7, [[1, [[1, 5]]]]],
        ]),
      ).toString("hex"),
    ).toBe(
      ["08000100 07000000", "0c000200 0900000000000000", "07000a00 61620000", "10000780 0c000180 08000100 05000000"]
        .join("")
        .replaceAll(" ", ""),
    );
    expect(Buffer.from(encodeRequest({ family: 0x1f, command: 3 }, 4, [[1, 7]])).toString("hex")).toBe(
      "1c0000001f000500040000000000000003010000" + "0800010007000000",
    );
  });

  it("reads back what it writes", () => {
    const bytes = encodeRequest({ family: 20, command: 4 }, 1, [
      [1, 12],
      [10, "uri"],
    ]);
    const [message] = [...decodeMessages(bytes)];
    expect(message).toMatchObject({ family: 20, command: 4 });
    const attributes = message && "family" in message ? message.attributes : new Map<number, Uint8Array>();
    expect(numberIn(attributes.get(1))).toBe(12);
    expect(Buffer.from(attributes.get(10) ?? []).toString()).toBe("uri\0");
  });

  it("takes any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        decodeAttributes(bytes);
        for (const message of decodeMessages(bytes)) expect(message).toBeDefined();
      }),
    );
  });

  it("asks the kernel, which knows its own controller and no other names", () => {
    const socket = NetlinkSocket.open();
    if (!socket) return;
    expect(socket.family("nlctrl")).toMatchObject({ id: 16 });
    expect(socket.family("nlctrl")?.groups.get("notify")).toBeGreaterThan(0);
    expect(socket.family("no-such-family")).toBeUndefined();
    socket.close();
  });

  it("waits for events no longer than it was told, and closes while it waits", async () => {
    const socket = NetlinkSocket.open();
    if (!socket) return;
    expect(socket.join("nlctrl", "no-such-group", 0.05)).toBe(false);
    expect(socket.join("nlctrl", "notify", 0.05)).toBe(true);
    expect(await socket.next()).toEqual([]);
    const waiting = socket.next();
    socket.close();
    await waiting;
  });
});
