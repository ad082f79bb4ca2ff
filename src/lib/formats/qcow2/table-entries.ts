/**
 * Owns walking over the entries of tables, a piece at a time, and collecting the places that they name; snapshots that
 * share tables name the same ones. Judges nothing.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { HIGH_OFFSET, LOW_OFFSET, TWO_32 } from "./layout.ts";

const MAX_PIECE_BYTES = 64 * 1024;

/** One entry that is not zero, and where it is in the file. */
export interface Entry {
  readonly at: number;
  readonly high: number;
  readonly low: number;
}

/** The place that an entry names; 0 for none. */
export function placeIn({ high, low }: Pick<Entry, "high" | "low">): number {
  return (high & HIGH_OFFSET) * TWO_32 + ((low & LOW_OFFSET) >>> 0);
}

/** The entries of a table that are not zero, as far as the file reaches; undefined after each piece, for a pause. */
export function* entriesOf(
  source: ByteSource,
  table: { readonly offset: number; readonly entries: number; readonly entryBytes: number },
): Generator<Entry | undefined> {
  const { offset, entries, entryBytes } = table;
  const end = Math.min(offset + entries * entryBytes, source.sizeBytes);
  const bytes = new Uint8Array(Math.max(0, Math.min(MAX_PIECE_BYTES, end - offset)));
  const view = new DataView(bytes.buffer);
  for (let at = offset; at < end; at += bytes.length) {
    const got = source.read(bytes.subarray(0, Math.min(bytes.length, end - at)), at);
    for (let within = 0; within + 8 <= got; within += entryBytes) {
      const high = view.getUint32(within);
      const low = view.getUint32(within + 4);
      if (high !== 0 || low !== 0) yield { at: at + within, high, low };
    }
    yield undefined;
  }
}

/** Places in the file, in 8 bytes each. */
export class Places {
  #all = new Float64Array(64);
  #count = 0;

  add(place: number): void {
    if (this.#count === this.#all.length) {
      const grown = new Float64Array(this.#all.length * 2);
      grown.set(this.#all);
      this.#all = grown;
    }
    this.#all[this.#count++] = place;
  }

  /** Each place once, ascending, with how often it was added. */
  *counted(): Generator<{ readonly place: number; readonly times: number }> {
    const sorted = this.#all.subarray(0, this.#count).sort();
    for (let from = 0; from < sorted.length; ) {
      const place = sorted[from] ?? 0;
      let to = from + 1;
      while (sorted[to] === place) to++;
      yield { place, times: to - from };
      from = to;
    }
  }
}
