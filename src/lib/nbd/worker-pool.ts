/**
 * Owns the threads of the data plane: one for each connection, started ahead of need, kept for the next one for a while.
 */
import { cpus } from "node:os";
import { Worker } from "node:worker_threads";
import type { ImageHandover } from "../overlay/live/handover.ts";
import { Busy } from "./blocking-session.ts";
import type { Negotiated } from "./export.ts";

export interface WorkerSetup {
  readonly busy: SharedArrayBuffer;
}

/** A connection for a worker. */
export interface WorkerJob {
  /** A socket that blocks; the pool's caller closes it when the worker is done. */
  readonly fd: number;
  readonly exportNumber: number;
  readonly image: ImageHandover;
  readonly negotiated: Negotiated;
  readonly rest: Uint8Array;
}

export interface WorkerDone {
  /** What went wrong on our side, for the server's user. */
  readonly failure: string | undefined;
}

/** Threads that wait for a connection: more are let go. */
const IDLE_AT_MOST = 4;
const IDLE_AT_START = 1;
/** A worker needs little of the JavaScript heap; what it moves lies in its buffers. */
const HEAP_MIB = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 };

export class WorkerPool {
  readonly #busy = new SharedArrayBuffer(Busy.LENGTH * 4);
  readonly #words = new Int32Array(this.#busy);
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();

  constructor() {
    this.#words[Busy.MAY_SPIN_UP_TO] = cpus().length - 1;
    for (let i = 0; i < IDLE_AT_START; i++) this.#idle.push(this.#start());
  }

  /** Runs a connection to its end. Never rejects: a thread that died is a failure, too. */
  async run(job: WorkerJob): Promise<WorkerDone> {
    const worker = this.#idle.pop() ?? this.#start();
    // The next client is not to wait for a thread to start.
    if (this.#idle.length === 0) this.#idle.push(this.#start());
    Atomics.add(this.#words, Busy.CONNECTIONS, 1);
    try {
      return await converse(worker, job);
    } catch (error) {
      this.#all.delete(worker);
      return { failure: `a thread of the server died: ${error instanceof Error ? error.message : String(error)}` };
    } finally {
      Atomics.sub(this.#words, Busy.CONNECTIONS, 1);
      this.#keepOrEnd(worker);
    }
  }

  /** Ends all threads; none of them has a connection any more. */
  async close(): Promise<void> {
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
    this.#all.clear();
    this.#idle.length = 0;
  }

  #start(): Worker {
    // Run from source (tests) or compiled.
    const file = import.meta.url.endsWith(".ts") ? "./data-worker.ts" : "./data-worker.js";
    const setup: WorkerSetup = { busy: this.#busy };
    const worker = new Worker(new URL(file, import.meta.url), { workerData: setup, resourceLimits: HEAP_MIB });
    worker.unref();
    // Without a listener, a thread that dies while it waits would end the process.
    worker.on("error", () => this.#forget(worker));
    this.#all.add(worker);
    return worker;
  }

  #forget(worker: Worker): void {
    this.#all.delete(worker);
    const index = this.#idle.indexOf(worker);
    if (index >= 0) this.#idle.splice(index, 1);
  }

  #keepOrEnd(worker: Worker): void {
    if (!this.#all.has(worker)) return;
    if (this.#idle.length < IDLE_AT_MOST) {
      this.#idle.push(worker);
      return;
    }
    this.#all.delete(worker);
    void worker.terminate();
  }
}

function converse(worker: Worker, job: WorkerJob): Promise<WorkerDone> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      worker.off("message", onMessage);
      worker.off("error", onError);
      worker.off("exit", onExit);
    };
    const onMessage = (done: WorkerDone): void => {
      settle();
      resolve(done);
    };
    const onError = (error: unknown): void => {
      settle();
      reject(error);
    };
    const onExit = (code: number): void => onError(new Error(`it ended with ${code}`));
    worker.on("message", onMessage).on("error", onError).on("exit", onExit);
    worker.postMessage(job);
  });
}
