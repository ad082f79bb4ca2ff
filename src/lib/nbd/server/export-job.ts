/**
 * Owns a long change of one export, such as a squash: it works in the background, has the export's turn only at its beginning
 * and at its end, and stops when the export is closed.
 */
import { interrupted, type OperationContext, type Pace } from "../../context.ts";
import { CowError } from "../../errors.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import { type SettledChain, settledChain } from "../../stack/live/replace-below.ts";
import type { ServedStack } from "../../stack/live/served-stack.ts";
import type { LiveExport } from "./live-export.ts";

/** How long it may keep the server's event loop, and then rests: clients without a thread of their own are served there. */
const PACE: Pace = { everyMs: 4, restMs: 4 };

/** How its caller follows it, and cancels it. */
export type JobContext = Pick<OperationContext, "signal" | "onProgress">;

interface JobHost {
  readonly entry: LiveExport;
  readonly context: OperationContext;
  readonly how: JobContext;
  /** Tells all threads of the parts that an export will have, by its number. */
  readonly tell: (number: number, image: PassedImage) => void;
}

/** The export in its turn. */
export interface Turn extends SettledChain {
  readonly stack: ServedStack;
  readonly tell: (image: PassedImage) => void;
}

export class ExportJob {
  /** For what is done between its turns. */
  readonly context: OperationContext;
  readonly entry: LiveExport;
  readonly #tell: JobHost["tell"];
  readonly #closing = new AbortController();
  readonly #signal: AbortSignal;

  private constructor({ entry, context, how, tell }: JobHost) {
    this.entry = entry;
    this.#tell = tell;
    const { signal } = this.#closing;
    this.#signal = how.signal ? AbortSignal.any([signal, how.signal]) : signal;
    const { onProgress } = how;
    this.context = { ...context, onProgress, signal: this.#signal, pace: PACE };
  }

  /**
   * Does a long change, which must end soon after its signal fires.
   *
   * @throws CowError `unsuitable` for an export that is not open; `locked` while another one of that export is under way; what
   *   `work` throws
   */
  static async run<Result>(host: JobHost, work: (job: ExportJob) => Promise<Result>): Promise<Result> {
    const { entry } = host;
    requireOpen(entry);
    if (entry.job)
      throw new CowError("locked", `layers of export "${entry.name}" are being squashed or flattened already`);
    const job = new ExportJob(host);
    const done = work(job);
    const ended = done.then(
      () => undefined,
      () => undefined,
    );
    entry.job = { stop: () => job.#closing.abort(), ended };
    try {
      return await done;
    } finally {
      entry.job = undefined;
    }
  }

  /** What it was stopped by. */
  stopped(): CowError {
    return interrupted(this.entry.name || this.entry.stack, "its layers are as they were");
  }

  /**
   * Does something in the export's turn, unless it is stopped before that begins.
   *
   * @param how.isUndoing also if it was cancelled
   * @throws CowError `interrupted`; as settledChain(); what `work` throws
   */
  inTurn<Result>(work: (turn: Turn) => Promise<Result>, { isUndoing = false } = {}): Promise<Result> {
    // The turn may be that of the export's end, which waits for this job.
    const signal = isUndoing ? this.#closing.signal : this.#signal;
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(this.stopped());
      signal.addEventListener("abort", stop);
      const begin = async (): Promise<Result> => {
        signal.removeEventListener("abort", stop);
        if (signal.aborted) throw this.stopped();
        const { stack, number } = requireOpen(this.entry);
        return work({ ...(await settledChain(stack)), stack, tell: (image) => this.#tell(number, image) });
      };
      if (signal.aborted) stop();
      else this.entry.inTurn(begin).then(resolve, reject);
    });
  }

  /** Resolves when the former parts of the stack are closed, or it is stopped. */
  async retired({ retiring }: ServedStack): Promise<void> {
    const signal = this.#signal;
    let stop = (): void => undefined;
    const stopped = new Promise<void>((resolve) => {
      stop = resolve;
      if (signal.aborted) resolve();
      signal.addEventListener("abort", stop);
    });
    await Promise.race([retiring, stopped]);
    signal.removeEventListener("abort", stop);
  }
}

/** @throws CowError `unsuitable` */
function requireOpen({ name, state, served }: LiveExport): { readonly stack: ServedStack; readonly number: number } {
  if (served) return served;
  throw new CowError("unsuitable", `export "${name}" is ${state}: its layers are changed while it is open`);
}
