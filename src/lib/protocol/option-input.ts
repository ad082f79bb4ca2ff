/**
 * Owns assembling fields from pieces as they arrive. Keeps only the field that is being awaited: during the handshake,
 * a connection costs at most the longest field that is asked for.
 */
import { assert } from "../errors.ts";

const NOTHING = new Uint8Array(0);
/** A field's buffer begins this small and grows with the data, not with the announced length. */
const FIRST_BYTES = 64;

export class OptionInput {
  /** The beginning of the awaited field, from earlier pieces. */
  #held: Uint8Array = NOTHING;
  #heldBytes = 0;
  #piece: Uint8Array = NOTHING;
  #at = 0;

  /** Bytes of memory kept until more arrives. */
  get bufferedBytes(): number {
    return this.#held.length;
  }

  /** The next piece. The caller must not change it until `release` or `clear`. */
  offer(piece: Uint8Array): void {
    assert(this.#piece.length === 0, "a piece was offered before the last one was let go");
    this.#piece = piece;
  }

  /** Releases the piece, which must have been used up: `take` and `skip` had less than they were asked for. */
  release(): void {
    assert(this.#at === this.#piece.length, "a piece was not used up");
    this.#piece = NOTHING;
    this.#at = 0;
  }

  /**
   * The next `bytes` bytes, if they are there: a view that is valid until the next call. If they are not, the available
   * bytes are copied and the piece is used up; the next call must ask for as many again.
   */
  take(bytes: number): Uint8Array | undefined {
    const left = this.#piece.length - this.#at;
    if (this.#heldBytes === 0 && left >= bytes) {
      this.#at += bytes;
      return this.#piece.subarray(this.#at - bytes, this.#at);
    }
    const more = Math.min(bytes - this.#heldBytes, left);
    this.#hold(more, bytes);
    if (this.#heldBytes < bytes) return undefined;
    const field = this.#held.subarray(0, bytes);
    this.#held = NOTHING;
    this.#heldBytes = 0;
    return field;
  }

  /** Skips at most `bytes` bytes, and returns how many there were. */
  skip(bytes: number): number {
    const skipped = Math.min(bytes, this.#piece.length - this.#at);
    this.#at += skipped;
    return skipped;
  }

  /** A copy of the bytes after the last field; nothing is kept. */
  drain(): Uint8Array {
    // Not slice(): a piece may be a Buffer, whose slice is a view.
    const rest = new Uint8Array(this.#piece.subarray(this.#at));
    this.clear();
    return rest;
  }

  /** Forgets everything that has arrived. */
  clear(): void {
    this.#held = NOTHING;
    this.#heldBytes = 0;
    this.#piece = NOTHING;
    this.#at = 0;
  }

  #hold(more: number, fieldBytes: number): void {
    const wanted = this.#heldBytes + more;
    if (wanted > this.#held.length) {
      const grown = new Uint8Array(Math.min(fieldBytes, Math.max(wanted, 2 * this.#held.length, FIRST_BYTES)));
      grown.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = grown;
    }
    this.#held.set(this.#piece.subarray(this.#at, this.#at + more), this.#heldBytes);
    this.#heldBytes = wanted;
    this.#at += more;
  }
}
