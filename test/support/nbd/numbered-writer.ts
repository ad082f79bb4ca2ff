/**
 * Owns a client that writes blocks of its own part of an image in turn, each with a number that grows: what is read at any
 * instant says how far it had come then, and must be all of its writes up to one, and none behind it.
 */
import { CMD, RawSession } from "./raw-session.ts";

const BLOCK_BYTES = 4096;

export class NumberedWriter {
  /** Writes that were sent, and that were replied to. */
  sent = 0;
  replied = 0;
  readonly #session: RawSession;
  readonly #offset: number;
  readonly #blocks: number;
  #isStopped = false;

  private constructor(session: RawSession, offset: number, blocks: number, from: number) {
    this.#session = session;
    this.#offset = offset;
    this.#blocks = blocks;
    this.sent = this.replied = from;
  }

  /** @param from its last write, of an earlier connection */
  static async enter(
    where: string,
    exportName: string,
    offset: number,
    blocks: number,
    from = 0,
  ): Promise<NumberedWriter> {
    return new NumberedWriter(await RawSession.open(where, "structured", { name: exportName }), offset, blocks, from);
  }

  /** Writes one block after the other until stop(), or the server has gone; flushes now and then. */
  async run(): Promise<void> {
    try {
      while (!this.#isStopped) {
        const payload = Buffer.alloc(BLOCK_BYTES);
        const number = ++this.sent;
        for (let at = 0; at < BLOCK_BYTES; at += 8) payload.writeDoubleLE(number, at);
        const offset = this.#offset + ((number - 1) % this.#blocks) * BLOCK_BYTES;
        await this.#session.ask({ type: CMD.WRITE, offset, length: BLOCK_BYTES, payload });
        this.replied = number;
        if (number % 64 === 0) await this.#session.ask({ type: CMD.FLUSH });
      }
    } catch {
      // It was killed.
    }
  }

  stop(): void {
    this.#isStopped = true;
  }

  async leave(): Promise<void> {
    await this.#session.goodbye();
  }

  /** The last of its writes that an image shows. Throws unless it shows all before it, and none after it. */
  lastIn(image: Buffer): number {
    const numbers = Array.from({ length: this.#blocks }, (_, i) => image.readDoubleLE(this.#offset + i * BLOCK_BYTES));
    const last = Math.max(...numbers);
    for (const [i, number] of numbers.entries()) {
      // The highest number that is not above the last, and was written to this block.
      const expected = Math.max(0, last - ((((last - 1 - i) % this.#blocks) + this.#blocks) % this.#blocks));
      const isBefore = i >= last;
      if (number !== (isBefore ? 0 : expected))
        throw new Error(`block ${i} has write ${number}, not ${expected}: ${last} is the last`);
    }
    return last;
  }
}
