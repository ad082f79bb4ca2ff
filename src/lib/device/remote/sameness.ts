/**
 * Owns the memory of an export's content, so that another image behind the same name is noticed: digests of parts, and
 * a word that all connections share. Once that word says so, the export is no longer believed.
 */
import { createHash } from "node:crypto";
import type { Extent } from "../../bytes/extent.ts";
import { atByte, CowError } from "../../errors.ts";
import type { NbdClient } from "./client.ts";

export interface RememberedPart extends Extent {
  /** SHA-256 in hex digits. */
  readonly digest: string;
}

/** Passed from one connection to another of the same export, in any thread. */
export interface Remembered {
  readonly parts: readonly RememberedPart[];
  /** One word: is it known to be another image? */
  readonly state: SharedArrayBuffer;
}

/** Requests at a time: enough to hide the round trip to the server. */
const AT_A_TIME = 16;

export function newRemembered(): Remembered {
  return { parts: [], state: new SharedArrayBuffer(4) };
}

/** Was another image found? */
export function isReplaced({ state }: Remembered): boolean {
  return Atomics.load(new Int32Array(state), 0) === 1;
}

export class Sameness {
  readonly #name: string;
  readonly #remembered: Remembered;
  #parts: readonly RememberedPart[];

  constructor(name: string, remembered: Remembered) {
    this.#name = name;
    this.#remembered = remembered;
    this.#parts = remembered.parts;
  }

  /**
   * Remembers more parts, in this order, for as long as there is time.
   *
   * @returns all remembered parts
   */
  async remember(client: NbdClient, extents: readonly Extent[], ms: number): Promise<readonly RememberedPart[]> {
    const until = performance.now() + ms;
    for (let at = 0; at < extents.length && performance.now() < until; at += AT_A_TIME) {
      this.#parts = [...this.#parts, ...(await Promise.all(extents.slice(at, at + AT_A_TIME).map(digestWith(client))))];
    }
    return this.#parts;
  }

  /** @throws CowError `io` if another image is there now; ConnectionLost and others as reading does */
  async requireSame(client: NbdClient): Promise<void> {
    for (let at = 0; at < this.#parts.length; at += AT_A_TIME) {
      const then = this.#parts.slice(at, at + AT_A_TIME);
      const now = await Promise.all(then.map(digestWith(client)));
      const other = then.find(({ digest }, i) => digest !== now[i]?.digest);
      if (other) this.replaced(`another image: it differs in the ${other.length} bytes at ${atByte(other.offset)}`);
    }
  }

  /** Another image was found, which is final. @param what what was found @throws CowError `io` */
  replaced(what: string): never {
    Atomics.store(new Int32Array(this.#remembered.state), 0, 1);
    throw this.#error(`the server was reconnected to, and serves ${what}`);
  }

  /** @throws CowError `io` once another image was found, over whichever connection */
  requireTrust(): void {
    if (isReplaced(this.#remembered))
      throw this.#error("the server was reconnected to, and serves another image: it must be opened again");
  }

  #error(message: string): CowError {
    return new CowError("io", message, { file: this.#name });
  }
}

function digestWith(client: NbdClient): (extent: Extent) => Promise<RememberedPart> {
  return async ({ offset, length }) => {
    const bytes = new Uint8Array(length);
    await client.read(bytes, offset);
    return { offset, length, digest: createHash("sha256").update(bytes).digest("hex") };
  };
}
