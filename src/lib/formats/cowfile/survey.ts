/**
 * Owns the one pass over bitmap and data area that `check` and `repair` share: what is marked, what should be, what was
 * lost. Reads the data only of blocks that are allocated and not marked. Changes nothing: whoever wants the bitmap
 * corrected gets each corrected part handed out.
 */
import { clearRange, countBits, forEachClearRun, forEachSetRun, setRange } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { type Extent, ExtentList } from "../../bytes/extent.ts";
import { isZero } from "../../bytes/zero.ts";
import { makeBreath } from "../../context.ts";
import { BitmapReader, type BitmapWindow, WINDOW_BLOCKS } from "./bitmap-windows.ts";
import type { CowGeometry } from "./geometry.ts";
import { reachableBlocks } from "./layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "./layout.ts";

const READ_BYTES = 1 << 20;
const CHUNK_BYTES = 4096;

/** What a survey found. All extents are in bytes of the image, whole blocks. */
export interface Survey {
  /** Set bits of the whole bitmap, as found. */
  readonly usedBefore: number;
  /** Set bits once the corrections are made. */
  readonly usedAfter: number;
  /** Not marked, but holding data. */
  readonly unmarked: ExtentList;
  /** Not marked, allocated, zero. Empty where the storage can't tell holes. */
  readonly suspects: ExtentList;
  /** Marked, but wholly beyond the end of the file. */
  readonly lost: ExtentList;
  /** Marked, but beyond the end of the image. */
  readonly beyondEnd: ExtentList;
  /** Where the file has to end so that no block that is or will be marked is cut short; undefined if it does. */
  readonly neededFileBytes: number | undefined;
}

export interface SurveyOptions {
  /** Look into the data area, too; otherwise only the bitmap is looked at. */
  readonly content: boolean;
  /** Clear the marks of blocks that were lost. */
  readonly dropLost?: boolean;
  /** Called with each corrected part of the bitmap: bytes for that offset of the file, valid during the call. */
  readonly onCorrected?: ((bytes: Uint8Array, offsetBytes: number) => void) | undefined;
  /** Called with the bytes of the data area looked at so far. */
  readonly onScanned?: ((bytes: number) => void) | undefined;
  /** Throws when the caller wants to stop. */
  readonly checkpoint?: (() => void) | undefined;
}

/** Hands out extents clipped to ascending ranges. */
class ExtentCursor {
  readonly #extents: Iterator<Extent>;
  #current: Extent | undefined;

  constructor(extents: Iterable<Extent>) {
    this.#extents = extents[Symbol.iterator]();
    this.#advance();
  }

  #advance(): void {
    const next = this.#extents.next();
    this.#current = next.done ? undefined : next.value;
  }

  /** The start of what comes next, or undefined. */
  get position(): number | undefined {
    return this.#current?.offset;
  }

  /** The next piece that begins below `limit`, cut there. */
  takeBelow(limit: number): Extent | undefined {
    const current = this.#current;
    if (!current || current.offset >= limit) return undefined;
    const end = current.offset + current.length;
    if (end <= limit) this.#advance();
    else this.#current = { offset: limit, length: end - limit };
    return { offset: current.offset, length: Math.min(end, limit) - current.offset };
  }
}

/** Remembers which parts of a window were changed, so that only these are written. */
class ChangedChunks {
  readonly #changed = new Set<number>();

  note(fromBit: number, toBit: number): void {
    for (let chunk = Math.floor(fromBit / 8 / CHUNK_BYTES); chunk <= Math.floor((toBit - 1) / 8 / CHUNK_BYTES); chunk++)
      this.#changed.add(chunk);
  }

  handOut(window: BitmapWindow, deliver: SurveyOptions["onCorrected"]): void {
    for (const chunk of this.#changed) {
      const start = chunk * CHUNK_BYTES;
      deliver?.(window.bytes.subarray(start, start + CHUNK_BYTES), BITMAP_OFFSET_BYTES + window.firstBlock / 8 + start);
    }
    this.#changed.clear();
  }
}

/** Surveys a cowfile whose head is usable. Ascending, one window of the bitmap at a time. */
export async function surveyCowfile(
  source: ByteSource,
  geometry: CowGeometry,
  options: SurveyOptions,
): Promise<Survey> {
  const { rdoBlocks, dataOffsetBytes } = geometry;
  const reachable = reachableBlocks(source, geometry);
  const dataEnd = Math.min(source.sizeBytes, dataOffsetBytes + geometry.virtualSizeBytes);
  const bitmap = new BitmapReader(source, geometry);
  const buffer = new Uint8Array(READ_BYTES);
  const breath = makeBreath();
  const changed = new ChangedChunks();
  const unmarked = new ExtentList();
  const suspects = new ExtentList();
  const lost = new ExtentList();
  const beyondEnd = new ExtentList();
  let usedBefore = 0;
  let usedAfter = 0;
  let scanned = 0;

  const append = (list: ExtentList, fromBlock: number, toBlock: number): void =>
    list.append(fromBlock * BLOCK_BYTES, (toBlock - fromBlock) * BLOCK_BYTES);

  /** Sorts the blocks of `[from, to)`, none of them marked, into data and suspects. */
  const classify = async (window: BitmapWindow, from: number, to: number): Promise<void> => {
    for (let block = from; block < to; block += READ_BYTES / BLOCK_BYTES) {
      const count = Math.min(READ_BYTES / BLOCK_BYTES, to - block);
      const piece = buffer.subarray(0, count * BLOCK_BYTES);
      piece.fill(0, source.read(piece, dataOffsetBytes + block * BLOCK_BYTES));
      for (let i = 0; i < count; ) {
        const zero = isZero(piece, i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
        let end = i + 1;
        while (end < count && isZero(piece, end * BLOCK_BYTES, (end + 1) * BLOCK_BYTES) === zero) end++;
        if (!zero) {
          append(unmarked, block + i, block + end);
          setRange(window.bytes, block + i - window.firstBlock, block + end - window.firstBlock);
          changed.note(block + i - window.firstBlock, block + end - window.firstBlock);
        } else if (source.seesHoles) append(suspects, block + i, block + end);
        i = end;
      }
      options.checkpoint?.();
      await breath();
    }
  };

  const clearMarks = (window: BitmapWindow, list: ExtentList, from: number, to: number, clear: boolean): void => {
    const runs: [number, number][] = [];
    forEachSetRun(
      window.bytes,
      Math.max(0, from - window.firstBlock),
      Math.min(window.bytes.length * 8, to - window.firstBlock),
      (start, end) => runs.push([start, end]),
    );
    for (const [start, end] of runs) {
      append(list, window.firstBlock + start, window.firstBlock + end);
      if (!clear) continue;
      clearRange(window.bytes, start, end);
      changed.note(start, end);
    }
  };

  const windows = bitmap.nonHoleIndexes()[Symbol.iterator]();
  const data = new ExtentCursor(options.content ? source.dataExtents(dataOffsetBytes, dataEnd) : []);
  let nextMarked = windows.next();
  for (;;) {
    const byData =
      data.position === undefined
        ? undefined
        : Math.floor((data.position - dataOffsetBytes) / BLOCK_BYTES / WINDOW_BLOCKS);
    const byBitmap = nextMarked.done ? undefined : nextMarked.value;
    if (byData === undefined && byBitmap === undefined) break;
    const index = Math.min(byData ?? Number.POSITIVE_INFINITY, byBitmap ?? Number.POSITIVE_INFINITY);
    if (byBitmap === index) nextMarked = windows.next();
    const window = bitmap.window(index);
    const windowEnd = Math.min(rdoBlocks, window.firstBlock + WINDOW_BLOCKS);
    usedBefore += countBits(window.bytes);
    let next = window.firstBlock;
    for (;;) {
      const extent = data.takeBelow(dataOffsetBytes + windowEnd * BLOCK_BYTES);
      if (!extent) break;
      const from = Math.max(next, Math.floor((extent.offset - dataOffsetBytes) / BLOCK_BYTES));
      const to = Math.min(windowEnd, Math.ceil((extent.offset + extent.length - dataOffsetBytes) / BLOCK_BYTES));
      const clear: [number, number][] = [];
      if (to > from)
        forEachClearRun(window.bytes, from - window.firstBlock, to - window.firstBlock, (start, end) =>
          clear.push([start, end]),
        );
      for (const [start, end] of clear) await classify(window, window.firstBlock + start, window.firstBlock + end);
      next = Math.max(next, to);
      scanned += extent.length;
      options.onScanned?.(scanned);
      options.checkpoint?.();
      await breath();
    }
    clearMarks(window, lost, reachable, windowEnd, options.dropLost ?? false);
    clearMarks(window, beyondEnd, rdoBlocks, window.firstBlock + WINDOW_BLOCKS, true);
    usedAfter += countBits(window.bytes);
    changed.handOut(window, options.onCorrected);
    options.checkpoint?.();
    await breath();
  }
  const lastIsMarked = lastBlockIsMarked(bitmap, reachable, unmarked);
  const lastEnd = dataOffsetBytes + reachable * BLOCK_BYTES;
  return {
    usedBefore,
    usedAfter,
    unmarked,
    suspects,
    lost,
    beyondEnd,
    neededFileBytes: lastIsMarked && lastEnd > source.sizeBytes ? lastEnd : undefined,
  };
}

function lastBlockIsMarked(bitmap: BitmapReader, reachable: number, unmarked: ExtentList): boolean {
  if (reachable === 0) return false;
  if (unmarked.end === reachable * BLOCK_BYTES) return true;
  for (const _ of bitmap.markedExtents(reachable - 1, reachable)) return true;
  return false;
}
