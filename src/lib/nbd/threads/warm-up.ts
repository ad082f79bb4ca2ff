/**
 * Owns warming up a thread before its first client comes: the JavaScript engine compiles code that has run some
 * thousand times, and without this a client's first tenth of a second would be several times slower. A simulated client
 * talks to the thread's own session through real sockets, and writes to a file without a name.
 */
import * as fs from "node:fs";
import { BorrowedFile } from "../../device/borrowed-file.ts";
import { Receiver, socketPair } from "../../device/sys/socket.ts";
import { Command, Magic } from "../../protocol/constants.ts";
import { assembleImage } from "../../stack/live/assemble.ts";
import type { CowfileConfig } from "../../stack/live/cowfile-config.ts";
import { writeNewJournal } from "../../stack/live/journal-writer.ts";
import { newSharedState } from "../../stack/live/shared-state.ts";
import type { BlockingSession } from "./blocking-session.ts";

const SIZE_BYTES = 16 << 20;
const BLOCK_BYTES = 4096;
/** Requests in a batch: with their replies they fit into a socket's buffer. */
const BATCH = 24;
/** Enough for the optimising compiler; some 40 ms. */
const ROUNDS = 120;
const NONCE_BYTES = 16;
const HEAD_BYTES = 28;
const NOTHING = new Uint8Array(0);

/**
 * Runs some thousand requests through the whole data path. Errors are ignored.
 *
 * @param scratchFd a file whose content nobody cares for, at most 32 MiB of which are used; threads may share it
 */
export function warmUp(session: BlockingSession, scratchFd: number): void {
  const sockets = socketPair();
  if (!sockets) return;
  try {
    const image = assembleImage(partsOver(BorrowedFile.borrow(scratchFd, "warm-up", true)));
    const [client, server] = sockets;
    const input = new Uint8Array(BATCH * (HEAD_BYTES + BLOCK_BYTES) + HEAD_BYTES);
    const receiver = new Receiver(client, new Uint8Array(BATCH * (2 * HEAD_BYTES + BLOCK_BYTES)));
    for (let round = 0; round < ROUNDS; round++) {
      // Writes to new blocks, reads of these and of the backing, and every third time writes to blocks written before.
      const type = round % 2 === 0 ? Command.WRITE : Command.READ;
      const first = round % 6 === 4 ? 0 : (round >>> 1) * BATCH;
      const size = encodeBatch(input, type, first);
      fs.writeSync(client, input, 0, size);
      session.run(server, image, agreed(round % 4 < 2), NOTHING);
      while (receiver.now(0) > 0) {}
    }
  } finally {
    for (const fd of sockets) fs.closeSync(fd);
  }
}

function partsOver(file: BorrowedFile): Parameters<typeof assembleImage>[0] {
  const state = newSharedState(SIZE_BYTES / 1024 / 8);
  const nonce = new Uint8Array(NONCE_BYTES);
  const config: CowfileConfig = {
    name: "warm-up",
    path: "warm-up",
    reserveBytes: 0,
    sizeBytes: SIZE_BYTES,
    dataOffsetBytes: SIZE_BYTES,
    blockCount: SIZE_BYTES / 1024,
    mapSizeBytes: SIZE_BYTES / 1024 / 8,
    state,
    dirtyHead: undefined,
    nonce,
    stamp: undefined,
    logOffsetBytes: 0,
    logBytes: 0,
    slotsPerHalf: writeNewJournal(file, { nonce, generation: 0, kept: [] }, [], new Int32Array(state.control)),
  };
  return { name: "warm-up", base: file, layers: [], top: { cow: file, journal: file, config }, files: [file] };
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

/** A batch of requests of one kind from a block on, and a goodbye. @returns its bytes */
function encodeBatch(input: Uint8Array, type: number, firstBlock: number): number {
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
  for (let i = 0; i < BATCH; i++) {
    // Every second block, so that the backing is read, too.
    head(type, (((firstBlock + i) * 2 * 797) % (SIZE_BYTES / BLOCK_BYTES)) * BLOCK_BYTES, BLOCK_BYTES);
    if (type === Command.WRITE) at += BLOCK_BYTES;
  }
  head(Command.DISC, 0, 0);
  return at;
}
