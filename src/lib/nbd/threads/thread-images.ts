/**
 * Owns the images that a thread has: one for all of its connections to an export, so that each commits the writes of all.
 * A few are kept for the next client; of a thousand exports, each of a dozen threads would have megabytes otherwise.
 */
import type { LiveImage } from "../../stack/live/image.ts";
import { ImageReceiver, type PassedImage, type ReceivedImage } from "../../stack/live/passed-image.ts";

/** Images without a connection that are kept. */
const UNUSED_AT_MOST = 2;

interface Known {
  readonly received: Promise<ReceivedImage>;
  users: number;
  isForgotten: boolean;
}

export class ThreadImages {
  readonly #receiver = new ImageReceiver();
  /** By the number of the export, the one that was used last at the end. */
  readonly #known = new Map<number, Known>();

  /** Runs a connection with the image of an export. */
  async with<Result>(
    exportNumber: number,
    passed: PassedImage,
    work: (image: LiveImage) => Result | Promise<Result>,
  ): Promise<Result> {
    const known = this.#known.get(exportNumber) ?? {
      received: this.#receiver.receive(passed),
      users: 0,
      isForgotten: false,
    };
    this.#known.delete(exportNumber);
    this.#known.set(exportNumber, known);
    known.users++;
    try {
      const { image } = await known.received.catch((error: unknown) => {
        // The cause may be gone when the next client comes, for instance a base whose server is down.
        this.#drop(exportNumber, known);
        throw error;
      });
      return await work(image);
    } finally {
      known.users--;
      this.#tidy();
    }
  }

  /** The export was closed: as soon as no connection uses its image, nothing is left of it. */
  forget(exportNumber: number): void {
    const known = this.#known.get(exportNumber);
    if (known) known.isForgotten = true;
    this.#tidy();
  }

  /** @internal */
  get count(): number {
    return this.#known.size;
  }

  #tidy(): void {
    const unused = [...this.#known].filter(([, { users }]) => users === 0);
    const spare = unused.filter(([, { isForgotten }]) => !isForgotten);
    const dropped = [...unused.filter(([, { isForgotten }]) => isForgotten), ...spare.slice(0, -UNUSED_AT_MOST)];
    for (const [exportNumber, known] of dropped) this.#drop(exportNumber, known);
  }

  #drop(exportNumber: number, known: Known): void {
    if (this.#known.get(exportNumber) !== known) return;
    this.#known.delete(exportNumber);
    known.received.then(
      ({ release }) => release(),
      () => undefined,
    );
  }
}
