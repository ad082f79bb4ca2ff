/**
 * Owns a disk that a served process writes, checkpoints and loses to `kill -9` in a test, with a model of its bytes and of
 * what was written since the last checkpoint.
 */
import { CMD, FLAG, type RawSession } from "../nbd/raw-session.ts";
import { random } from "../random.ts";

const KIB = 1024;
const WRITE_BYTES_AT_MOST = 24 * KIB;

/** A disk as it has to be, and the blocks of a KiB that were touched since the last checkpoint. */
export class DiskModel {
  readonly bytes: Buffer;
  readonly touched = new Set<number>();
  readonly #next: () => number;

  constructor(bytes: Buffer, seed: number) {
    this.bytes = bytes;
    this.#next = random(seed);
  }

  /** A number from 0 up to, and without, `limit`. */
  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  /** Writes, zeros and discards at random places, each of which is answered. */
  async change(session: RawSession, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const length = 1 + this.below(WRITE_BYTES_AT_MOST);
      const offset = this.below(this.bytes.length - length);
      for (let block = Math.floor(offset / KIB); block * KIB < offset + length; block++) this.touched.add(block);
      const kind = this.below(8);
      const range = this.bytes.subarray(offset, offset + length);
      if (kind === 0) {
        const flags = this.below(2) === 0 ? 0 : FLAG.NO_HOLE;
        requireDone((await session.ask({ type: CMD.WRITE_ZEROES, offset, length, flags })).error);
        range.fill(0);
      } else if (kind === 1) {
        requireDone((await session.ask({ type: CMD.TRIM, offset, length })).error);
        // What a discard leaves is the server's choice.
        (await session.read(offset, length)).copy(range);
      } else {
        range.fill(1 + this.below(255));
        await session.write(offset, Buffer.from(range));
      }
    }
    if (this.below(2) === 0) requireDone((await session.ask({ type: CMD.FLUSH })).error);
  }
}

function requireDone(error: number): void {
  if (error !== 0) throw new Error(`a request was answered with ${error}`);
}
