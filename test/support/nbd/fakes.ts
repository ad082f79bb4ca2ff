/**
 * Owns the servers that a client must survive, each as the conversation that it leads, and two good ones that speak what
 * the servers of others here do not. Every one is named by what is wrong with it.
 */
import { type FakeRequest, type Peer, u16, u32, u64 } from "./fake-peer.ts";

type Conversation = (peer: Peer, index: number) => Promise<void>;

const NEVER = new Promise<void>(() => undefined);
const OFFSET_DATA = 1;
const OFFSET_HOLE = 2;
const BLOCK_STATUS = 5;
const ERROR = 0x8001;
const ERROR_OFFSET = 0x8002;
const READ = 0;

/** Shakes hands well and then does this with each request. */
function answering(answer: (peer: Peer, request: FakeRequest) => Promise<void>): Conversation {
  return async (peer) => {
    await peer.shakeHands();
    for (;;) await answer(peer, await peer.request());
  };
}

/** An honest answer to a READ: the byte at n is n mod 251. */
function content({ offset, length }: FakeRequest): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (Number(offset) + i) % 251));
}

function honest(peer: Peer, request: FakeRequest): Promise<void> {
  return peer.chunk(request.cookie, OFFSET_DATA, Buffer.concat([u64(request.offset), content(request)]));
}

async function flood(peer: Peer, bytes: Uint8Array): Promise<void> {
  for (;;) await peer.write(bytes);
}

/** Answers GO with this instead of what is right. */
function going(answer: (peer: Peer) => Promise<void>): Conversation {
  return async (peer) => {
    await peer.greet();
    for (let option = 0; option !== 7; ) {
      ({ option } = await peer.option());
      if (option !== 7) await peer.reply(option, 0x8000_0001);
    }
    await answer(peer);
    await NEVER;
  };
}

const error = (number: number, text: string, claims = Buffer.byteLength(text)): Buffer =>
  Buffer.concat([u32(number), u16(claims), Buffer.from(text)]);

const HANDSHAKES = {
  silent: () => NEVER,
  "closes at once": async (peer) => {
    peer.socket.destroy();
  },
  "another protocol": async (peer) => {
    await peer.write(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"));
  },
  "endless greeting": (peer) => flood(peer, Buffer.alloc(65_536, "NBDMAGIC")),
  "half a greeting": async (peer) => {
    await peer.write(Buffer.from("NBDMAGICIHAVE"));
    await NEVER;
  },
  "half a reply": going(async (peer) => {
    await peer.write(u64(0x3e889045565a9n), u32(7), u32(3));
    await NEVER;
  }),
  "old style": async (peer) => {
    await peer.write(Buffer.from("NBDMAGIC"), u64(0x00420281861253n), Buffer.alloc(136));
  },
  "closes during options": async (peer) => {
    await peer.greet();
    await peer.option();
    peer.socket.destroy();
  },
  "endless infos": going(async (peer) => {
    for (;;) await peer.reply(7, 3, Buffer.concat([u16(1), Buffer.from("a name")]));
  }),
  "a reply of 2 GiB": going((peer) => peer.write(u64(0x3e889045565a9n), u32(7), u32(3), u32(2 ** 31))),
  "a reply to another option": going((peer) => peer.reply(6, 1)),
  "a reply with another magic": going((peer) => peer.write(Buffer.alloc(20, 7))),
  "an export of 2^63 bytes": going((peer) => peer.reply(7, 3, Buffer.concat([u16(0), u64(2n ** 63n), u16(1)]))),
  "a short info": going((peer) => peer.reply(7, 3, Buffer.alloc(1))),
  "short export info": going((peer) => peer.reply(7, 3, Buffer.alloc(5))),
  "blocks of three bytes": going((peer) => peer.reply(7, 3, Buffer.concat([u16(3), u32(3), u32(6), u32(9)]))),
  "blocks of 1 MiB at least": going((peer) =>
    peer.reply(7, 3, Buffer.concat([u16(3), u32(1 << 20), u32(1 << 20), u32(1 << 21)])),
  ),
  "no size": going((peer) => peer.reply(7, 1)),
  "an error text without end": going((peer) =>
    peer.write(u64(0x3e889045565a9n), u32(7), u32(0x8000_0002), u32(1 << 20)),
  ),
  "a context that nobody asked for": (peer) => peer.shakeHands({ contexts: ["base:other"] }),
  "one number for two contexts": async (peer) => {
    await peer.greet();
    for (let option = 0; option !== 10; ) {
      ({ option } = await peer.option());
      if (option !== 10) await peer.reply(option, option === 8 ? 1 : 0x8000_0001);
    }
    for (let i = 0; i < 2; i++) await peer.reply(10, 4, Buffer.concat([u32(5), Buffer.from("base:allocation")]));
    await NEVER;
  },
  "plain bytes before TLS": async (peer) => {
    await peer.greet();
    const { option } = await peer.option();
    // In one piece, as somebody in between would inject it.
    const ack = (to: number): Buffer => Buffer.concat([u64(0x3e889045565a9n), u32(to), u32(1), u32(0)]);
    await peer.write(ack(option), ack(8));
    await NEVER;
  },
} satisfies Record<string, Conversation>;

const REPLIES = {
  "never answers": answering(() => NEVER),
  "closes in mid-data": answering(async (peer, request) => {
    const start = Buffer.concat([u64(request.offset), Buffer.alloc(4)]);
    await peer.chunk(request.cookie, OFFSET_DATA, start, { claims: 8 + request.length });
    peer.socket.end();
  }),
  "another magic": answering((peer) => peer.write(Buffer.alloc(64, 9))),
  "a cookie that nobody sent": answering((peer, { cookie }) => peer.chunk(cookie + 1n, 0, Buffer.alloc(0))),
  "a simple reply to a structured READ": answering((peer, request) =>
    peer.simple(request.cookie, 0, Buffer.alloc(request.length)),
  ),
  "an extended reply": answering((peer, request) => peer.extendedChunk(request, 0, Buffer.alloc(0))),
  "data from before": answering((peer, { cookie, offset }) =>
    peer.chunk(cookie, OFFSET_DATA, Buffer.concat([u64(offset - 1n), Buffer.alloc(8)])),
  ),
  "data from beyond": answering((peer, { cookie, offset, length }) =>
    peer.chunk(cookie, OFFSET_DATA, Buffer.concat([u64(offset + 1n), Buffer.alloc(length)])),
  ),
  "data from 2^64": answering((peer, { cookie }) =>
    peer.chunk(cookie, OFFSET_DATA, Buffer.concat([u64(2n ** 64n - 1n), Buffer.alloc(8)])),
  ),
  "a chunk of 4 GiB": answering((peer, { cookie, offset }) =>
    peer.chunk(cookie, OFFSET_DATA, u64(offset), { claims: 2 ** 32 - 1 }),
  ),
  "the same data again and again": answering(async (peer, { cookie, offset, length }) => {
    const half = Buffer.concat([u64(offset), Buffer.alloc(Math.ceil(length / 2))]);
    for (;;) await peer.chunk(cookie, OFFSET_DATA, half, { last: false });
  }),
  "no data": answering((peer, { cookie }) => peer.chunk(cookie, 0, Buffer.alloc(0))),
  "less data": answering((peer, request) =>
    peer.chunk(request.cookie, OFFSET_DATA, Buffer.concat([u64(request.offset), content(request).subarray(1)])),
  ),
  "a chunk without data": answering((peer, { cookie, offset }) => peer.chunk(cookie, OFFSET_DATA, u64(offset))),
  "a hole of 4 GiB": answering((peer, { cookie, offset }) =>
    peer.chunk(cookie, OFFSET_HOLE, Buffer.concat([u64(offset), u32(2 ** 32 - 1)])),
  ),
  "holes of nothing": answering(async (peer, { cookie, offset }) => {
    for (;;) await peer.chunk(cookie, OFFSET_HOLE, Buffer.concat([u64(offset), u32(0)]), { last: false });
  }),
  "a status instead of data": answering((peer, { cookie }) =>
    peer.chunk(cookie, BLOCK_STATUS, Buffer.concat([u32(7), u32(4096), u32(0)])),
  ),
  "an empty chunk that is not the last": answering((peer, { cookie }) =>
    peer.chunk(cookie, 0, Buffer.alloc(0), { last: false }),
  ),
  "a chunk of an unknown type": answering((peer, { cookie }) => peer.chunk(cookie, 77, Buffer.alloc(4))),
  "an error without a number": answering((peer, { cookie }) => peer.chunk(cookie, ERROR, error(0, "fine"))),
  "an error cut short": answering((peer, { cookie }) => peer.chunk(cookie, ERROR, Buffer.alloc(5))),
  "an error that claims a longer text": answering((peer, { cookie }) =>
    peer.chunk(cookie, ERROR, error(5, "bad", 400)),
  ),
  "an error of 1 MiB": answering((peer, { cookie }) => peer.chunk(cookie, ERROR, error(5, ""), { claims: 1 << 20 })),
  "an error that is no text": answering((peer, { cookie }) =>
    peer.chunk(cookie, ERROR, Buffer.concat([u32(5), u16(2), Buffer.from([0xff, 0xfe])])),
  ),
  "errors for ever": answering(async (peer, { cookie }) => {
    for (;;) await peer.chunk(cookie, ERROR, error(5, "once more"), { last: false });
  }),
} satisfies Record<string, Conversation>;

/** Sends what BLOCK_STATUS is answered with. */
function telling(answer: (peer: Peer, request: FakeRequest) => Promise<void>): Conversation {
  return answering((peer, request) => (request.command === READ ? honest(peer, request) : answer(peer, request)));
}

const STATUSES = {
  "the status of another context": telling((peer, { cookie }) =>
    peer.chunk(cookie, BLOCK_STATUS, Buffer.concat([u32(99), u32(4096), u32(0)])),
  ),
  "a status without extents": telling((peer, { cookie }) => peer.chunk(cookie, BLOCK_STATUS, u32(7))),
  "half an extent": telling((peer, { cookie }) => peer.chunk(cookie, BLOCK_STATUS, Buffer.concat([u32(7), u32(1)]))),
  "an extent of nothing": telling((peer, { cookie }) =>
    peer.chunk(cookie, BLOCK_STATUS, Buffer.concat([u32(7), u32(0), u32(0)])),
  ),
  "too many extents": telling((peer, { cookie }) =>
    peer.chunk(cookie, BLOCK_STATUS, u32(7), { claims: 4 + 8 * ((1 << 20) + 1) }),
  ),
} satisfies Record<string, Conversation>;

const ODD_ONES = {
  /** Bytes and errors in the middle, each as the protocol allows it. */
  "fails at byte 100000": answering((peer, request) => {
    const { cookie, offset, length } = request;
    const bad = 100_000n;
    if (bad < offset || bad >= offset + BigInt(length)) return honest(peer, request);
    return peer.chunk(cookie, ERROR_OFFSET, Buffer.concat([error(5, "head crash"), u64(bad)]));
  }),
  /** Data in pieces, out of order, with holes between: the book allows it. */
  "pieces out of order": answering(async (peer, { cookie, offset, length }) => {
    const half = Math.floor(length / 2);
    const later = { cookie, flags: 0, command: 0, offset: offset + BigInt(half), length: length - half };
    await peer.chunk(cookie, OFFSET_DATA, Buffer.concat([u64(later.offset), content(later)]), { last: false });
    if (half > 0) await peer.chunk(cookie, OFFSET_HOLE, Buffer.concat([u64(offset), u32(half)]), { last: false });
    await peer.chunk(cookie, 0, Buffer.alloc(0));
  }),
  /** Byte by byte: the client must not take a beginning for the whole. */
  "one byte at a time": answering(async (peer, request) => {
    const cut = { ...request, length: request.length };
    const whole = Buffer.concat([
      u32(0x668e33ef),
      u16(1),
      u16(OFFSET_DATA),
      u64(cut.cookie),
      u32(8 + cut.length),
      u64(cut.offset),
      content(cut),
    ]);
    for (const byte of whole) await peer.write(Buffer.from([byte]));
  }),
  /** And in the handshake no less. */
  "one byte at a time from the beginning": async (peer) => {
    const write = peer.write.bind(peer);
    peer.write = async (...parts) => {
      for (const byte of Buffer.concat(parts)) {
        await write(Buffer.from([byte]));
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await peer.shakeHands();
    for (;;) await honest(peer, await peer.request());
  },
  /** Extended headers, which no server of others here has. */
  "extended headers": async (peer) => {
    await peer.shakeHands({ extended: true, sizeBytes: 2n ** 40n });
    for (;;) {
      const request = await peer.request(true);
      if (request.command === 2) return;
      if (request.command === READ)
        await peer.extendedChunk(request, OFFSET_DATA, Buffer.concat([u64(request.offset), content(request)]));
      else {
        const extents = [u64(65_536), u64(0), u64(2n ** 39n), u64(3)];
        await peer.extendedChunk(request, 6, Buffer.concat([u32(7), u32(2), ...extents]));
      }
    }
  },
  /** Each READ ends the connection. */
  "closes on each READ": answering(async (peer) => {
    peer.socket.destroy();
    await NEVER;
  }),
  /** The first connection ends on the first READ; the second is honest. */
  "closes once": async (peer, index) => {
    await peer.shakeHands();
    for (;;) {
      const request = await peer.request();
      if (request.command !== READ) continue;
      if (index === 0) peer.socket.destroy();
      else await honest(peer, request);
    }
  },
  /** After the first connection the export has another size. */
  "another size afterwards": async (peer, index) => {
    await peer.shakeHands({ sizeBytes: BigInt((index + 1) << 20) });
    await peer.request();
    peer.socket.destroy();
  },
  /** Says that it is shutting down, and then is. */
  "shuts down once": async (peer, index) => {
    await peer.shakeHands();
    for (;;) {
      const request = await peer.request();
      if (index > 0) await honest(peer, request);
      else await peer.chunk(request.cookie, ERROR, error(108, ""));
    }
  },
} satisfies Record<string, Conversation>;

export const FAKES = { ...HANDSHAKES, ...REPLIES, ...STATUSES, ...ODD_ONES } satisfies Record<string, Conversation>;
export type FakeName = keyof typeof FAKES;

/** Fakes that break the handshake, a READ and a BLOCK_STATUS. */
export const BROKEN = {
  handshakes: Object.keys(HANDSHAKES) as (keyof typeof HANDSHAKES)[],
  replies: Object.keys(REPLIES) as (keyof typeof REPLIES)[],
  statuses: Object.keys(STATUSES) as (keyof typeof STATUSES)[],
};
