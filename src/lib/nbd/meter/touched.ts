/**
 * Owns which parts of an image were written lately: a byte for each of at most 1024 cells, in the export's shared memory.
 * A thread sets it, and who looks clears it. A mark that is set at that very moment may be lost, which a picture can bear.
 */
import { Shared, TOUCHED_CELLS } from "./slot.ts";

/** Cells are whole multiples of this. */
const CELL_UNIT_BYTES = 4096;

/** Bytes of an image in one of its cells; the last one may have fewer. */
export function cellBytesOf(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / TOUCHED_CELLS / CELL_UNIT_BYTES)) * CELL_UNIT_BYTES;
}

export class Touched {
  readonly #cells: Uint8Array;
  #sizeBytes = -1;
  #cellBytes = 1;

  /** @param shared of newShared() */
  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Uint8Array(shared, Shared.TOUCHED * 8, TOUCHED_CELLS);
  }

  /** @param sizeBytes of the image */
  mark(offsetBytes: number, lengthBytes: number, sizeBytes: number): void {
    if (sizeBytes !== this.#sizeBytes) {
      this.#sizeBytes = sizeBytes;
      this.#cellBytes = cellBytesOf(sizeBytes);
    }
    const last = Math.floor((offsetBytes + lengthBytes - 1) / this.#cellBytes);
    // A cell that is marked is not written again: threads would take its cache line from each other.
    for (let cell = Math.floor(offsetBytes / this.#cellBytes); cell <= last; cell++)
      if (this.#cells[cell] === 0) this.#cells[cell] = 1;
  }

  /** The cells that were marked since the last call, ascending. */
  take(): readonly number[] {
    const marked: number[] = [];
    for (let cell = this.#cells.indexOf(1); cell >= 0; cell = this.#cells.indexOf(1, cell + 1)) {
      this.#cells[cell] = 0;
      marked.push(cell);
    }
    return marked;
  }
}
