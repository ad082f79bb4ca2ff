/**
 * Owns the map of one export's image in cells: which part of the stack holds most of each, and when it was written last.
 * The main thread walks through the image in pieces of a few milliseconds, and rests between them.
 */
import { CowError } from "../../errors.ts";
import { cellBytesOf } from "../../nbd/meter/touched.ts";
import type { ServedExport } from "../../nbd/server/served-export.ts";
import type { PageMap } from "./page-document.ts";

/** A piece of work before other work has its turn. */
const PIECE_MS = 2;
/** The clock is read once for as many extents. */
const EXTENTS_AT_ONCE = 256;
/** A part of an image that has few extents is walked through without a look at the clock. */
const PART_BYTES = 64 << 20;
/** A write is shown for as long. */
const RECENT_MS = 300_000;
const UNKNOWN = -2;
const ZEROS = -1;

export class BlockCells {
  readonly #served: ServedExport;
  readonly #cellBytes: number;
  readonly #isTopOnly: boolean;
  readonly #levels: number[];
  readonly #shares: number[];
  readonly #writtenMs: Float64Array;
  /** Bytes of the image that show from each part, base first; undefined until all cells are known. */
  shownBytes: readonly number[] | undefined;

  /** @param isTopOnly do not ask the base, because it answers slowly */
  constructor(served: ServedExport, isTopOnly: boolean) {
    const { sizeBytes } = served.stack;
    this.#served = served;
    this.#isTopOnly = isTopOnly;
    this.#cellBytes = cellBytesOf(sizeBytes);
    const count = Math.ceil(sizeBytes / this.#cellBytes);
    this.#levels = Array.from({ length: count }, () => UNKNOWN);
    this.#shares = Array.from({ length: count }, () => 0);
    this.#writtenMs = new Float64Array(count).fill(Number.NEGATIVE_INFINITY);
    // When earlier writes were is not known.
    served.meter.touched.take();
  }

  /** Notes what was written since the last call. */
  noteWrites(nowMs: number): void {
    for (const cell of this.#served.meter.touched.take()) this.#writtenMs[cell] = nowMs;
  }

  document(nowMs: number): PageMap {
    const ages = Array.from(this.#writtenMs, (writtenMs) => {
      const ageMs = nowMs - writtenMs;
      return ageMs > RECENT_MS ? -1 : Math.max(0, Math.round(ageMs / 1000));
    });
    return {
      cell_bytes: this.#cellBytes,
      levels: [...this.#levels],
      shares: [...this.#shares],
      ages,
      is_top_only: this.#isTopOnly,
    };
  }

  /**
   * Walks through the whole image once.
   *
   * @param goesOn is the image still open and looked at? Asked before each piece; false ends the walk
   * @param rest lets other work have its turn
   */
  async scan(goesOn: () => boolean, rest: () => Promise<void>): Promise<void> {
    const total = new Float64Array(this.#served.stack.depth + 1);
    for (let cell = 0, untilMs = performance.now() + PIECE_MS; cell < this.#levels.length; cell++) {
      const held = new Float64Array(total.length);
      const end = Math.min(this.#served.stack.sizeBytes, (cell + 1) * this.#cellBytes);
      for (let at = cell * this.#cellBytes; at < end; ) {
        if (performance.now() >= untilMs) {
          await rest();
          untilMs = performance.now() + PIECE_MS;
        }
        // A checkpoint adds a layer, a squash takes some away: the next walk counts anew.
        if (!goesOn() || this.#served.stack.depth !== total.length - 1) return;
        const walked = this.#walk(at, Math.min(end, at + PART_BYTES), untilMs, held);
        if (walked === undefined) return;
        at = walked;
      }
      this.#settle(cell, held, end - cell * this.#cellBytes);
      for (const [level, bytes] of held.entries()) total[level] = (total[level] ?? 0) + bytes;
    }
    this.shownBytes = [...total];
  }

  /** @returns where it came to; undefined if the image cannot tell */
  #walk(from: number, end: number, untilMs: number, held: Float64Array): number | undefined {
    const top = held.length - 1;
    let at = from;
    let count = 0;
    try {
      this.#served.image.status(this.#isTopOnly ? "dirty" : "depth", from, end - from, (length, flags) => {
        // A depth is counted from the top, and 0 where zeros show.
        const level = flags === 0 ? -1 : this.#isTopOnly ? top : top + 1 - flags;
        if (level >= 0) held[level] = (held[level] ?? 0) + length;
        at += length;
        return ++count % EXTENTS_AT_ONCE !== 0 || performance.now() < untilMs;
      });
    } catch (error) {
      // Its clients are told when they read there.
      if (error instanceof CowError) return undefined;
      throw error;
    }
    return at > from ? at : undefined;
  }

  #settle(cell: number, held: Float64Array, cellBytes: number): void {
    const most = Math.max(...held);
    const nothing = this.#isTopOnly ? UNKNOWN : ZEROS;
    this.#levels[cell] = most > 0 ? held.lastIndexOf(most) : nothing;
    this.#shares[cell] = most > 0 ? Math.max(1, Math.round((most / cellBytes) * 100)) : 100;
  }
}
