/**
 * Owns one thread's writing to the live journal: entries are collected and written once per batch of requests.
 *
 * The journal has two halves. A checkpoint (write-order.ts) switches to the other half when it begins, so that a half
 * is used again only when all of its entries are in the bitmap on disk. Threads that are writing are counted, and the
 * switch waits for those that still write into the half to be used next.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { assert, CowError } from "../../errors.ts";
import { encodeRecord, LOG_BYTES, type LogRecord } from "../../formats/cowfile/live/flush-log.ts";
import {
  type BlockRun,
  ENTRY_BYTES,
  EntryCodec,
  JOURNAL_HEADER_BYTES,
  type JournalHeader,
  logOffset,
  MAX_ENTRY_BLOCKS,
  writeJournalHeader,
} from "../../formats/cowfile/live/journal.ts";
import { LogState } from "./flush-log-writer.ts";
import type { HeadWriter } from "./head-writer.ts";
import { withLock } from "./mutex.ts";
import { Control, Failure } from "./shared-state.ts";

/** A half grows by this many entries at a time: 64 KiB. */
const GROWTH_SLOTS = 4096;
/** Entries that one thread collects, and one change needs, at most. */
export const MAX_BATCH = 4096;
const WORDS = ENTRY_BYTES / 4;

/** Entries that the journal's halves hold unless there is more to begin with: 16 MiB each. */
const DEFAULT_SLOTS = 1 << 20;

/**
 * Writes a new journal: a header, and the runs that are not in the bitmap on disk in its first half. Without these, and
 * without records, it has no room for entries yet: a session that changes nothing needs none (makeRoom).
 *
 * @param log what is to be in its flush log from the start
 * @returns the slots of a half
 */
export function writeNewJournal(
  journal: BlockDevice,
  { nonce, generation, kept }: Omit<JournalHeader, "slotsPerHalf">,
  runs: readonly BlockRun[],
  control: Int32Array,
  log: readonly LogRecord[] = [],
): number {
  const slotsPerHalf = DEFAULT_SLOTS + runs.length;
  const codec = new EntryCodec(nonce);
  for (let from = 0; from < runs.length; from += MAX_BATCH) {
    const part = runs.slice(from, from + MAX_BATCH);
    const words = new Uint32Array(part.length * WORDS);
    for (const [i, run] of part.entries()) codec.encode(run.first, run.count, words, i * WORDS);
    journal.write(new Uint8Array(words.buffer), JOURNAL_HEADER_BYTES + from * ENTRY_BYTES);
  }
  writeJournalHeader(journal, { nonce, slotsPerHalf, generation, kept });
  Atomics.store(control, Control.NEXT_SLOT, runs.length);
  if (runs.length > 0 || log.length > 0) {
    const place = { logOffsetBytes: logOffset(slotsPerHalf), logBytes: LOG_BYTES };
    makeRoom(journal, { slotsPerHalf, ...place }, control, encodeLog(log, nonce));
  } else {
    // What a session cannot do without, as a hole: a limit of the size of files is noticed now.
    const end = JOURNAL_HEADER_BYTES + (slotsPerHalf + GROWTH_SLOTS) * ENTRY_BYTES;
    if (journal.sizeBytes < end) journal.resize(end);
  }
  return slotsPerHalf;
}

/**
 * Makes room for entries and records with real zeros, so that none of them waits for an allocation, or finds the disk full.
 * In both halves, as a checkpoint on a full disk switches to the other one.
 *
 * @param records at the beginning of the flush log
 * @throws CowError `io`; `no-space` if there is none for entries, or for these records
 */
function makeRoom(
  journal: BlockDevice,
  { slotsPerHalf, logOffsetBytes, logBytes }: JournalPlaces,
  control: Int32Array,
  records: Uint8Array,
): void {
  const first = Atomics.load(control, Control.NEXT_SLOT);
  const slots = Math.min(slotsPerHalf - first, GROWTH_SLOTS);
  const room = new Uint8Array(slots * ENTRY_BYTES);
  journal.write(room, JOURNAL_HEADER_BYTES + first * ENTRY_BYTES);
  journal.write(room, JOURNAL_HEADER_BYTES + slotsPerHalf * ENTRY_BYTES);
  const log = new Uint8Array(logBytes);
  log.set(records);
  try {
    journal.write(log, logOffsetBytes);
  } catch (error) {
    // On a full disk flushes take the longer way; but existing records must stay.
    if (records.length > 0 || !(error instanceof CowError && error.code === "no-space")) throw error;
    control[Control.LOG_STATE] = LogState.UNUSABLE;
  }
  Atomics.store(control, Control.SLOTS, first + slots);
  Atomics.store(control, Control.SLOTS + 1, slots);
  Atomics.store(control, Control.JOURNAL_ROOM, 1);
}

function encodeLog(log: readonly LogRecord[], nonce: Uint8Array): Uint8Array {
  return Buffer.concat(log.map((record) => encodeRecord(record, nonce)));
}

/** Where the parts of a journal are. */
export interface JournalPlaces {
  readonly slotsPerHalf: number;
  /** Of the flush log. */
  readonly logOffsetBytes: number;
  readonly logBytes: number;
}

export class JournalWriter {
  readonly slotsPerHalf: number;
  readonly #places: JournalPlaces;
  readonly #journal: BlockDevice;
  readonly #control: Int32Array;
  readonly #codec: EntryCodec;
  readonly #head: HeadWriter | undefined;
  /** One more than a batch, for its generation. */
  readonly #words = new Uint32Array((MAX_BATCH + 1) * WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #count = 0;
  /** Our reserved slots in PROMISED. */
  #promised = 0;
  /** Since this switch of the halves a generation of ours is in the half in use. */
  #generationSince = -1;

  constructor(parts: {
    readonly journal: BlockDevice;
    readonly nonce: Uint8Array;
    readonly places: JournalPlaces;
    readonly control: Int32Array;
    readonly head: HeadWriter | undefined;
  }) {
    this.#journal = parts.journal;
    this.#codec = new EntryCodec(parts.nonce);
    this.#places = parts.places;
    this.slotsPerHalf = parts.places.slotsPerHalf;
    this.#control = parts.control;
    this.#head = parts.head;
  }

  /**
   * Before the first change of a session, under the ORDER lock: makes the journal durable, and room in it. What a power cut
   * leaves until then is empty or all zeros, and known as ours by that (own-file.ts).
   *
   * @throws CowError `no-space`, `io`
   */
  begin(): void {
    if (Atomics.load(this.#control, Control.JOURNAL_DURABLE) === 0) {
      try {
        this.#journal.flush();
        this.#journal.syncName?.();
      } catch (error) {
        // Asked again, the kernel may say that all is written, and have dropped it.
        Atomics.compareExchange(this.#control, Control.FAILED, Failure.NONE, Failure.FSYNC);
        throw error;
      }
      Atomics.store(this.#control, Control.JOURNAL_DURABLE, 1);
    }
    if (Atomics.load(this.#control, Control.JOURNAL_ROOM) === 0)
      makeRoom(this.#journal, this.#places, this.#control, new Uint8Array(0));
  }

  /** Is there space in memory for this many more entries before the next write()? */
  canAdd(count: number): boolean {
    return this.#count + count <= MAX_BATCH;
  }

  /**
   * Makes sure of room on disk for entries of that many runs, before anything is done to these.
   *
   * @returns false if the half in use is full: a checkpoint makes space
   * @throws CowError `no-space`, `io`
   */
  promise(runs: number): boolean {
    const half = Atomics.load(this.#control, Control.EPOCH) & 1;
    // One more, because a generation may be added.
    const count = runs + 1;
    const all = Atomics.add(this.#control, Control.PROMISED, count) + count;
    this.#promised += count;
    const slots = Atomics.load(this.#control, Control.NEXT_SLOT + half) + all;
    if (slots <= Atomics.load(this.#control, Control.SLOTS + half)) return true;
    if (slots > this.slotsPerHalf) return false;
    this.#grow(half, slots);
    return true;
  }

  /** Remembers a run of blocks. No change is large enough for one that does not fit into an entry. */
  add(first: number, count: number): void {
    assert(count <= MAX_ENTRY_BLOCKS, "a run that fits into an entry");
    this.#codec.encode(first, count, this.#words, this.#count * WORDS);
    this.#count++;
  }

  /** Drops pending entries, and releases their reserved slots. */
  forget(): void {
    this.#count = 0;
    if (this.#promised > 0) Atomics.sub(this.#control, Control.PROMISED, this.#promised);
    this.#promised = 0;
  }

  /**
   * Writes what is pending, into the half in use.
   *
   * @returns false where that half has no room for it: a checkpoint does the same service
   * @throws CowError `io`
   */
  write(): boolean {
    if (this.#count === 0) return true;
    const epoch = this.#enter();
    const half = epoch & 1;
    try {
      this.#addGeneration(epoch);
      const first = Atomics.add(this.#control, Control.NEXT_SLOT + half, this.#count);
      if (first + this.#count > Atomics.load(this.#control, Control.SLOTS + half)) return false;
      const offset = JOURNAL_HEADER_BYTES + (half * this.slotsPerHalf + first) * ENTRY_BYTES;
      this.#journal.write(this.#bytes.subarray(0, this.#count * ENTRY_BYTES), offset);
      return true;
    } finally {
      Atomics.sub(this.#control, Control.WRITERS + half, 1);
    }
  }

  /**
   * Adds the generation, if it is a new one, and to the first entries of this thread in a half in any case: they may
   * be written over the last generation that the journal has.
   */
  #addGeneration(epoch: number): void {
    const generation = this.#head?.tick(epoch !== this.#generationSince);
    if (generation === undefined) return;
    this.#codec.encodeGeneration(generation, this.#words, this.#count++ * WORDS);
    this.#generationSince = epoch;
  }

  /** Counts this thread in as a writer of the half in use, and says at which switch that came into use: its lowest bit. */
  #enter(): number {
    for (;;) {
      const epoch = Atomics.load(this.#control, Control.EPOCH);
      const half = epoch & 1;
      Atomics.add(this.#control, Control.WRITERS + half, 1);
      if (Atomics.load(this.#control, Control.EPOCH) === epoch) return epoch;
      Atomics.sub(this.#control, Control.WRITERS + half, 1);
    }
  }

  /** Space is allocated with real zeros in advance: a full disk must be noticed here, not by an entry. */
  #grow(half: number, slots: number): void {
    withLock(this.#control, Control.GROW, () => {
      const have = Atomics.load(this.#control, Control.SLOTS + half);
      if (slots <= have) return;
      const want = Math.min(this.slotsPerHalf, Math.max(slots, have + GROWTH_SLOTS));
      const offset = JOURNAL_HEADER_BYTES + (half * this.slotsPerHalf + have) * ENTRY_BYTES;
      this.#journal.write(new Uint8Array((want - have) * ENTRY_BYTES), offset);
      Atomics.store(this.#control, Control.SLOTS + half, want);
    });
  }
}

/** Switches to the other half; called under the ORDER lock when a checkpoint begins. */
export function switchHalf(control: Int32Array): void {
  const next = Atomics.load(control, Control.EPOCH) + 1;
  while (Atomics.load(control, Control.WRITERS + (next & 1)) !== 0) {
    // Threads that entered the other half before the last switch may still be writing: a matter of microseconds.
  }
  Atomics.store(control, Control.NEXT_SLOT + (next & 1), 0);
  Atomics.store(control, Control.EPOCH, next);
}
