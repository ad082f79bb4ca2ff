/**
 * Proves that nothing is lost or sent twice when data that was to be sent from where it lies cannot be read there: what has
 * gone out and what is left are the whole, however the kernel cut it.
 */
import { closeSync, readSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { libc } from "../../../src/lib/device/sys/libc.ts";
import { addressOf } from "../../../src/lib/device/sys/positioned.ts";
import { socketPair, takeSocket } from "../../../src/lib/device/sys/socket.ts";
import { GatherList, type Unsent } from "../../../src/lib/nbd/read-path/gather-list.ts";
import { OUTBOX_BYTES, Outbox } from "../../../src/lib/nbd/transmission/outbox.ts";
import { Request } from "../../../src/lib/nbd/transmission/request.ts";
import { noise, random } from "../../support/random.ts";

/** Nothing lies there in any process. */
const NOWHERE = 4096;
const CASES = 300;
const SEED = 77;

const memory = noise(1 << 20, 5);
const memoryAddress = addressOf(memory) ?? 0;

/** Everything that has come, without waiting for more. */
function received(fd: number): Buffer {
  const pieces: Buffer[] = [];
  const piece = Buffer.alloc(1 << 20);
  for (;;) {
    let got: number;
    try {
      got = readSync(fd, piece);
    } catch {
      return Buffer.concat(pieces);
    }
    if (got === 0) return Buffer.concat(pieces);
    pieces.push(Buffer.from(piece.subarray(0, got)));
  }
}

interface Piece {
  readonly head: Buffer;
  readonly offset: number;
  readonly length: number;
  readonly isWhole: boolean;
  readonly isThere: boolean;
}

function requestFor(id: number): Request {
  const request = new Request();
  request.cookieLow = id;
  return request;
}

/** What a client would have got in the end. */
function completed(sent: Buffer, unsent: readonly Unsent[], pieces: readonly Piece[]): Buffer {
  const rest = unsent.map((part) => {
    if (part.kind === "bytes") return part.bytes;
    if (part.kind === "data") return memory.subarray(part.offset, part.offset + part.length);
    const { head, offset, length } = pieces[part.request.cookieLow] as Piece;
    return Buffer.concat([head, memory.subarray(offset, offset + length)]);
  });
  return Buffer.concat([sent, ...rest]);
}

describe.skipIf(!libc())("data that is sent from where it lies", () => {
  test("goes out also where nothing else waits", () => {
    const [client, server] = socketPair() ?? [-1, -1];
    const buffer = new ArrayBuffer(OUTBOX_BYTES);
    const references = GatherList.of(buffer);
    if (references) references.fd = server;
    const outbox = new Outbox((bytes) => void writeSync(server, bytes), buffer, references);
    outbox.simple(requestFor(1), 0);
    outbox.flush();
    expect(received(client)).toHaveLength(16);
    outbox.gather(memoryAddress + 100, 5000, 100);
    expect([outbox.pending, outbox.flush(), outbox.pending]).toEqual([5000, [], 0]);
    expect(received(client).equals(memory.subarray(100, 5100))).toBe(true);
    for (const one of [client, server]) closeSync(one);
  });

  test(`is sent, or said to be left, to the byte (${CASES} batches, seed ${SEED})`, () => {
    const next = random(SEED);
    const upTo = (limit: number): number => Math.floor(next() * limit);
    let [faults, inTheMiddle, notBegun] = [0, 0, 0];
    for (let run = 0; run < CASES; run++) {
      const [client, server] = socketPair() ?? [-1, -1];
      // As the server has it: a call blocks until all is sent.
      const fd = takeSocket(server) ?? -1;
      const outbox = new ArrayBuffer(1 << 20);
      const bytes = new Uint8Array(outbox);
      const references = GatherList.of(outbox);
      if (!references) throw new Error("there are native calls, but no references");
      references.fd = fd;
      const pieces: Piece[] = [];
      const expected: Uint8Array[] = [];
      let at = 0;
      for (let i = 1 + upTo(8); i > 0; i--) {
        const head = Buffer.from(noise(1 + upTo(60), run * 100 + i));
        const length = 1 + upTo(next() < 0.5 ? 5000 : 18_000);
        const offset = upTo(memory.length - length);
        const isThere = next() < 0.8;
        const isWhole = next() < 0.7;
        const start = at;
        bytes.set(head, at);
        at += head.length;
        references.add(at, isThere ? memoryAddress + offset : NOWHERE, length, offset);
        if (isWhole) references.noteWhole(requestFor(pieces.length), start);
        pieces.push({ head, offset, length, isWhole, isThere });
        expected.push(head, memory.subarray(offset, offset + length));
      }
      const tail = Buffer.from(noise(upTo(40), run));
      bytes.set(tail, at);
      at += tail.length;
      expected.push(tail);

      const isAll = references.send(at);
      const unsent = isAll ? [] : references.unsent(at);
      expect(isAll).toBe(pieces.every(({ isThere }) => isThere));
      if (!isAll) faults++;
      inTheMiddle += unsent.filter(({ kind }) => kind === "data").length;
      notBegun += unsent.filter(({ kind }) => kind === "reply").length;
      const got = completed(received(client), unsent, pieces);
      expect(got.equals(Buffer.concat(expected))).toBe(true);
      // Replies that can still be errors are never given out as data without a head.
      for (const part of unsent) if (part.kind === "reply") expect(pieces[part.request.cookieLow]?.isWhole).toBe(true);
      for (const one of [client, server, fd]) closeSync(one);
    }
    // All of it has happened.
    expect(Math.min(faults, inTheMiddle, notBegun)).toBeGreaterThan(20);
  });
});
