/**
 * Owns one thread of the data plane, as the main thread sees it: the connections that it was given, news for it, its death
 * and its end.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { END, type News, type NumberedJob, READY, type WorkerDone, type WorkerSetup } from "./worker-messages.ts";

/** A thread that has not ended after this time hangs in a native call. */
const END_MS = 3000;
/** A thread needs little of the JavaScript heap; its data is in buffers. */
const HEAP_MIB = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 2 };

/** The thread died before it saw the connection. */
export class NotBegun {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

/** How a connection ended: `undefined` in order. */
export type Ending = string | undefined | NotBegun;

export class Thread {
  readonly worker: Worker;
  readonly #news: MessagePort;
  /** Ends a shared thread that has had no connection for a while. */
  idleTimer: NodeJS.Timeout | undefined;
  /** Before that it has not seen an image. */
  #isReady = false;
  readonly #waiting = new Map<number, (ending: Ending) => void>();

  /** @param onDeath told whether it was at work */
  constructor(setup: Omit<WorkerSetup, "news">, onReady: () => void, onDeath: (hadWork: boolean) => void) {
    // Run from source (tests) or compiled.
    const file = import.meta.url.endsWith(".ts") ? "./data-worker.ts" : "./data-worker.js";
    const { port1, port2 } = new MessageChannel();
    this.#news = port1;
    port1.unref();
    this.worker = new Worker(new URL(file, import.meta.url), {
      workerData: { ...setup, news: port2 } satisfies WorkerSetup,
      transferList: [port2],
      resourceLimits: HEAP_MIB,
      // Native calls and other threads make the descriptors: Node would count them wrongly.
      trackUnmanagedFds: false,
    });
    this.worker.unref();
    this.worker.on("message", ({ id, failure }: WorkerDone) => {
      if (id === READY) {
        this.#isReady = true;
        onReady();
      } else this.#settle(id, failure);
    });
    const die = (why: string): void => {
      onDeath(this.#isReady && this.#waiting.size > 0);
      const message = `a thread of the server died: ${why}`;
      const ending = this.#isReady ? message : new NotBegun(message);
      for (const id of [...this.#waiting.keys()]) this.#settle(id, ending);
    };
    this.worker.on("error", (error) => die(error instanceof Error ? error.message : String(error)));
    this.worker.on("exit", (code) => die(`it ended with ${code}`));
  }

  get connections(): number {
    return this.#waiting.size;
  }

  run(job: NumberedJob): Promise<Ending> {
    return new Promise((resolve) => {
      this.#waiting.set(job.id, resolve);
      this.worker.postMessage(job);
    });
  }

  post(message: unknown): void {
    this.worker.postMessage(message);
  }

  tell(news: News): void {
    this.#news.postMessage(news);
  }

  /** Lets it end by itself: stopping a thread in the middle of a native call would take down the process. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      const limit = setTimeout(() => void this.worker.terminate().then(() => resolve()), END_MS);
      this.worker.once("exit", () => {
        clearTimeout(limit);
        resolve();
      });
      this.worker.ref();
      this.worker.postMessage(END);
    });
  }

  #settle(id: number, ending: Ending): void {
    this.#waiting.get(id)?.(ending);
    this.#waiting.delete(id);
  }
}
