/**
 * Owns the threads of the data plane. A connection gets a thread of its own, which blocks on its socket; when there are
 * more connections than that is worth, the rest share a few threads with event loops. Threads are started ahead of need
 * and kept for the next connection for a while.
 */
import * as fs from "node:fs";
import { availableParallelism } from "node:os";
import { canOpen } from "../../device/sys/descriptors.ts";
import { openMemoryFile, trimMemory } from "../../device/sys/memory.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import { wordsOf } from "../transmission/wire-errors.ts";
import { Busy } from "./blocking-session.ts";
import { type Ending, NotBegun, Thread } from "./thread.ts";
import type { Forget, NumberedJob, WorkerJob } from "./worker-messages.ts";

/** Connections that have a thread of their own. Each costs some 12 MiB, and beyond this they only wait for processors. */
const OWN_THREADS_AT_MOST = Math.max(8, 2 * availableParallelism());
const SHARED_THREADS = 2;
/** A shared thread without a connection ends after this time: what a new one costs is more than what one keeps. */
const SHARED_IDLE_MS = 5000;
/** Threads that are kept ready, including those with a connection: as many as most clients open at once. */
const READY_AT_LEAST = 4;
/** Threads that start with the server. More would take the processors from its first client. */
const READY_AT_FIRST = Math.min(READY_AT_LEAST, availableParallelism());
/** The others start one by one, at this interval, while the processors are idle. */
const CALM_MS = 1000;
/** Idle threads that are kept. */
const IDLE_AT_MOST = 4;
/** A connection whose thread died before it was ready is given to another after this time, this often. */
const RETRY_MS = 250;
const RETRIES = 40;

/** Descriptors that a thread opens at most: its event loop, its program, a ring for cache misses, sockets. */
export const THREAD_DESCRIPTORS = 24;

export class WorkerPool {
  readonly #busy = new SharedArrayBuffer(Busy.LENGTH * 4);
  readonly #words = new Int32Array(this.#busy);
  readonly #idle: Thread[] = [];
  readonly #all = new Set<Thread>();
  readonly #shared: Thread[] = [];
  readonly #onFatal: () => void;
  #ownThreads = 0;
  #nextId = 0;
  /** Threads that are getting ready. */
  #starting = 0;
  #timer: NodeJS.Timeout | undefined;
  /** All threads practise on one file in memory: what is in it does not matter to them. */
  #practiceFd: number | undefined;
  #isClosed = false;

  /** @param onFatal a thread died at work: it may have held locks, so that nothing can go on */
  constructor(onFatal: () => void) {
    this.#onFatal = onFatal;
    this.#words[Busy.MAY_SPIN_UP_TO] = availableParallelism() - 1;
    for (let i = 0; i < READY_AT_FIRST; i++) this.#startAhead();
  }

  /** Runs a connection to its end. Never rejects: a thread that died is a failure like others. */
  async run(job: WorkerJob): Promise<string | undefined> {
    const id = this.#nextId++;
    Atomics.add(this.#words, Busy.CONNECTIONS, 1);
    try {
      for (let tries = 0; ; tries++) {
        const ending = await this.#runOnce(job, id);
        if (!(ending instanceof NotBegun)) return ending;
        // Probably out of descriptors: others leave, and the client can wait a little.
        if (tries === RETRIES || this.#isClosed) return ending.why;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    } catch (error) {
      // No thread could be started.
      return wordsOf(error);
    } finally {
      Atomics.sub(this.#words, Busy.CONNECTIONS, 1);
    }
  }

  #runOnce(job: WorkerJob, id: number): Promise<Ending> {
    const { image, ...rest } = job;
    const shared = this.#ownThreads >= OWN_THREADS_AT_MOST;
    const numbered = { ...rest, image: image(), id, shared };
    return shared ? this.#runShared(numbered) : this.#runAlone(numbered);
  }

  async #runAlone(job: NumberedJob): Promise<Ending> {
    this.#ownThreads++;
    try {
      const thread = this.#idle.shift() ?? this.#start();
      this.#refillLater();
      const failure = await thread.run(job);
      this.#keepOrEnd(thread);
      return failure;
    } finally {
      this.#ownThreads--;
    }
  }

  async #runShared(job: NumberedJob): Promise<Ending> {
    const thread = this.#share();
    const failure = await thread.run(job);
    if (thread.connections === 0) this.#endSharedLater(thread);
    return failure;
  }

  /** The parts of an export from an epoch on, before that begins. */
  tell(exportNumber: number, image: PassedImage): void {
    for (const thread of this.#all) thread.tell({ exportNumber, image });
  }

  /** No connection uses the export of that number any more, and none will. */
  forget(exportNumber: number): void {
    for (const thread of this.#all) thread.post({ forget: exportNumber } satisfies Forget);
  }

  #endSharedLater(thread: Thread): void {
    clearTimeout(thread.idleTimer);
    thread.idleTimer = setTimeout(() => {
      if (thread.connections === 0 && this.#shared.includes(thread)) this.#end(thread);
    }, SHARED_IDLE_MS).unref();
  }

  /** Ends all threads; none of them has a connection any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const threads = [...this.#all];
    this.#all.clear();
    this.#idle.length = 0;
    this.#shared.length = 0;
    await Promise.all(threads.map((thread) => thread.end()));
  }

  /** Starts a thread in advance, so that the next client need not wait for it. */
  #startAhead(): void {
    // The rest is for clients.
    if (!canOpen(2 * THREAD_DESCRIPTORS)) {
      this.#refillLater();
      return;
    }
    this.#starting++;
    let isOver = false;
    const onStarted = (): void => {
      if (isOver) return;
      isOver = true;
      this.#starting--;
      this.#refillLater();
      if (this.#starting === 0) this.#endPractice();
    };
    // Without memory for it, the first client warms its thread up.
    this.#practiceFd ??= openMemoryFile("warm-up");
    this.#idle.push(this.#start(this.#practiceFd, onStarted));
  }

  #refillLater(): void {
    clearTimeout(this.#timer);
    if (this.#isClosed || !this.#wantsMore) return;
    this.#timer = setTimeout(() => {
      // Clients may have left their threads since.
      if (!this.#wantsMore) return;
      // It is only urgent if there is no other thread; otherwise it can wait until the clients have gone.
      if (this.#ownThreads === 0 || this.#idle.length === 0) this.#startAhead();
      else this.#refillLater();
    }, CALM_MS).unref();
  }

  get #wantsMore(): boolean {
    if (this.#starting > 0 || this.#ownThreads + this.#idle.length >= OWN_THREADS_AT_MOST) return false;
    return this.#idle.length === 0 || this.#idle.length + this.#ownThreads < READY_AT_LEAST;
  }

  #endPractice(): void {
    if (this.#practiceFd !== undefined) fs.closeSync(this.#practiceFd);
    this.#practiceFd = undefined;
  }

  /** @param onStarted told once when the thread is ready, or has died */
  #start(warmUpFd?: number, onStarted: () => void = () => undefined): Thread {
    const thread: Thread = new Thread({ busy: this.#busy, warmUpFd }, onStarted, (hadWork) => {
      const isOurs = this.#all.has(thread);
      this.#forget(thread);
      if (isOurs && hadWork) this.#onFatal();
      // Threads that cannot start are not retried forever.
      if (this.#all.size > 0) onStarted();
    });
    this.#all.add(thread);
    return thread;
  }

  /** The thread with the fewest connections among those that have many. */
  #share(): Thread {
    if (this.#shared.length < SHARED_THREADS) this.#shared.push(this.#start());
    return this.#shared.reduce((a, b) => (b.connections < a.connections ? b : a));
  }

  #forget(thread: Thread): void {
    this.#all.delete(thread);
    for (const list of [this.#idle, this.#shared]) {
      const index = list.indexOf(thread);
      if (index >= 0) list.splice(index, 1);
    }
  }

  #keepOrEnd(thread: Thread): void {
    if (!this.#all.has(thread)) return;
    if (this.#idle.length < IDLE_AT_MOST) {
      // The next client gets the most recently used thread: its code is compiled and in the caches.
      this.#idle.unshift(thread);
      return;
    }
    this.#end(thread);
  }

  #end(thread: Thread): void {
    this.#forget(thread);
    void thread.end().then(trimMemory);
  }
}
