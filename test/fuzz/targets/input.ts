/** Owns reading numbers off an input, and what counts as a refusal. */
import { CowError } from "../../../src/lib/index.ts";

/** Takes numbers from the front; zeros when there is nothing left. */
export class Input {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isOver(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** Of so many bytes, little-endian. */
  number(bytes: 1 | 2 | 3 | 4): number {
    let value = 0;
    for (let i = 0; i < bytes; i++) value += (this.#bytes[this.#at + i] ?? 0) * 256 ** i;
    this.#at += bytes;
    return value;
  }

  rest(): Buffer {
    return Buffer.from(this.#bytes.subarray(Math.min(this.#at, this.#bytes.length)));
  }
}

export async function refusalOrResult(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
  }
}
