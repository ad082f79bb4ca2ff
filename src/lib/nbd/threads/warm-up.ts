/**
 * Owns warming up a thread before its first client comes: the JavaScript engine compiles code that has run some
 * thousand times, and without this a client's first tenth of a second would be several times slower. A simulated client
 * talks to the thread's own session through real sockets, and writes to a file in memory.
 */
import * as fs from "node:fs";
import { BorrowedFile } from "../../device/borrowed-file.ts";
import { Receiver, socketPair } from "../../device/sys/socket.ts";
import { LOG_BYTES } from "../../formats/cowfile/live/flush-log.ts";
import { logOffset } from "../../formats/cowfile/live/journal.ts";
import { NONCE_BYTES, STAMP_BYTES, STAMP_SECTOR_BYTES } from "../../formats/cowfile/live/stamp.ts";
import { Command, Magic } from "../../protocol/constants.ts";
import { assembleImage, type ImageParts } from "../../stack/live/assemble.ts";
import { bareConfig, makeOrder } from "../../stack/live/cowfile-config.ts";
import { Gate, Passage } from "../../stack/live/gate.ts";
import { writeNewJournal } from "../../stack/live/journal-writer.ts";
import { newShared, newSlot } from "../meter/slot.ts";
import type { BlockingSession } from "./blocking-session.ts";

const SIZE_BYTES = 16 << 20;
const BLOCK_BYTES = 4096;
/** Requests that are sent at a time: they, and their replies, fit into a socket's buffer. */
const BATCH = 24;
/** Enough for the optimising compiler; some 40 ms. */
const ROUNDS = 120;
/** After these, one small write and a flush at a time. */
const FLUSH_ROUNDS = 400;
const HEAD_BYTES = 28;
const NOTHING = new Uint8Array(0);

/**
 * Runs some thousand requests through the whole data path. Errors are ignored.
 *
 * @param memoryFd a file in memory, so that flushes cost nothing; threads may share it, as its content does not matter
 */
export function warmUp(session: BlockingSession, memoryFd: number): void {
  const sockets = socketPair();
  if (!sockets) return;
  try {
    const image = assembleImage(partsOver(BorrowedFile.borrow(memoryFd, "warm-up", true)));
    const meter = { slot: newSlot(2), shared: newShared() };
    const current = { epoch: 0, reach: () => undefined };
    const passage = new Passage(new Gate().connect().passed, current);
    const [client, server] = sockets;
    const input = new Uint8Array(BATCH * (HEAD_BYTES + BLOCK_BYTES) + 2 * HEAD_BYTES);
    const receiver = new Receiver(client, new Uint8Array(BATCH * (2 * HEAD_BYTES + BLOCK_BYTES)));
    const send = (type: number, first: number, count: number, round: number): void => {
      fs.writeSync(client, input, 0, encodeBatch(input, type, first, count));
      session.run(server, { image, passage }, agreed(round % 4 < 2), NOTHING, meter);
      while (receiver.now(0) > 0) {}
    };
    for (let round = 0; round < ROUNDS; round++) {
      // Writes to new blocks, reads of these and of the backing, and every third time writes to blocks written before.
      const first = round % 6 === 4 ? 0 : (round >>> 1) * BATCH;
      send(round % 2 === 0 ? Command.WRITE : Command.READ, first, BATCH, round);
    }
    for (let round = 0; round < FLUSH_ROUNDS; round++) send(Command.FLUSH, round, 1, round);
  } finally {
    for (const fd of sockets) fs.closeSync(fd);
  }
}

function partsOver(file: BorrowedFile): ImageParts {
  const bare = bareConfig("warm-up", SIZE_BYTES);
  const nonce = new Uint8Array(NONCE_BYTES);
  const control = bare.state.control;
  const slotsPerHalf = writeNewJournal(file, { nonce, generation: 0, kept: [] }, [], control);
  const config = {
    ...bare,
    dataOffsetBytes: SIZE_BYTES,
    dirtyHead: new Uint8Array(STAMP_SECTOR_BYTES),
    nonce,
    stamp: { nonce, boot: nonce, offset: STAMP_BYTES, usesLog: false, logDone: 0, generation: 0 },
    logOffsetBytes: logOffset(slotsPerHalf),
    logBytes: LOG_BYTES,
    slotsPerHalf,
  };
  const top = makeOrder({ cow: file, journal: file, config });
  return { name: "warm-up", base: file, layers: [], top, files: [file] };
}

function agreed(structuredReplies: boolean): Parameters<BlockingSession["run"]>[2] {
  const facts = {
    name: "",
    description: "",
    sizeBytes: SIZE_BYTES,
    flags: 0,
    blockSizes: { minimum: 1, preferred: BLOCK_BYTES, maximum: SIZE_BYTES },
    contexts: [],
  };
  return { export: facts, structuredReplies, extendedHeaders: false, contexts: [] };
}

/** Requests of one kind from a block on, as writes with a flush after them for `FLUSH`, and a goodbye. @returns its bytes */
function encodeBatch(input: Uint8Array, type: number, firstBlock: number, count: number): number {
  const view = new DataView(input.buffer);
  let at = 0;
  const head = (what: number, offset: number, length: number): void => {
    view.setUint32(at, Magic.REQUEST);
    view.setUint16(at + 4, 0);
    view.setUint16(at + 6, what);
    view.setUint32(at + 20, offset);
    view.setUint32(at + 24, length);
    at += HEAD_BYTES;
  };
  for (let i = 0; i < count; i++) {
    // Every second block, so that the backing is read, too.
    const offset = (((firstBlock + i) * 2 * 797) % (SIZE_BYTES / BLOCK_BYTES)) * BLOCK_BYTES;
    head(type === Command.READ ? type : Command.WRITE, offset, BLOCK_BYTES);
    if (type !== Command.READ) at += BLOCK_BYTES;
  }
  if (type === Command.FLUSH) head(type, 0, 0);
  head(Command.DISC, 0, 0);
  return at;
}
