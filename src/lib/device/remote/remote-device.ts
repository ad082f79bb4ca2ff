/**
 * Owns an export of an NBD server as a BlockDevice, which is only read. Its calls block, while a helper thread holds the connection;
 * sequential reads are read ahead. Data is cached for a while, so the export must not be written meanwhile.
 */
import type { Extent } from "../../bytes/extent.ts";
import { CowError } from "../../errors.ts";
import { parseNbdUri } from "../../protocol/uri.ts";
import type { BlockDevice, RemoteExport } from "../block-device.ts";
import { ReadOnlyDevice } from "../read-only-device.ts";
import { Caller } from "./caller.ts";
import { type Alternating, ExtentCache } from "./extent-cache.ts";
import type { Opened } from "./helper.ts";
import { PieceCache } from "./piece-cache.ts";
import { ReadAhead } from "./read-ahead.ts";
import { isReplaced, newRemembered, type Remembered, type RememberedPart } from "./sameness.ts";
import type { RemoteLimits } from "./session.ts";
import { CALL_BYTES, Op, PIECE_BYTES, takeText } from "./shared-memory.ts";

/** Read-ahead limit: enough to keep a fast network busy while the last of it is used. */
const WINDOW_BYTES = 4 << 20;
/** Remembered parts: as many as their digests fit into one answer. */
const REMEMBERED_AT_MOST = 4096;
const REMEMBERED_PART_BYTES = 64 << 10;

function* inParts(extents: readonly Extent[]): Generator<Extent> {
  for (const { offset, length } of extents) {
    for (let done = 0; done < length; done += REMEMBERED_PART_BYTES)
      yield { offset: offset + done, length: Math.min(REMEMBERED_PART_BYTES, length - done) };
  }
}

/** Numbers of an extent in the answer to STATUS. */
const NUMBERS_PER_EXTENT = 2;

/** How an export of an NBD server is opened. */
export interface RemoteOptions extends RemoteLimits {
  /** By a device of the same export, in this thread or another: it must be the same image. */
  readonly remembered?: Remembered | undefined;
}

export class RemoteDevice extends ReadOnlyDevice implements BlockDevice, RemoteExport {
  readonly name: string;
  readonly sizeBytes: number;
  readonly seesHoles: boolean;
  readonly allocationUnitBytes: number;
  readonly #caller: Caller;
  readonly #cache: PieceCache;
  readonly #readAhead = new ReadAhead(WINDOW_BYTES, PIECE_BYTES);
  readonly #extents: ExtentCache;

  #remembered: Remembered;

  private constructor(name: string, caller: Caller, opened: Opened, remembered: Remembered) {
    super();
    this.#remembered = remembered;
    this.name = name;
    this.#caller = caller;
    this.#cache = new PieceCache(caller.memory);
    this.sizeBytes = opened.sizeBytes;
    this.seesHoles = opened.seesHoles;
    this.allocationUnitBytes = opened.preferredBytes;
    this.#extents = new ExtentCache(opened.sizeBytes, (offset, length) => this.#ask(offset, length));
  }

  /**
   * Connects to an export.
   *
   * @param uri nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, or with TLS nbds://…, nbds+unix://…
   * @throws CowError `usage` (no such URI), `not-found` (no such export), `permission` (TLS wanted), `io`
   */
  static open(uri: string, { remembered, ...limits }: RemoteOptions = {}): RemoteDevice {
    parseNbdUri(uri);
    const known = remembered ?? newRemembered();
    const caller = new Caller(uri, limits, known);
    try {
      caller.call(Op.OPEN);
      const opened = takeText(caller.memory) as Opened;
      return new RemoteDevice(uri, caller, opened, known);
    } catch (error) {
      caller.end();
      throw error;
    }
  }

  get remote(): RemoteExport {
    return this;
  }

  get remembered(): Remembered {
    return this.#remembered;
  }

  get isReplaced(): boolean {
    return isReplaced(this.#remembered);
  }

  remember(extents: readonly Extent[]): void {
    const parts = [...inParts(extents)].slice(0, REMEMBERED_AT_MOST);
    if (parts.length === 0) return;
    const { data } = this.#caller.memory;
    const bytes = Buffer.from(JSON.stringify(parts));
    data.set(bytes);
    const length = this.#caller.call(Op.REMEMBER, 0, bytes.length);
    const remembered = JSON.parse(Buffer.from(data.slice(0, length)).toString("utf8")) as readonly RememberedPart[];
    this.#remembered = { ...this.#remembered, parts: remembered };
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    for (let done = 0; done < length; done += CALL_BYTES) {
      this.#read(target.subarray(done, Math.min(length, done + CALL_BYTES)), offsetBytes + done);
    }
    return length;
  }

  /** At most CALL_BYTES, all of them within the export. */
  #read(target: Uint8Array, offset: number): void {
    const ahead = this.#readAhead.note(offset, target.length);
    if (ahead !== undefined) this.#fetch(offset, Math.min(ahead, this.sizeBytes));
    for (let done = 0; done < target.length; ) {
      const at = offset + done;
      const rest = target.subarray(done);
      done += this.#readCached(rest, at) || this.#readDirectly(rest.subarray(0, this.#uncached(at, rest.length)), at);
    }
  }

  /** Requests the pieces of `[from, to)` that are neither there nor under way. */
  #fetch(from: number, to: number): void {
    const slots: number[] = [];
    for (let piece = Math.floor(from / PIECE_BYTES); piece * PIECE_BYTES < to; piece++) {
      if (this.#cache.has(piece)) continue;
      const slot = this.#cache.claim(piece);
      if (slot === undefined) break;
      slots.push(slot);
    }
    if (slots.length > 0) this.#caller.fetch(slots);
  }

  /** @returns how many bytes came from one piece; 0 if there is none, or it could not be read */
  #readCached(target: Uint8Array, offset: number): number {
    const piece = Math.floor(offset / PIECE_BYTES);
    const slot = this.#cache.find(piece);
    if (slot === undefined) return 0;
    if (!this.#caller.waitForPiece(slot)) {
      this.#cache.forget(piece);
      return 0;
    }
    const within = offset - piece * PIECE_BYTES;
    const length = Math.min(target.length, PIECE_BYTES - within);
    const start = slot * PIECE_BYTES + within;
    target.set(this.#caller.memory.pieces.subarray(start, start + length));
    return length;
  }

  /** How far from `at` on there is no piece, at least to the end of its own. */
  #uncached(at: number, length: number): number {
    let end = (Math.floor(at / PIECE_BYTES) + 1) * PIECE_BYTES;
    while (end < at + length && !this.#cache.has(end / PIECE_BYTES)) end += PIECE_BYTES;
    return Math.min(length, end - at);
  }

  #readDirectly(target: Uint8Array, offset: number): number {
    this.#caller.call(Op.READ, offset, target.length);
    target.set(this.#caller.memory.data.subarray(0, target.length));
    return target.length;
  }

  dataExtents(from: number, to: number): Iterable<Extent> {
    return this.#extents.data(from, to);
  }

  /** The server's answer about data and holes. If it has none, or refuses, everything is data. */
  #ask(offset: number, length: number): Alternating {
    const all = { lengths: [length], beginsWithData: true };
    if (!this.seesHoles) return all;
    let count: number;
    try {
      count = this.#caller.call(Op.STATUS, offset, length);
    } catch (error) {
      if (error instanceof CowError && "errno" in error.details) return all;
      throw error;
    }
    if (count === 0) return all;
    const { data } = this.#caller.memory;
    const pairs = new Float64Array(data.buffer, data.byteOffset, count * NUMBERS_PER_EXTENT);
    return { lengths: pairs.filter((_, i) => i % NUMBERS_PER_EXTENT === 0), beginsWithData: pairs[1] === 1 };
  }

  close(): void {
    this.#caller.end();
  }
}
