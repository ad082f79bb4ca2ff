/**
 * Owns the images that a thread has: one for all of its connections to an export, so that each commits the writes of all.
 * A few are kept for the next client; of a thousand exports, each of a dozen threads would have megabytes otherwise.
 */
import { assert } from "../../errors.ts";
import type { Current } from "../../stack/live/gate.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import { ImageReceiver, type PassedImage, type ReceivedImage } from "../../stack/live/passed-image.ts";

/** Images without a connection that are kept. */
const UNUSED_AT_MOST = 2;

/** An image, and the parts that it is to have next. */
class Known implements Current {
  readonly received: Promise<ReceivedImage>;
  epoch: number;
  users = 0;
  isForgotten = false;
  readonly #readNews: () => void;
  #now: ReceivedImage | undefined;
  /** By epoch, ascending; those that it has are not kept. */
  readonly #next = new Map<number, PassedImage>();

  constructor(received: Promise<ReceivedImage>, epoch: number, readNews: () => void) {
    this.received = received;
    this.epoch = epoch;
    this.#readNews = readNews;
    received.then(
      (now) => {
        this.#now = now;
      },
      () => undefined,
    );
  }

  tell(passed: PassedImage): void {
    this.#next.set(passed.epoch, passed);
    // One that is not used gets what the next connection brings.
    if (this.users === 0) for (const epoch of this.#next.keys()) if (epoch < passed.epoch) this.#next.delete(epoch);
  }

  reach(epoch: number): void {
    if (!this.#next.has(epoch)) this.#readNews();
    const passed = this.#next.get(epoch);
    assert(passed && this.#now, "parts that were told before they are used");
    this.become(passed);
  }

  become(passed: PassedImage): void {
    this.#now?.become(passed);
    this.epoch = passed.epoch;
    for (const epoch of this.#next.keys()) if (epoch <= passed.epoch) this.#next.delete(epoch);
  }
}

export class ThreadImages {
  readonly #receiver = new ImageReceiver();
  readonly #readNews: () => void;
  /** By the number of the export, the one that was used last at the end. */
  readonly #known = new Map<number, Known>();

  /** @param readNews calls tell() with all that has come */
  constructor(readNews: () => void = () => undefined) {
    this.#readNews = readNews;
  }

  /** Runs a connection with the image of an export. */
  async with<Result>(
    exportNumber: number,
    passed: PassedImage,
    work: (image: LiveImage, current: Current) => Result | Promise<Result>,
  ): Promise<Result> {
    const known =
      this.#known.get(exportNumber) ?? new Known(this.#receiver.receive(passed), passed.epoch, this.#readNews);
    this.#known.delete(exportNumber);
    this.#known.set(exportNumber, known);
    known.users++;
    try {
      const { image } = await known.received.catch((error: unknown) => {
        // The cause may be gone when the next client comes, for instance a base whose server is down.
        this.#drop(exportNumber, known);
        throw error;
      });
      // Its files may be closed by now: it is not used before it has the present ones.
      if (known.epoch < passed.epoch) known.become(passed);
      return await work(image, known);
    } finally {
      known.users--;
      this.#tidy();
    }
  }

  /** An export has other parts from an epoch on. */
  tell(exportNumber: number, passed: PassedImage): void {
    this.#known.get(exportNumber)?.tell(passed);
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
