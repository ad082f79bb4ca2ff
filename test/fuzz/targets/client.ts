/** Owns the target that is the client's side of a connection: handshake and replies of a server that says anything. */
import { Duplex } from "node:stream";
import { Conversation } from "../../../src/lib/device/remote/conversation.ts";
import { ConnectionLost } from "../../../src/lib/device/remote/failures.ts";
import { negotiate } from "../../../src/lib/device/remote/negotiate.ts";
import { CowError } from "../../../src/lib/index.ts";
import { WireViolation } from "../../../src/lib/protocol/wire-violation.ts";
import { u16, u32 } from "../../support/nbd/handshake-client.ts";
import type { Target } from "../engine.ts";
import { Input } from "./input.ts";

const [ACK, INFO, CONTEXT, UNSUP] = [1, 3, 4, 0x8000_0001];
const [GO, STRUCTURED, SET_CONTEXT, EXTENDED] = [7, 8, 10, 11];
const READ_BYTES = 700;

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function reply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from("0003e889045565a9", "hex"), u32(option, type, data.length), data]);
}

const GREETING = Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT"), u16(3)]);
const SIZE_AND_FLAGS = Buffer.concat([u64(1 << 20), u16(0b1001_0110_1101)]);
const GRANTED = [
  reply(GO, INFO, Buffer.concat([u16(0), SIZE_AND_FLAGS])),
  reply(GO, INFO, Buffer.concat([u16(3), u32(1, 4096, 1 << 25)])),
  reply(GO, ACK),
];
const CONTEXTS = [
  reply(SET_CONTEXT, CONTEXT, Buffer.concat([u32(7), Buffer.from("base:allocation")])),
  reply(SET_CONTEXT, ACK),
];

function simple(cookie: number, data: Uint8Array = Buffer.alloc(0), error = 0): Buffer {
  return Buffer.concat([u32(0x67446698, error), u64(cookie), data]);
}

function chunk(cookie: number, type: number, data: Uint8Array, isLast = true): Buffer {
  return Buffer.concat([u32(0x668e33ef), u16(isLast ? 1 : 0, type), u64(cookie), u32(data.length), data]);
}

function extended(cookie: number, offset: number, type: number, data: Uint8Array): Buffer {
  return Buffer.concat([u32(0x6e8a278c), u16(1, type), u64(cookie), u64(offset), u64(data.length), data]);
}

const DATA = Buffer.alloc(READ_BYTES, 0x33);
/** What is asked: two READs, a BLOCK_STATUS, a FLUSH, in this order, with these cookies. */
const CHUNKS = [
  chunk(1, 1, Buffer.concat([u64(0), DATA.subarray(0, 300)]), false),
  chunk(1, 2, Buffer.concat([u64(300), u32(READ_BYTES - 300)])),
  chunk(2, 0x8001, Buffer.concat([u32(5), u16(3), Buffer.from("bad")])),
  chunk(3, 5, u32(7, 4096, 3, 65_536, 0)),
  chunk(2, 0x8002, Buffer.concat([u32(5), u16(0), u64(4096)])),
];

const SEEDS = [
  [GREETING, reply(EXTENDED, UNSUP), reply(STRUCTURED, UNSUP), ...GRANTED, simple(1, DATA), simple(2, DATA), simple(4)],
  [GREETING, reply(EXTENDED, UNSUP), reply(STRUCTURED, ACK), ...CONTEXTS, ...GRANTED, ...CHUNKS, simple(4)],
  [
    GREETING,
    reply(EXTENDED, ACK),
    ...CONTEXTS,
    ...GRANTED,
    extended(1, 0, 1, Buffer.concat([u64(0), DATA])),
    extended(2, 4096, 2, Buffer.concat([u64(4096), u32(READ_BYTES)])),
    extended(3, 0, 6, Buffer.concat([u32(7, 1), u64(65_536), u64(0)])),
    extended(4, 0, 0, Buffer.alloc(0)),
  ],
  [Buffer.from("NBDMAGICIHAVEOPT"), u16(0), SIZE_AND_FLAGS, Buffer.alloc(124), simple(1, DATA)],
  [GREETING, reply(EXTENDED, UNSUP), reply(STRUCTURED, UNSUP), reply(GO, UNSUP), SIZE_AND_FLAGS, simple(4, DATA, 5)],
];

/** What a server may do to a client: say no, break the rules, go away. */
function isUsual(error: unknown): boolean {
  return error instanceof CowError || error instanceof WireViolation || error instanceof ConnectionLost;
}

async function ignoreUsual(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isUsual(error)) throw error;
  });
}

function counted(): { put(at: number, bytes: Uint8Array): void; zero(at: number, length: number): void } {
  const check = (at: number, length: number): void => {
    if (at < 0 || length < 0 || at + length > READ_BYTES) throw new Error(`data for ${at} to ${at + length}`);
  };
  return { put: (at, bytes) => check(at, bytes.length), zero: check };
}

export const client: Target = {
  seeds: () => SEEDS.map((parts) => Buffer.concat([Uint8Array.of(200), ...parts])),
  words: [
    ...GRANTED,
    ...CONTEXTS,
    ...CHUNKS,
    simple(1, DATA),
    simple(4),
    extended(1, 0, 1, Buffer.concat([u64(0), DATA])),
  ],
  run: async (bytes) => {
    const input = new Input(bytes);
    const piece = 1 + input.number(1) * 5;
    const said = input.rest();
    const socket = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
    socket.on("error", () => undefined);
    for (let at = 0; at < said.length; at += piece) socket.push(said.subarray(at, at + piece));
    socket.push(null);
    const wanted = { name: "nbd://x/", exportName: "e", contexts: ["base:allocation"], secure: undefined };
    const agreed = await negotiate(socket, wanted).catch((error: unknown) => {
      if (!isUsual(error)) throw error;
    });
    if (!agreed) return;
    const talk = new Conversation("nbd://x/", agreed.socket, agreed.agreed, 1000);
    const ask = (command: number, offset: number, length: number) =>
      talk.request({ command, verb: "read", offset, length, ...(command === 0 ? { sink: counted() } : {}) });
    await Promise.all(
      [ask(0, 0, READ_BYTES), ask(0, 4096, READ_BYTES), ask(7, 0, 1 << 20), ask(3, 0, 0)].map(ignoreUsual),
    );
    await talk.close();
  },
};
