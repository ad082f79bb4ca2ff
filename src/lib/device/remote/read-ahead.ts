/**
 * Owns the guess what will be read next: recognises several sequential readers, each with its own window. Knows neither
 * servers nor memory.
 */

/** The largest gap between two reads of one reader: a layer over the base hides short ranges. */
const GAP_BYTES = 64 << 10;
const FIRST_WINDOW_BYTES = 128 << 10;
const MOST_STREAMS = 8;

/** A sequential reader. */
interface Stream {
  /** Where the last read ended. */
  end: number;
  /** How far ahead is read: 0 until the reader is known to be sequential. */
  windowBytes: number;
  /** Everything was requested up to here. */
  aheadTo: number;
}

export class ReadAhead {
  readonly #mostBytes: number;
  readonly #largeBytes: number;
  /** Most recently used last. */
  readonly #streams: Stream[] = [];

  /**
   * @param mostBytes limit of all windows together
   * @param largeBytes a read of this size is requested in pieces, wherever it is
   */
  constructor(mostBytes: number, largeBytes: number) {
    this.#mostBytes = mostBytes;
    this.#largeBytes = largeBytes;
  }

  /**
   * Records a read.
   * @returns up to where pieces should be requested from its offset on; undefined: read just this range
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
    // Large requests, before they are needed: something is always under way.
    if (stream.windowBytes === 0 || stream.aheadTo - end < stream.windowBytes / 2) {
      const share = this.#mostBytes / this.#streams.filter(({ windowBytes }) => windowBytes > 0).length;
      stream.windowBytes = Math.min(Math.max(FIRST_WINDOW_BYTES, 2 * stream.windowBytes), share, this.#mostBytes);
      stream.aheadTo = end + stream.windowBytes;
    }
    return Math.max(end, stream.aheadTo);
  }
}
