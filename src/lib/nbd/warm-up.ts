/**
 * Owns bringing a thread up to speed before its first client comes: the engine of JavaScript compiles what has run some
 * thousand times, and without this a client's first tenth of a second would be several times slower. Serves made-up
 * requests from files without names, which are gone afterwards.
 */
import { BorrowedFile } from "../device/borrowed-file.ts";
import { nodeStorage } from "../device/node-storage.ts";
import { assembleImage } from "../overlay/live/assemble.ts";
import type { LiveImage } from "../overlay/live/image.ts";
import { writeNewJournal } from "../overlay/live/journal-writer.ts";
import type { CowfileTerms } from "../overlay/live/open-cowfile.ts";
import { newSharedState } from "../overlay/live/shared-state.ts";
import { Command, Magic } from "../protocol/constants.ts";
import { Outbox } from "./outbox.ts";
import { Transmission } from "./transmission.ts";

const SIZE_BYTES = 16 << 20;
const BLOCK_BYTES = 4096;
const BATCH = 32;
/** Enough for the optimising compiler; some 30 ms. */
const WRITES = 2000;
const NONCE_BYTES = 16;
const HEAD_BYTES = 28;

/** Runs some thousand requests through the whole data path. Errors (no room for the files) are of no concern. */
export function warmUp(): void {
  const files = [nodeStorage.scratch("base"), nodeStorage.scratch("cow"), nodeStorage.scratch("journal")] as const;
  try {
    files[0].resize(SIZE_BYTES);
    const [base, cow, journal] = files.map(({ fd }) => BorrowedFile.borrow(fd ?? -1, "warm-up", true));
    if (!base || !cow || !journal) return;
    const state = newSharedState(SIZE_BYTES / 1024 / 8);
    const nonce = new Uint8Array(NONCE_BYTES);
    const terms: CowfileTerms = {
      name: "warm-up",
      path: "warm-up",
      reserveBytes: 0,
      sizeBytes: SIZE_BYTES,
      dataOffsetBytes: 0,
      blockCount: SIZE_BYTES / 1024,
      mapSizeBytes: SIZE_BYTES / 1024 / 8,
      state,
      dirtyHead: undefined,
      nonce,
      slotsPerHalf: writeNewJournal(journal, nonce, [], new Int32Array(state.control)),
    };
    for (const structuredReplies of [false, true])
      run(assembleImage({ name: "warm-up", base, layers: [], top: { cow, journal, terms } }), structuredReplies);
  } finally {
    for (const file of files) file.close();
  }
}

function run(image: LiveImage, structuredReplies: boolean): void {
  const facts = {
    name: "",
    description: "",
    sizeBytes: SIZE_BYTES,
    flags: 0,
    blockSizes: { minimum: 1, preferred: BLOCK_BYTES, maximum: SIZE_BYTES },
    contexts: [],
  };
  const agreed = { export: facts, structuredReplies, extendedHeaders: false, contexts: [] };
  const transmission = new Transmission(image, agreed, new Outbox(() => undefined));
  const count = SIZE_BYTES / BLOCK_BYTES;
  // Every second block, so that there is something to be read below, too.
  for (let i = 0; i < WRITES; i += BATCH) {
    const blocks = Array.from({ length: BATCH }, (_, k) => (((i + k) * 2 * 797) % count) * BLOCK_BYTES);
    for (const type of [Command.WRITE, Command.WRITE, Command.READ]) serve(transmission, type, blocks);
    serve(
      transmission,
      Command.READ,
      blocks.map((offset) => (offset + BLOCK_BYTES) % SIZE_BYTES),
    );
  }
  transmission.end();
}

function serve(transmission: Transmission, type: number, offsets: readonly number[]): void {
  const each = HEAD_BYTES + (type === Command.WRITE ? BLOCK_BYTES : 0);
  const input = new Uint8Array(each * offsets.length);
  const view = new DataView(input.buffer);
  for (const [i, offset] of offsets.entries()) {
    view.setUint32(i * each, Magic.REQUEST);
    view.setUint16(i * each + 6, type);
    view.setUint32(i * each + 20, offset);
    view.setUint32(i * each + 24, BLOCK_BYTES);
  }
  transmission.consume(input);
  transmission.send();
}
