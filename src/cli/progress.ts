/**
 * Owns how the progress of a long job is shown on stderr. Must not slow the job down: its callback may be called as
 * often as the job likes, and cli-progress is loaded only once there is a bar to draw.
 */
import type { SingleBar } from "cli-progress";
import { roundedSize } from "../lib/bytes/size.ts";
import type { Progress } from "../lib/context.ts";
import type { Terminal } from "./terminal.ts";

export const PROGRESS_MODES = ["auto", "bar", "plain", "json", "none"] as const;
export type ProgressMode = (typeof PROGRESS_MODES)[number];

/** Jobs shorter than this show no bar. */
const BAR_AFTER_MS = 500;
const PLAIN_EVERY_MS = 3000;
const JSON_EVERY_MS = 200;

export interface ProgressView {
  readonly onProgress: (progress: Progress) => void;
  /** Takes the bar off the line, so that other text can be written; the next progress draws it again. */
  readonly clear: () => void;
  /** Must be called when the job is over, however it ended. */
  readonly stop: () => void;
}

function percentOf({ done, total }: Progress): number {
  return total > 0 ? Math.min(100, Math.floor((done / total) * 100)) : 100;
}

function amount(count: number, unit: Progress["unit"]): string {
  return unit === "bytes" ? roundedSize(count) : `${Math.round(count)} blocks`;
}

/** Measures one phase after another: a new one has a rate of its own. */
class Pace {
  #phase: string | undefined;
  #startMs = 0;
  #startDone = 0;

  /** Whether this progress belongs to a new phase. */
  enter({ phase, done }: Progress): boolean {
    if (phase === this.#phase) return false;
    this.#phase = phase;
    this.#startMs = performance.now();
    this.#startDone = done;
    return true;
  }

  /** `12 MiB of 3 GiB, 120 MiB/s, 26 s left`; without rate and rest while there is nothing to tell them from */
  describe({ done, total, unit }: Progress): string {
    const amounts = `${amount(done, unit)} of ${amount(total, unit)}`;
    const perSecond = ((done - this.#startDone) * 1000) / (performance.now() - this.#startMs);
    if (!(perSecond > 0 && Number.isFinite(perSecond))) return amounts;
    const restSeconds = Math.ceil(Math.max(0, total - done) / perSecond);
    return `${amounts}, ${amount(Math.round(perSecond), unit)}/s, ${duration(restSeconds)} left`;
  }
}

/** `42 s`, `3 min 5 s`, `2 h 10 min` */
function duration(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Calls `show` at each phase's start and end and at most every `everyMs` between. */
function paced(everyMs: number, show: (progress: Progress, pace: Pace) => void): ProgressView {
  const pace = new Pace();
  let shownMs = 0;
  let isEndShown = false;
  const onProgress = (progress: Progress): void => {
    const nowMs = performance.now();
    const isNew = pace.enter(progress);
    const isEnd = progress.done >= progress.total;
    if (!isNew && (isEnd ? isEndShown : nowMs - shownMs < everyMs)) return;
    isEndShown = isEnd;
    shownMs = nowMs;
    show(progress, pace);
  };
  return { onProgress, clear: () => {}, stop: () => {} };
}

function jsonView(terminal: Terminal): ProgressView {
  return paced(JSON_EVERY_MS, (progress) => {
    const { phase, done, total, unit } = progress;
    terminal.writeErr(`${JSON.stringify({ phase, done, total, unit, percent: percentOf(progress) })}\n`);
  });
}

function plainView(terminal: Terminal): ProgressView {
  return paced(PLAIN_EVERY_MS, (progress, pace) => {
    terminal.writeErr(`cowtool: ${progress.phase}: ${percentOf(progress)}%, ${pace.describe(progress)}\n`);
  });
}

function barView(terminal: Terminal): ProgressView {
  const pace = new Pace();
  let bar: SingleBar | undefined;
  let isLoading = false;
  let isStopped = false;
  let latest: Progress | undefined;
  let startMs: number | undefined;

  const draw = (progress: Progress): void => {
    const values = { phase: progress.phase, pace: pace.describe(progress) };
    if (bar?.isActive) {
      bar.setTotal(progress.total);
      bar.update(progress.done, values);
    } else bar?.start(progress.total, progress.done, values);
  };

  const load = async (): Promise<void> => {
    isLoading = true;
    const { default: cliProgress } = await import("cli-progress");
    if (isStopped) return;
    bar = new cliProgress.SingleBar({
      stream: terminal.stderr,
      format: "{phase} [{bar}] {percentage}% | {pace}",
      barsize: 18,
      clearOnComplete: true,
      // The terminal's own settings stay as they are: a process ended by a second signal couldn't restore them.
      hideCursor: null,
      linewrap: true,
      // Its own signal handling would swallow SIGINT, which must reach the operation.
      gracefulExit: false,
    });
    if (latest) draw(latest);
  };

  const halt = (): void => {
    if (bar?.isActive) bar.stop();
  };

  return {
    onProgress(progress) {
      latest = progress;
      pace.enter(progress);
      const nowMs = performance.now();
      startMs ??= nowMs;
      if (bar) draw(progress);
      else if (!isLoading && nowMs - startMs >= BAR_AFTER_MS) void load();
    },
    clear: halt,
    stop() {
      isStopped = true;
      halt();
    },
  };
}

const NONE: ProgressView = { onProgress: () => {}, clear: () => {}, stop: () => {} };

/** @param quiet `-q`: `auto` then shows nothing; a mode that was asked for by name is still obeyed */
export function makeProgressView(mode: ProgressMode, terminal: Terminal, quiet: boolean): ProgressView {
  switch (mode) {
    case "auto":
      return terminal.stderrIsTerminal && terminal.env["TERM"] !== "dumb" && !quiet ? barView(terminal) : NONE;
    case "bar":
      // A bar draws itself with cursor movements: elsewhere than on a terminal it would be rubbish.
      return terminal.stderrIsTerminal ? barView(terminal) : plainView(terminal);
    case "plain":
      return plainView(terminal);
    case "json":
      return jsonView(terminal);
    case "none":
      return NONE;
  }
}
