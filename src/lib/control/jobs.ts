/**
 * Owns what takes long and is begun by one request: a job has a number, can be waited for and cancelled, and is
 * remembered for a while when it has ended.
 */
import type { Progress } from "../context.ts";
import { CowError, wordsOf } from "../errors.ts";
import { errorDocument, type JobDocument, type JobState } from "./documents.ts";
import type { EventHub } from "./events.ts";

/** Ended jobs that are remembered. */
const KEPT = 100;
/** How often an event tells how far a job is. */
const PROGRESS_MS = 1000;

class Job {
  readonly #id: number;
  readonly #kind: string;
  readonly #name: string;
  readonly #startedMs = Date.now();
  readonly canceller = new AbortController();
  state: JobState = "running";
  endedMs: number | null = null;
  error: CowError | undefined;
  progress: Progress | null = null;
  toldMs = Number.NEGATIVE_INFINITY;
  ended: Promise<void> = Promise.resolve();

  constructor(id: number, kind: string, name: string) {
    this.#id = id;
    this.#kind = kind;
    this.#name = name;
  }

  get document(): JobDocument {
    return {
      id: this.#id,
      kind: this.#kind,
      name: this.#name,
      state: this.state,
      started_ms: this.#startedMs,
      ended_ms: this.endedMs,
      error: this.error ? errorDocument(this.error) : null,
      progress: this.progress,
    };
  }
}

export class Jobs {
  readonly #events: EventHub;
  readonly #jobs = new Map<number, Job>();
  #nextId = 1;

  constructor(events: EventHub) {
    this.#events = events;
  }

  get all(): readonly JobDocument[] {
    return [...this.#jobs.values()].map(({ document }) => document);
  }

  /** One of these kinds that runs. */
  running(name: string, kinds: readonly string[]): JobDocument | undefined {
    return this.all.find((job) => job.name === name && job.state === "running" && kinds.includes(job.kind));
  }

  /** @param work must end soon after its signal fires, with a CowError `interrupted` */
  begin(
    kind: string,
    name: string,
    work: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<void>,
  ): JobDocument {
    const id = this.#nextId++;
    const job = new Job(id, kind, name);
    this.#jobs.set(id, job);
    this.#events.publish({ type: "job-started", name, job: job.document });
    job.ended = work(job.canceller.signal, (progress) => this.#note(job, progress)).then(
      () => this.#settle(job, "done"),
      (error: unknown) => {
        job.error = error instanceof CowError ? error : new CowError("io", wordsOf(error));
        this.#settle(job, job.error.code === "interrupted" ? "cancelled" : "failed");
      },
    );
    return job.document;
  }

  /** @returns when it has ended, or the signal fires. @throws CowError `not-found` */
  async wait(id: number, signal: AbortSignal): Promise<JobDocument> {
    const job = this.#get(id);
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([job.ended, aborted]);
    return job.document;
  }

  /** @throws CowError `not-found` */
  show(id: number): JobDocument {
    return this.#get(id).document;
  }

  /** Cancels one that runs, and waits for its end. @throws CowError `not-found` */
  async cancel(id: number): Promise<JobDocument> {
    const job = this.#get(id);
    job.canceller.abort();
    await job.ended;
    return job.document;
  }

  /** Cancels all, and waits for their end. */
  async end(): Promise<void> {
    for (const job of this.#jobs.values()) job.canceller.abort();
    await Promise.all([...this.#jobs.values()].map(({ ended }) => ended));
  }

  #get(id: number): Job {
    const job = this.#jobs.get(id);
    if (!job) throw new CowError("not-found", `there is no job ${id}`);
    return job;
  }

  #note(job: Job, { phase, done, total, unit }: Progress): void {
    job.progress = { phase, done, total, unit };
    const nowMs = performance.now();
    if (nowMs - job.toldMs < PROGRESS_MS) return;
    job.toldMs = nowMs;
    const { document } = job;
    this.#events.publish({ type: "job-progress", name: document.name, job: document });
  }

  #settle(job: Job, state: JobState): void {
    job.state = state;
    job.endedMs = Date.now();
    const { document } = job;
    this.#events.publish({ type: "job-ended", name: document.name, job: document });
    const ended = [...this.#jobs].filter(([, { endedMs }]) => endedMs !== null);
    for (const [id] of ended.slice(0, Math.max(0, ended.length - KEPT))) this.#jobs.delete(id);
  }
}
