/**
 * Owns one thread of test/lib/stack/flush-threads.test.ts: it writes to its own part of a served cowfile, flushes, and looks
 * into the files whether the flush covered what it wrote: every fdatasync of any thread is counted, and when it began.
 */
import { parentPort, workerData } from "node:worker_threads";
import type { BlockDevice } from "../../../src/lib/device/block-device.ts";
import { BorrowedFile } from "../../../src/lib/device/borrowed-file.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "../../../src/lib/formats/cowfile/layout.ts";
import { readJournal } from "../../../src/lib/formats/cowfile/live/journal.ts";
import { assembleImage } from "../../../src/lib/stack/live/assemble.ts";
import { makeOrder } from "../../../src/lib/stack/live/cowfile-config.ts";
import type { PassedImage } from "../../../src/lib/stack/live/passed-image.ts";
import { REGION_BLOCKS } from "../../../src/lib/stack/live/shared-state.ts";
import { random } from "../random.ts";

export interface FlushThreadOrder {
  readonly image: PassedImage;
  /** Two words: changes of the cowfile so far, and how many of them an fdatasync covered that is done. */
  readonly counts: SharedArrayBuffer;
  readonly from: number;
  readonly end: number;
  readonly milliseconds: number;
  readonly seed: number;
}

export interface FlushThreadResult {
  readonly pairs: number;
  readonly violation: string | undefined;
}

const REGION_BYTES = REGION_BLOCKS * BLOCK_BYTES;
const CHANGES = 0;
const SYNCED = 1;

const { image: passed, counts: buffer, from, end, milliseconds, seed } = workerData as FlushThreadOrder;
const counts = new Int32Array(buffer);
const next = random(seed);
const { top } = passed;
const { base } = passed.lower;
if (!top?.journal || base.fd === undefined) throw new Error("a cowfile with a journal, over a file");
const { config } = top;
const file = BorrowedFile.borrow(top.cow.fd, top.cow.name, true, top.cow);
const journal = BorrowedFile.borrow(top.journal.fd, top.journal.name, true, top.journal);

/** The number of this thread's last change of data. Whether its generations in the head are durable means nothing. */
let lastChange = 0;
/** Counts what is done to the cowfile. */
const counted = new Proxy<BlockDevice>(file, {
  get: (_, name) => {
    const value: unknown = Reflect.get(file, name, file);
    if (typeof value !== "function") return value;
    if (name === "write" || name === "punchHole") {
      return (...parameters: unknown[]): unknown => {
        const result: unknown = value.apply(file, parameters);
        const change = Atomics.add(counts, CHANGES, 1) + 1;
        if (Number(parameters[name === "write" ? 1 : 0]) >= config.dataOffsetBytes) lastChange = change;
        return result;
      };
    }
    if (name !== "flush") return value.bind(file);
    return () => {
      const covered = Atomics.load(counts, CHANGES);
      file.flush();
      for (let seen = Atomics.load(counts, SYNCED); seen < covered; seen = Atomics.load(counts, SYNCED))
        Atomics.compareExchange(counts, SYNCED, seen, covered);
    };
  },
});

const image = assembleImage({
  name: passed.name,
  base: BorrowedFile.borrow(base.fd, base.name, false, base),
  layers: [],
  top: makeOrder({ cow: counted, journal, config }),
});

/** Is a range marked in the bitmap of the file? */
function isMarked(offset: number, length: number): boolean {
  const first = Math.floor(offset / BLOCK_BYTES);
  const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
  const firstByte = Math.floor(first / 8);
  const bytes = new Uint8Array(Math.floor(last / 8) - firstByte + 1);
  file.read(bytes, BITMAP_OFFSET_BYTES + firstByte);
  for (let block = first; block <= last; block++) {
    if ((((bytes[Math.floor(block / 8) - firstByte] ?? 0) >>> (block & 7)) & 1) === 0) return false;
  }
  return true;
}

/** Would the records of the flush log bring all of it back? */
function isInLog(offset: number, data: Uint8Array): boolean {
  const found = data.map((byte) => byte ^ 0xff);
  for (const record of readJournal(journal, config.nonce)?.log.records ?? []) {
    let at = 0;
    for (const { offset: start, length } of record.extents) {
      const begin = Math.max(start, offset);
      const stop = Math.min(start + length, offset + data.length);
      if (begin < stop) found.set(record.data.subarray(at + begin - start, at + stop - start), begin - offset);
      at += length;
    }
  }
  return Buffer.compare(found, data) === 0;
}

function isCovered(offset: number, data: Uint8Array, change: number): boolean {
  const isInPlace = (): boolean => Atomics.load(counts, SYNCED) >= change && isMarked(offset, data.length);
  // A checkpoint meanwhile begins the log anew, but then it is in its place.
  return isInPlace() || isInLog(offset, data) || isInPlace();
}

/** Mostly new blocks, few or many; some that were written before; some in part. In one region: more would be two changes. */
function choose(fresh: number): { readonly offset: number; readonly length: number } {
  const chance = next();
  const length = chance < 0.85 ? BLOCK_BYTES * (1 + Math.floor(next() * 8)) : 100 * BLOCK_BYTES;
  const isAgain = chance < 0.2 && fresh > from;
  const start = isAgain ? from + BLOCK_BYTES * Math.floor((next() * (fresh - from)) / BLOCK_BYTES) : fresh;
  const offset = !isAgain && chance < 0.3 ? start + 100 : start;
  const regionEnd = (Math.floor(offset / REGION_BYTES) + 1) * REGION_BYTES;
  return { offset, length: Math.min(length, regionEnd - offset) };
}

function run(): FlushThreadResult {
  const deadline = performance.now() + milliseconds;
  let fresh = from;
  let pairs = 0;
  while (performance.now() < deadline && fresh + 200 * BLOCK_BYTES < end) {
    const { offset, length } = choose(fresh);
    const data = new Uint8Array(length);
    const isZero = next() < 0.05 && offset % BLOCK_BYTES === 0;
    if (isZero) image.zero(offset, length, { mayPunch: false });
    else image.write(data.fill(1 + (pairs % 255)), offset);
    image.commit();
    const change = lastChange;
    image.flush();
    if (!isCovered(offset, data, change))
      return { pairs, violation: `${length} bytes at ${offset}, pair ${pairs}${isZero ? ", zeros" : ""}` };
    pairs++;
    fresh = Math.max(fresh, Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES);
  }
  return { pairs, violation: undefined };
}

parentPort?.postMessage(run());
