/** Owns the targets that are the server's side of a connection: the handshake, and requests. */
import { MemoryStorage } from "../../../src/lib/index.ts";
import { Handshake } from "../../../src/lib/nbd/handshake/handshake.ts";
import { RequestMeter } from "../../../src/lib/nbd/meter/request-meter.ts";
import { newShared, newSlot } from "../../../src/lib/nbd/meter/slot.ts";
import { OUTBOX_BYTES, Outbox } from "../../../src/lib/nbd/transmission/outbox.ts";
import { Transmission } from "../../../src/lib/nbd/transmission/transmission.ts";
import { Passage } from "../../../src/lib/stack/live/gate.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { base, sample } from "../../support/images/hostile-sample.ts";
import * as client from "../../support/nbd/handshake-client.ts";
import type { Target } from "../engine.ts";
import { Input } from "./input.ts";

/** Handshakes hold little more than one option; see nbd/handshake.ts. */
const HANDSHAKE_BYTES_AT_MOST = 80 * 1024;

const OPTIONS = [
  client.STRUCTURED,
  client.EXTENDED,
  client.info(client.OPT.INFO, "second", [0, 3]),
  client.listContexts("", "base:", "qemu:"),
  client.setContexts("", "base:allocation"),
  client.option(client.OPT.LIST),
  client.option(client.OPT.STARTTLS),
  client.option(client.OPT.ABORT),
  client.exportName("second"),
  client.go(""),
];

export const handshake: Target = {
  seeds: () => [
    ...[0, 1, 2].map((tls) => Buffer.concat([Uint8Array.of(tls, 40), client.HELLO, client.STRUCTURED, client.go("")])),
    ...OPTIONS.map((option) => Buffer.concat([Uint8Array.of(1, 7), client.HELLO, option, client.go("second")])),
  ],
  words: OPTIONS,
  run: (bytes) => {
    const input = new Input(bytes);
    const tls = (["off", "allow", "require"] as const)[input.number(1) % 3] ?? "off";
    const piece = 1 + input.number(1);
    const said = input.rest();
    const machine = new Handshake(client.hostWith(tls, client.EXPORTS));
    for (let at = 0; at < said.length; at += piece) {
      const steps = machine.feed(said.subarray(at, at + piece));
      if (machine.bufferedBytes > HANDSHAKE_BYTES_AT_MOST) throw new Error(`holds ${machine.bufferedBytes} bytes`);
      for (const { kind } of steps) {
        if (kind === "start-tls") machine.tlsStarted();
        if (kind === "close" || kind === "transmission") return;
      }
    }
  },
};

function request(isExtended: boolean, type: number, offset: number, length: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(isExtended ? 32 : 28);
  bytes.writeUInt32BE(isExtended ? 0x21e41c71 : 0x25609513, 0);
  bytes.writeUInt16BE(isExtended && type === 1 ? flags | 32 : flags, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeUInt32BE(offset, 20);
  bytes.writeUInt32BE(length, isExtended ? 28 : 24);
  return type === 1 ? Buffer.concat([bytes, Buffer.alloc(length, 0x5a)]) : bytes;
}

/** The first byte: writable, replies in chunks, extended headers. */
export const transmission: Target = {
  seeds: () =>
    [0, 1, 2, 3, 5, 7].map((mode) => {
      const isExtended = (mode & 4) !== 0;
      const asks = [0, 1, 3, 4, 5, 6, 7].map((type) => request(isExtended, type, type * 1000, 300 + type * 200));
      return Buffer.concat([Uint8Array.of(mode), ...asks, request(isExtended, 2, 0, 0)]);
    }),
  words: [0, 1, 3, 4, 6, 7].flatMap((type) =>
    [false, true].flatMap((isExtended) =>
      [0, 1, 2, 8, 16].map((flags) => request(isExtended, type, 1024, 2048, flags)),
    ),
  ),
  run: async (bytes) => {
    const input = new Input(bytes);
    const mode = input.number(1);
    const storage = new MemoryStorage();
    storage.put("base", base);
    storage.put("cow", sample("le64"));
    const access = (mode & 1) === 0 ? "read-only" : "writable";
    const stack = await ServedStack.open(storage, "base,cow", { access });
    const facts = client.hostWith("off", client.EXPORTS).offers.find("")?.facts;
    if (!facts) throw new Error("no export");
    const agreed = {
      export: facts,
      structuredReplies: (mode & 2) !== 0,
      extendedHeaders: (mode & 4) !== 0,
      contexts: facts.contexts.map((context, id) => ({ id, ...context })),
    };
    const outbox = new Outbox((answer) => {
      if (answer.length > OUTBOX_BYTES) throw new Error("more than there is room for");
    });
    const passage = new Passage(stack.gate.connect().passed, { epoch: 0, reach: () => undefined });
    const session = new Transmission(
      { image: stack.image(), passage },
      agreed,
      outbox,
      new RequestMeter({ slot: newSlot(2), shared: newShared() }),
    );
    let said = input.rest();
    while (!session.isOver) {
      const used = session.consume(said);
      session.answerWaiting();
      session.send();
      said = said.subarray(used);
      if (used === 0) break;
    }
    session.end();
    stack.close();
    // Whatever was asked, the file is a cowfile in order.
    const again = await ServedStack.open(storage, "base,cow", { access: "read-only" });
    again.close();
  },
};
