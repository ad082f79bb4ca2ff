/**
 * Owns reading many places of files into the page cache in parallel, by io_uring: one system call sends all queued
 * reads to the disk. Without io_uring (an old kernel, a container that forbids it, no native calls) others do it one by
 * one.
 */
import * as fs from "node:fs";
import { Errno, type Libc, libc } from "./libc.ts";
import { isLittleEndian, put64 } from "./words.ts";

const ENTRIES = 64;
const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_ENTER = 426;
const SETUP_SINGLE_ISSUER = 1 << 12;
const SETUP_DEFER_TASKRUN = 1 << 13;
const FEAT_SINGLE_MMAP = 1;
const ENTER_GETEVENTS = 1;
const OP_READ = 22;
const OFF_SQES = 0x1000_0000;
const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;

/** struct io_uring_params, in words: the request, then the offsets of the rings. */
const PARAMS_WORDS = 30;
const Params = { SQ_ENTRIES: 0, CQ_ENTRIES: 1, FLAGS: 2, FEATURES: 5, SQ: 10, CQ: 20 } as const;
const SqOffset = { HEAD: 0, TAIL: 1, MASK: 2, ARRAY: 6 } as const;
const CqOffset = { HEAD: 0, TAIL: 1, MASK: 2, CQES: 5 } as const;
const SQE_WORDS = 16;
const CQE_WORDS = 4;

/** The data is only needed in the page cache; all reads go to this buffer. */
const SINK_BYTES = 16 * 1024;

export class Fetcher {
  /** Reads that were begun and have not completed. */
  underWay = 0;
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #mappings: readonly (readonly [address: number, length: number])[];
  readonly #ring: Int32Array;
  readonly #sqes: Int32Array;
  readonly #sink = new ArrayBuffer(SINK_BYTES);
  readonly #sinkAddress: number;
  /** Places in the ring, in words. */
  readonly #at: { readonly sqTail: number; readonly sqArray: number; readonly cqHead: number; readonly cqTail: number };
  readonly #cqes: number;
  readonly #sqMask: number;
  readonly #cqMask: number;
  /** Added, and not begun. */
  queued = 0;

  private constructor(
    c: Libc,
    fd: number,
    params: Uint32Array,
    ring: readonly [number, number],
    sqes: readonly [number, number],
  ) {
    this.#libc = c;
    this.#fd = fd;
    this.#mappings = [ring, sqes];
    this.#ring = new Int32Array(c.viewOf(...ring));
    this.#sqes = new Int32Array(c.viewOf(...sqes));
    this.#sinkAddress = Number(c.addressOf(this.#sink));
    const word = (base: number, place: number): number => (params[base + place] ?? 0) / 4;
    this.#at = {
      sqTail: word(Params.SQ, SqOffset.TAIL),
      sqArray: word(Params.SQ, SqOffset.ARRAY),
      cqHead: word(Params.CQ, CqOffset.HEAD),
      cqTail: word(Params.CQ, CqOffset.TAIL),
    };
    this.#cqes = word(Params.CQ, CqOffset.CQES);
    this.#sqMask = this.#ring[word(Params.SQ, SqOffset.MASK)] ?? 0;
    this.#cqMask = this.#ring[word(Params.CQ, CqOffset.MASK)] ?? 0;
  }

  /** For this thread alone. @returns undefined if unavailable */
  static open(): Fetcher | undefined {
    const c = isLittleEndian ? libc() : null;
    if (!c) return undefined;
    const params = new Uint32Array(PARAMS_WORDS);
    const paramsAddress = Number(c.addressOf(params.buffer));
    let fd = -1;
    // Kernels before 6.1 don't know these flags.
    for (const flags of [SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN, 0]) {
      params.fill(0);
      params[Params.FLAGS] = flags;
      fd = c.syscall(SYS_IO_URING_SETUP, ENTRIES, paramsAddress, 0, 0, 0);
      if (fd >= 0) break;
    }
    if (fd < 0) return undefined;
    const mappings: [number, number][] = [];
    const map = (length: number, offset: number): [number, number] | undefined => {
      const address = c.mmap(0, length, PROT_READ_WRITE, MAP_SHARED_POPULATE, fd, offset);
      if (address === undefined) return undefined;
      mappings.push([address, length]);
      return [address, length];
    };
    const sqEnd = (params[Params.SQ + SqOffset.ARRAY] ?? 0) + (params[Params.SQ_ENTRIES] ?? 0) * 4;
    const cqEnd = (params[Params.CQ + CqOffset.CQES] ?? 0) + (params[Params.CQ_ENTRIES] ?? 0) * CQE_WORDS * 4;
    const isOneMapping = ((params[Params.FEATURES] ?? 0) & FEAT_SINGLE_MMAP) !== 0;
    const ring = isOneMapping ? map(Math.max(sqEnd, cqEnd), 0) : undefined;
    const sqes = ring && map((params[Params.SQ_ENTRIES] ?? 0) * SQE_WORDS * 4, OFF_SQES);
    if (ring && sqes) return new Fetcher(c, fd, params, ring, sqes);
    for (const [address, length] of mappings) c.munmap(address, length);
    fs.closeSync(fd);
    return undefined;
  }

  /** Must a read complete before another can be added? */
  get isFull(): boolean {
    return this.underWay === ENTRIES;
  }

  /** Has a part of a file read; begin() tells the kernel. @param lengthBytes at most 16 KiB @param tag comes back from wait() */
  add(fd: number, offset: number, lengthBytes: number, tag: number): void {
    const tail = this.#ring[this.#at.sqTail] ?? 0;
    const index = tail & this.#sqMask;
    const sqe = index * SQE_WORDS;
    this.#sqes.fill(0, sqe, sqe + SQE_WORDS);
    this.#sqes[sqe] = OP_READ;
    this.#sqes[sqe + 1] = fd;
    put64(this.#sqes, sqe + 2, offset);
    put64(this.#sqes, sqe + 4, this.#sinkAddress);
    this.#sqes[sqe + 6] = Math.min(lengthBytes, SINK_BYTES);
    this.#sqes[sqe + 8] = tag;
    this.#ring[this.#at.sqArray + index] = index;
    Atomics.store(this.#ring, this.#at.sqTail, (tail + 1) | 0);
    this.queued++;
    this.underWay++;
  }

  /** Begins what was added. */
  begin(): void {
    if (this.queued > 0) this.#enter(0);
  }

  /**
   * Waits for a completion, if anything is under way.
   * @param onCome receives the tag, whether the read succeeded or not
   */
  wait(onCome: (tag: number) => void): void {
    if (this.underWay === 0) return;
    for (;;) {
      const isSound = this.#enter(1);
      let head = this.#ring[this.#at.cqHead] ?? 0;
      const first = head;
      const tail = Atomics.load(this.#ring, this.#at.cqTail);
      for (; head !== tail; head = (head + 1) | 0) {
        this.underWay--;
        onCome(this.#ring[this.#cqes + (head & this.#cqMask) * CQE_WORDS] ?? 0);
      }
      Atomics.store(this.#ring, this.#at.cqHead, head);
      if (head !== first || !isSound) return;
    }
  }

  /** @returns false if the kernel refuses */
  #enter(atLeast: number): boolean {
    const flags = atLeast > 0 ? ENTER_GETEVENTS : 0;
    const taken = this.#libc.syscall(SYS_IO_URING_ENTER, this.#fd, this.queued, atLeast, flags, 0);
    if (taken >= 0) this.queued -= taken;
    return taken >= 0 || this.#libc.errno() === Errno.EINTR;
  }

  /** Waits for all that is under way. */
  drain(): void {
    for (let before = -1; this.underWay > 0 && before !== this.underWay; ) {
      before = this.underWay;
      this.wait(() => undefined);
    }
  }

  close(): void {
    this.drain();
    for (const [address, length] of this.#mappings) this.#libc.munmap(address, length);
    fs.closeSync(this.#fd);
  }
}

let ofThread: Fetcher | null | undefined;

/** This thread's fetcher, made when it is first needed; null if there is none. */
export function threadFetcher(): Fetcher | null {
  if (ofThread === undefined) ofThread = Fetcher.open() ?? null;
  return ofThread;
}

/** Must be called before a thread ends: its descriptors do not end with it. */
export function closeThreadFetcher(): void {
  ofThread?.close();
  ofThread = null;
}
