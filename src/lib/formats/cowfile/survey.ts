/**
 * Owns the one pass over bitmap and data area that `check` and `repair` share: what is allocated, what should be, what
 * was lost. Reads data only of unallocated blocks with space in the file. Changes nothing: a caller that corrects the
 * bitmap receives each corrected part.
 */
import { clearRange, clearRuns, countBits, setRange, setRuns } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { type Extent, ExtentList } from "../../bytes/extent.ts";
import { ExtentCursor } from "../../bytes/extent-cursor.ts";
import { isZero } from "../../bytes/zero.ts";
import { makeYielder } from "../../context.ts";
import { BitmapReader, type BitmapWindow, WINDOW_BLOCKS } from "./bitmap-windows.ts";
import type { CowGeometry } from "./geometry.ts";
import { reachableBlocks } from "./layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "./layout.ts";

const READ_BYTES = 1 << 20;
const CHUNK_BYTES = 4096;

/** The result of a survey. All extents are in bytes of the image, whole blocks. */
export interface Survey {
  /** Set bits of the whole bitmap, as found. */
  readonly usedBefore: number;
  /** Set bits once the corrections are made. */
  readonly usedAfter: number;
  /** Not allocated, but holding data. */
  readonly unmarked: ExtentList;
  /** Not allocated, zero, with space in the file. Empty if the storage can't tell holes. */
  readonly suspects: ExtentList;
  /** Allocated, but entirely beyond the end of the file. */
  readonly lost: ExtentList;
  /** Allocated, but beyond the end of the image. */
  readonly beyondEnd: ExtentList;
  /** Where the file must end so that no allocated block is cut short; undefined if it does. */
  readonly neededFileBytes: number | undefined;
}

export interface SurveyOptions {
  /** Read the data area, too; otherwise only the bitmap. */
  readonly content: boolean;
  /** Without `content`: parts of the file, ascending, whose blocks are known to hold data, allocated or not. */
  readonly known?: Iterable<Extent> | undefined;
  /** Clear the bits of blocks that were lost. */
  readonly dropLost?: boolean;
  /** Receives each corrected part of the bitmap: bytes for that offset of the file, valid during the call. */
  readonly onCorrected?: ((bytes: Uint8Array, offsetBytes: number) => void) | undefined;
  /** Receives the number of bytes of the data area scanned so far. */
  readonly onScanned?: ((bytes: number) => void) | undefined;
  /** Throws to stop the survey. */
  readonly checkpoint?: (() => void) | undefined;
}

/** Remembers which parts of a window were changed, so that only these are written. */
class ChangedChunks {
  readonly #changed = new Set<number>();

  note(fromBit: number, toBit: number): void {
    for (let chunk = Math.floor(fromBit / 8 / CHUNK_BYTES); chunk <= Math.floor((toBit - 1) / 8 / CHUNK_BYTES); chunk++)
      this.#changed.add(chunk);
  }

  get isEmpty(): boolean {
    return this.#changed.size === 0;
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
export function surveyCowfile(source: ByteSource, geometry: CowGeometry, options: SurveyOptions): Promise<Survey> {
  return new Surveyor(source, geometry, options).run();
}

class Surveyor {
  readonly #source: ByteSource;
  readonly #geometry: CowGeometry;
  readonly #options: SurveyOptions;
  readonly #bitmap: BitmapReader;
  /** Blocks whose data begins before the end of the file. */
  readonly #reachable: number;
  readonly #changed = new ChangedChunks();
  /** Made when the first block is looked at: most files are clean, and a farm has many. */
  #buffer: Uint8Array | undefined;
  readonly #yieldToEventLoop = makeYielder();
  readonly #unmarked = new ExtentList();
  readonly #suspects = new ExtentList();
  readonly #lost = new ExtentList();
  readonly #beyondEnd = new ExtentList();
  #usedBefore = 0;
  #usedAfter = 0;
  #scannedBytes = 0;

  constructor(source: ByteSource, geometry: CowGeometry, options: SurveyOptions) {
    this.#source = source;
    this.#geometry = geometry;
    this.#options = options;
    this.#bitmap = new BitmapReader(source, geometry);
    this.#reachable = reachableBlocks(source, geometry);
  }

  async run(): Promise<Survey> {
    const { dataOffsetBytes, virtualSizeBytes } = this.#geometry;
    const dataEnd = Math.min(this.#source.sizeBytes, dataOffsetBytes + virtualSizeBytes);
    const data = new ExtentCursor(
      this.#options.content ? this.#source.dataExtents(dataOffsetBytes, dataEnd) : (this.#options.known ?? []),
    );
    const window = new Uint8Array(this.#bitmap.windowBytes);
    const windows = this.#bitmap.nonHoleIndexes()[Symbol.iterator]();
    for (let marked = windows.next(); ; ) {
      const byData =
        data.position === undefined
          ? Number.POSITIVE_INFINITY
          : Math.floor((data.position - dataOffsetBytes) / BLOCK_BYTES / WINDOW_BLOCKS);
      const index = Math.min(byData, marked.done ? Number.POSITIVE_INFINITY : marked.value);
      if (index === Number.POSITIVE_INFINITY) break;
      if (!marked.done && marked.value === index) marked = windows.next();
      await this.#surveyWindow(this.#bitmap.readWindow(index, window), data);
    }
    const lastEnd = dataOffsetBytes + this.#reachable * BLOCK_BYTES;
    return {
      usedBefore: this.#usedBefore,
      usedAfter: this.#usedAfter,
      unmarked: this.#unmarked,
      suspects: this.#suspects,
      lost: this.#lost,
      beyondEnd: this.#beyondEnd,
      neededFileBytes: lastEnd > this.#source.sizeBytes && this.#lastIsMarked() ? lastEnd : undefined,
    };
  }

  async #surveyWindow(window: BitmapWindow, data: ExtentCursor): Promise<void> {
    const { rdoBlocks } = this.#geometry;
    const windowEnd = Math.min(rdoBlocks, window.firstBlock + WINDOW_BLOCKS);
    const used = countBits(window.bytes);
    this.#usedBefore += used;
    await this.#surveyData(window, windowEnd, data);
    this.#takeMarks(window, this.#lost, this.#reachable, windowEnd, this.#options.dropLost ?? false);
    this.#takeMarks(window, this.#beyondEnd, rdoBlocks, window.firstBlock + WINDOW_BLOCKS, true);
    this.#usedAfter += this.#changed.isEmpty ? used : countBits(window.bytes);
    this.#changed.handOut(window, this.#options.onCorrected);
    this.#options.checkpoint?.();
    await this.#yieldToEventLoop();
  }

  async #surveyData(window: BitmapWindow, windowEnd: number, data: ExtentCursor): Promise<void> {
    const { dataOffsetBytes } = this.#geometry;
    // A block in two extents is examined once.
    let next = window.firstBlock;
    for (;;) {
      const extent = data.takeBelow(dataOffsetBytes + windowEnd * BLOCK_BYTES);
      if (!extent) return;
      const from = Math.max(next, Math.floor((extent.offset - dataOffsetBytes) / BLOCK_BYTES));
      const to = Math.min(windowEnd, Math.ceil((extent.offset + extent.length - dataOffsetBytes) / BLOCK_BYTES));
      if (to > from) {
        for (const [start, end] of [...clearRuns(window.bytes, from - window.firstBlock, to - window.firstBlock)]) {
          await this.#classify(window, window.firstBlock + start, window.firstBlock + end);
        }
        next = to;
      }
      this.#scannedBytes += extent.length;
      this.#options.onScanned?.(this.#scannedBytes);
      await this.#yieldToEventLoop();
    }
  }

  /** Sorts unallocated blocks into data and suspects. */
  async #classify(window: BitmapWindow, from: number, to: number): Promise<void> {
    if (!this.#options.content) {
      this.#mark(window, from, to);
      return;
    }
    const pieceBlocks = READ_BYTES / BLOCK_BYTES;
    this.#buffer ??= new Uint8Array(READ_BYTES);
    for (let block = from; block < to; block += pieceBlocks) {
      const count = Math.min(pieceBlocks, to - block);
      const piece = this.#buffer.subarray(0, count * BLOCK_BYTES);
      piece.fill(0, this.#source.read(piece, this.#geometry.dataOffsetBytes + block * BLOCK_BYTES));
      for (const { start, end, zero } of zeroRuns(piece)) {
        if (!zero) this.#mark(window, block + start, block + end);
        else if (this.#source.seesHoles) append(this.#suspects, block + start, block + end);
      }
      this.#options.checkpoint?.();
      await this.#yieldToEventLoop();
    }
  }

  #mark(window: BitmapWindow, from: number, to: number): void {
    append(this.#unmarked, from, to);
    setRange(window.bytes, from - window.firstBlock, to - window.firstBlock);
    this.#changed.note(from - window.firstBlock, to - window.firstBlock);
  }

  /** Lists the set bits of blocks `[from, to)`, and clears them if asked. */
  #takeMarks(window: BitmapWindow, list: ExtentList, from: number, to: number, clear: boolean): void {
    const first = Math.max(0, from - window.firstBlock);
    const last = Math.min(window.bytes.length * 8, to - window.firstBlock);
    for (const [start, end] of setRuns(window.bytes, first, last)) {
      append(list, window.firstBlock + start, window.firstBlock + end);
      if (!clear) continue;
      clearRange(window.bytes, start, end);
      this.#changed.note(start, end);
    }
  }

  #lastIsMarked(): boolean {
    if (this.#reachable === 0) return false;
    if (this.#unmarked.end === this.#reachable * BLOCK_BYTES) return true;
    return !this.#bitmap.markedExtents(this.#reachable - 1, this.#reachable).next().done;
  }
}

function append(list: ExtentList, fromBlock: number, toBlock: number): void {
  list.append(fromBlock * BLOCK_BYTES, (toBlock - fromBlock) * BLOCK_BYTES);
}

/** The runs of zero and of other blocks in a piece. */
function* zeroRuns(
  piece: Uint8Array,
): Generator<{ readonly start: number; readonly end: number; readonly zero: boolean }> {
  const count = piece.length / BLOCK_BYTES;
  const zeroAt = (block: number): boolean => isZero(piece, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
  for (let start = 0; start < count; ) {
    const zero = zeroAt(start);
    let end = start + 1;
    while (end < count && zeroAt(end) === zero) end++;
    yield { start, end, zero };
    start = end;
  }
}
