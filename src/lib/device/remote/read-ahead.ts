/**
 * Owns the guess what will be read next: it recognises several readers who go forward, each with its own window. Knows
 * neither servers nor memory.
 */

/** What may lie between two reads of one reader: a layer over the base hides short stretches of it. */
const GAP_BYTES = 64 << 10;
const FIRST_WINDOW_BYTES = 128 << 10;
const MOST_STREAMS = 8;

/** Somebody who goes forward. */
interface Stream {
  /** Where the last read ended. */
  end: number;
  /** How far ahead is read: 0 for whom it is not known yet that he goes forward. */
  windowBytes: number;
  /** Up to here everything was asked for. */
  aheadTo: number;
}

export class ReadAhead {
  readonly #mostBytes: number;
  readonly #largeBytes: number;
  /** The one that was heard of last is the last. */
  readonly #streams: Stream[] = [];

  /**
   * @param mostBytes what all windows together may have
   * @param largeBytes a read of so much is worth being asked for in pieces, wherever it is
   */
  constructor(mostBytes: number, largeBytes: number) {
    this.#mostBytes = mostBytes;
    this.#largeBytes = largeBytes;
  }

  /**
   * Notes a read.
   *
   * @returns up to where pieces should be on their way from its offset on; undefined: read just this, it leads nowhere
   */
  note(offset: number, length: number): number | undefined {
    const end = offset + length;
    const index = this.#streams.findLastIndex(
      (stream) => offset >= stream.end - GAP_BYTES && offset <= stream.end + GAP_BYTES,
    );
    const [stream] = index === -1 ? [] : this.#streams.splice(index, 1);
    if (!stream) {
      this.#streams.push({ end, windowBytes: 0, aheadTo: end });
      if (this.#streams.length > MOST_STREAMS) this.#streams.shift();
      return length >= this.#largeBytes ? end : undefined;
    }
    this.#streams.push(stream);
    stream.end = end;
    // Asking for much at a time, and before it is needed: there is always something on its way.
    if (stream.windowBytes === 0 || stream.aheadTo - end < stream.windowBytes / 2) {
      const share = this.#mostBytes / this.#streams.filter(({ windowBytes }) => windowBytes > 0).length;
      stream.windowBytes = Math.min(Math.max(FIRST_WINDOW_BYTES, 2 * stream.windowBytes), share, this.#mostBytes);
      stream.aheadTo = end + stream.windowBytes;
    }
    return Math.max(end, stream.aheadTo);
  }
}
