/**
 * Owns how the progress of a long job is shown on stderr. Must not slow the job down: the job may call it often, and
 * cli-progress is loaded only when there is a bar to draw.
 */
import type { Options, SingleBar } from "cli-progress";
import { roundedSize } from "../lib/bytes/size.ts";
import type { Progress } from "../lib/context.ts";
import type { Terminal } from "./terminal.ts";

export const PROGRESS_MODES = ["auto", "bar", "plain", "json", "none"] as const;
export type ProgressMode = (typeof PROGRESS_MODES)[number];

/** Jobs shorter than this show no bar. */
const BAR_AFTER_MS = 500;
const BAR_EVERY_MS = 100;
const PLAIN_EVERY_MS = 3000;
const JSON_EVERY_MS = 200;

const DEFAULT_COLUMNS = 80;
/** Left free at the end of the line: the terminal shows a `^C` there, which must not begin a new line. */
const FREE_COLUMNS = 3;
/** What a bar shows where there is less and less room: its width, and how many of amount, time left and rate. */
const LAYOUTS = [
  [30, 3],
  [18, 3],
  [10, 3],
  [10, 2],
  [6, 2],
  [0, 2],
  [0, 1],
  [0, 0],
] as const;

export interface ProgressView {
  readonly onProgress: (progress: Progress) => void;
  /** Removes the bar from the line for other text; the next progress draws it again. */
  readonly clear: () => void;
  /** Must be called at the end of the job. */
  readonly stop: () => void;
}

function percentOf({ done, total }: Progress): number {
  return total > 0 ? Math.min(100, Math.floor((done / total) * 100)) : 100;
}

function amount(count: number, unit: Progress["unit"]): string {
  return unit === "bytes" ? roundedSize(count) : `${Math.round(count)} blocks`;
}

/** Measures one phase at a time: each has its own rate. */
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

  /** `12 MiB of 3 GiB`, `26 s left`, `120 MiB/s`; without the last two while there is nothing to tell them from */
  facts({ done, total, unit }: Progress): string[] {
    const amounts = `${amount(done, unit)} of ${amount(total, unit)}`;
    const perSecond = ((done - this.#startDone) * 1000) / (performance.now() - this.#startMs);
    if (!(perSecond > 0 && Number.isFinite(perSecond))) return [amounts];
    const restSeconds = Math.ceil(Math.max(0, total - done) / perSecond);
    return [amounts, `${duration(restSeconds)} left`, `${amount(Math.round(perSecond), unit)}/s`];
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
    terminal.writeErr(`cowtool: ${progress.phase}: ${percentOf(progress)}%, ${pace.facts(progress).join(", ")}\n`);
  });
}

/** One line of at most `room` characters. @param bar draws a bar of that many characters */
function barText(progress: Progress, facts: readonly string[], room: number, bar: (width: number) => string): string {
  let text = "";
  for (const [width, count] of LAYOUTS) {
    const drawn = width > 0 ? `[${bar(width)}] ` : "";
    const more = facts.slice(0, count);
    text = `${progress.phase} ${drawn}${percentOf(progress)}%${more.length > 0 ? ` | ${more.join(", ")}` : ""}`;
    if (text.length <= room) return text;
  }
  return text.slice(0, Math.max(0, room));
}

/**
 * What cli-progress draws on: one line, written anew in its place. The terminal's settings stay as they are, since a kill
 * could not restore them.
 */
function lineOn(terminal: Terminal) {
  /** Characters of the bar on the screen. */
  let shown = 0;
  const columns = (): number => terminal.errColumns ?? DEFAULT_COLUMNS;
  const erase = (): void => {
    if (shown === 0) return;
    // A terminal that became narrower has wrapped the line.
    const rowsAbove = Math.floor((shown - 1) / columns());
    shown = 0;
    terminal.writeErr(`${rowsAbove > 0 ? `\u001b[${rowsAbove}A` : ""}\r\u001b[J`);
  };
  return {
    isTTY: () => true,
    getWidth: columns,
    cursorTo: erase,
    clearLine: erase,
    write: (text: string): void => {
      terminal.writeErr(text);
      shown = text.length;
    },
    clearRight: () => {},
    clearBottom: () => {},
    cursorSave: () => {},
    cursorRestore: () => {},
    cursor: () => {},
    lineWrapping: () => {},
    newline: () => {},
  };
}

function barView(terminal: Terminal): ProgressView {
  const pace = new Pace();
  let bar: SingleBar | undefined;
  let isLoading = false;
  let isStopped = false;
  let latest: Progress | undefined;
  let startMs: number | undefined;

  const draw = (progress: Progress): void => {
    if (!bar?.isActive) bar?.start(progress.total, progress.done);
    bar?.setTotal(progress.total);
    bar?.update(progress.done);
  };

  const load = async (): Promise<void> => {
    isLoading = true;
    const { default: cliProgress } = await import("cli-progress");
    if (isStopped) return;
    const options: Options & { terminal: unknown } = {
      terminal: lineOn(terminal),
      format: (drawing, { progress, maxWidth = DEFAULT_COLUMNS }) => {
        const draws = (barsize: number) => cliProgress.Format.BarFormat(progress, { ...drawing, barsize });
        return latest ? barText(latest, pace.facts(latest), maxWidth - FREE_COLUMNS, draws) : "";
      },
      fps: 1000 / BAR_EVERY_MS,
      clearOnComplete: true,
      hideCursor: null,
      linewrap: true,
      // Its own signal handling would swallow SIGINT, which must reach the operation.
      gracefulExit: false,
    };
    bar = new cliProgress.SingleBar(options);
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

/** @param quiet `-q`: `auto` then shows nothing; an explicit mode is still used */
export function makeProgressView(mode: ProgressMode, terminal: Terminal, quiet: boolean): ProgressView {
  switch (mode) {
    case "auto":
      return terminal.stderrIsTerminal && terminal.env["TERM"] !== "dumb" && !quiet ? barView(terminal) : NONE;
    case "bar":
      // A bar uses cursor movements, which only a terminal understands.
      return terminal.stderrIsTerminal ? barView(terminal) : plainView(terminal);
    case "plain":
      return plainView(terminal);
    case "json":
      return jsonView(terminal);
    case "none":
      return NONE;
  }
}
