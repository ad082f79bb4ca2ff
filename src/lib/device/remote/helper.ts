/**
 * Owns the helper's side of the shared memory: it hears the doorbell, runs calls, fills pieces, and announces the
 * results.
 */
import type { Extent } from "../../bytes/extent.ts";
import { CowError, systemError } from "../../errors.ts";
import { Allocation, Context } from "../../protocol/constants.ts";
import type { ReadSink } from "./receiver.ts";
import type { Remembered } from "./sameness.ts";
import { type RemoteLimits, Session } from "./session.ts";
import {
  announce,
  Call,
  Numbers,
  Op,
  PIECE_BYTES,
  PIECE_COUNT,
  putText,
  type SharedMemory,
  Slot,
  Word,
} from "./shared-memory.ts";

/** What the thread is started with. */
export interface HelperData {
  readonly buffer: SharedArrayBuffer;
  readonly name: string;
  readonly limits: RemoteLimits;
  readonly remembered: Remembered;
}

/** The properties of an open export, in the text of the answer to OPEN. */
export interface Opened {
  readonly sizeBytes: number;
  readonly preferredBytes: number;
  readonly seesHoles: boolean;
}

/** The error, in the text of a call that FAILED. */
export type Failure = Pick<CowError, "code" | "message" | "file" | "details" | "hints">;

/** Up to this many neighbouring pieces are requested together: long enough for a disk, short enough for a network. */
const PIECES_PER_READ = 8;
/** Numbers of one extent in the answer to STATUS: its length, and whether it may hold data. */
const NUMBERS_PER_EXTENT = 2;

/** Time limit for reading the parts to remember; the rest is not remembered. */
const REMEMBER_MS = 500;

export class Helper {
  readonly #memory: SharedMemory;
  readonly #name: string;
  readonly #limits: RemoteLimits;
  readonly #remembered: Remembered;
  #session: Session | undefined;
  #isClosed = false;

  constructor(memory: SharedMemory, { name, limits, remembered }: Omit<HelperData, "buffer">) {
    this.#remembered = remembered;
    this.#memory = memory;
    this.#name = name;
    this.#limits = limits;
  }

  /** Serves until it is closed and has disconnected. */
  async run(): Promise<void> {
    const { words } = this.#memory;
    while (!this.#isClosed) {
      const rung = Atomics.load(words, Word.DOORBELL);
      if (Atomics.compareExchange(words, Word.CALL, Call.POSTED, Call.RUNNING) === Call.POSTED) void this.#call();
      this.#fetch();
      const next = Atomics.waitAsync(words, Word.DOORBELL, rung);
      if (next.async) await next.value;
    }
  }

  /** Answers the call under way, if there is one, with an error. */
  fail(error: unknown): void {
    const { code, message, file, details, hints } =
      error instanceof CowError ? error : systemError(error, this.#name, "the helper thread failed");
    putText(this.#memory, { code, message, file, details, hints } satisfies Failure);
    announce(this.#memory.words, Word.CALL, Call.FAILED);
  }

  async #call(): Promise<void> {
    const { numbers, words } = this.#memory;
    try {
      const [op = 0, offset = 0, length = 0] = numbers;
      numbers[Numbers.RESULT] = await this.#perform(op, offset, length);
      announce(words, Word.CALL, Call.DONE);
    } catch (error) {
      this.fail(error);
    }
  }

  async #perform(op: number, offset: number, length: number): Promise<number> {
    if (op === Op.OPEN) return this.#open();
    if (op === Op.CLOSE) return this.#close();
    const session = this.#session;
    if (!session) throw new Error("assertion failed: the export is not open");
    const data = this.#memory.data.subarray(0, length);
    switch (op) {
      case Op.READ:
        await session.run({ verb: "read", offset, length }, (client) => client.read(data, offset));
        return length;
      case Op.REMEMBER:
        return this.#remember(session, data);
      case Op.STATUS:
        return this.#status(session, offset, length);
      default:
        throw new Error(`assertion failed: there is no call ${op}`);
    }
  }

  /** Ends the thread, whether it is connected or not. */
  async #close(): Promise<number> {
    try {
      await this.#session?.close();
      return 0;
    } finally {
      const { words } = this.#memory;
      this.#isClosed = true;
      announce(words, Word.DOORBELL, (Atomics.load(words, Word.DOORBELL) + 1) | 0);
    }
  }

  async #open(): Promise<number> {
    this.#session = await Session.open(this.#name, this.#limits, this.#remembered);
    const { sizeBytes, blockSizes, contexts } = this.#session.export;
    const seesHoles = [...contexts.values()].includes(Context.ALLOCATION);
    putText(this.#memory, { sizeBytes, preferredBytes: blockSizes.preferred, seesHoles } satisfies Opened);
    return sizeBytes;
  }

  /** Takes extents as JSON from the data, and writes the remembered parts there in the same way. @returns their length */
  async #remember(session: Session, data: Uint8Array): Promise<number> {
    const extents = JSON.parse(Buffer.from(data).toString("utf8")) as readonly Extent[];
    const bytes = Buffer.from(JSON.stringify(await session.remember(extents, REMEMBER_MS)));
    if (bytes.length > this.#memory.data.length) throw new Error("assertion failed: so much is never remembered");
    this.#memory.data.set(bytes);
    return bytes.length;
  }

  /** Writes pairs (length, may hold data) from `offset` on. @returns how many pairs; 0 if nothing is known */
  async #status(session: Session, offset: number, length: number): Promise<number> {
    const status = await session.run({ verb: "learn what is data", offset, length }, (client) =>
      client.blockStatus(offset, length),
    );
    const extents = status.get(Context.ALLOCATION) ?? [];
    const { data } = this.#memory;
    const pairs = new Float64Array(data.buffer, data.byteOffset, data.length / 8);
    let count = 0;
    let last = -1;
    for (const extent of extents) {
      // A hole that is not known to be zeros may read as anything.
      const mayHoldData = (extent.flags & Allocation.ZERO) === 0 ? 1 : 0;
      if (mayHoldData === last) {
        const at = (count - 1) * NUMBERS_PER_EXTENT;
        pairs[at] = (pairs[at] ?? 0) + extent.length;
        continue;
      }
      if ((count + 1) * NUMBERS_PER_EXTENT > pairs.length) break;
      pairs[count * NUMBERS_PER_EXTENT] = extent.length;
      pairs[count * NUMBERS_PER_EXTENT + 1] = mayHoldData;
      last = mayHoldData;
      count++;
    }
    return count;
  }

  /** Takes the numbers in the ring, and requests neighbours together. */
  #fetch(): void {
    const { words, ring, offsets } = this.#memory;
    const tail = Atomics.load(words, Word.RING_TAIL);
    let run: number[] = [];
    for (let head = words[Word.RING_HEAD] ?? 0; head !== tail; head = (head + 1) | 0) {
      const slot = ring[head & (PIECE_COUNT - 1)] ?? 0;
      const first = run[0];
      const isNext = first !== undefined && offsets[slot] === (offsets[first] ?? 0) + run.length * PIECE_BYTES;
      if (!isNext || run.length === PIECES_PER_READ) {
        void this.#fill(run);
        run = [];
      }
      run.push(slot);
      words[Word.RING_HEAD] = (head + 1) | 0;
    }
    void this.#fill(run);
  }

  /**
   * Fills slots with neighbouring pieces. A failure is not reported here: a caller that needs the bytes requests them
   * again.
   */
  async #fill(slots: readonly number[]): Promise<void> {
    const [first] = slots;
    if (first === undefined) return;
    const { states, offsets } = this.#memory;
    const settle = (state: number): void => {
      for (const slot of slots) announce(states, slot, state);
    };
    try {
      const session = this.#session;
      const offset = offsets[first] ?? 0;
      const length = Math.min(slots.length * PIECE_BYTES, (session?.export.sizeBytes ?? 0) - offset);
      await session?.current().readInto(this.#sinkOf(slots), offset, length);
      settle(Slot.READY);
    } catch {
      settle(Slot.FAILED);
    }
  }

  #sinkOf(slots: readonly number[]): ReadSink {
    const { pieces } = this.#memory;
    /** Calls `part` for each range within one slot: its place in `pieces`, and in the whole. */
    const inSlots = (at: number, length: number, part: (start: number, done: number, size: number) => void): void => {
      for (let done = 0; done < length; ) {
        const within = (at + done) % PIECE_BYTES;
        const size = Math.min(length - done, PIECE_BYTES - within);
        part((slots[Math.floor((at + done) / PIECE_BYTES)] ?? 0) * PIECE_BYTES + within, done, size);
        done += size;
      }
    };
    return {
      put: (at, bytes) =>
        inSlots(at, bytes.length, (start, done, size) => pieces.set(bytes.subarray(done, done + size), start)),
      zero: (at, length) =>
        inSlots(at, length, (start, _, size) => {
          pieces.fill(0, start, start + size);
        }),
    };
  }
}
