/**
 * Owns a command over several files: one after another, a bad one being a row like the others; a table and a line that sums
 * up for people, a document or lines of JSON for programs, and the worst exit status. Must not know any command.
 */
import type { OperationContext, Progress } from "../lib/context.ts";
import { EXIT } from "./exit-codes.ts";
import type { FileOutcome, FileTable, Outcome } from "./outcome.ts";
import { ReadAhead } from "./read-ahead.ts";
import { type Row, renderTable } from "./render/table.ts";
import { type Failure, failureAsJson } from "./report-error.ts";

export interface ManyFilesView {
  readonly context: OperationContext;
  readonly columns: number | undefined;
  /** Every object is a line: without a summary, which comes last. */
  readonly isLines: boolean;
  /** Leave out rows that only say that all is well, and the line that sums up. */
  readonly quiet: boolean;
  /** Go on after a file whose exit status is not 0. */
  readonly keepGoing: boolean;
  /** Turns a thrown error into a failure, and reports it to people. */
  readonly fail: (error: unknown) => Promise<Failure>;
}

type Examine = (file: string, context: OperationContext) => Promise<FileOutcome>;

interface Done {
  readonly file: string;
  readonly exitCode: number;
  readonly word: string;
  readonly done: FileOutcome | Failure;
}

/** What an exit status with an error is called. */
const FAILED: Readonly<Record<number, string>> = {
  [EXIT.unsuitable]: "unsuitable",
  [EXIT.operational]: "failed",
  [EXIT.usage]: "refused",
  [EXIT.internal]: "bug",
  [EXIT.sigint]: "stopped",
  [EXIT.sigterm]: "stopped",
};

/** The outcome for all files; the work is done while its result is written. */
export function manyFiles(files: readonly string[], table: FileTable, one: Examine, view: ManyFilesView): Outcome {
  const run = new Run(files, table, one, view);
  return {
    get exitCode() {
      return run.worst;
    },
    outlivesReader: true,
    result: view.isLines ? run.elements() : { files: run.elements(), summary: { toJSON: () => run.summary() } },
    render: () => run.text(),
  };
}

class Run {
  worst: number = EXIT.ok;
  readonly #files: readonly string[];
  readonly #table: FileTable;
  readonly #one: Examine;
  readonly #view: ManyFilesView;
  readonly #statuses = new Map<number, number>();
  readonly #words = new Map<string, number>();

  constructor(files: readonly string[], table: FileTable, one: Examine, view: ManyFilesView) {
    this.#files = files;
    this.#table = table;
    this.#one = one;
    this.#view = view;
  }

  async *elements(): AsyncGenerator<object> {
    for await (const { file, exitCode, done } of this.#all())
      yield { file, ...("result" in done ? done.result : { error: failureAsJson(done) }), exit_code: exitCode };
  }

  async *text(): AsyncGenerator<string> {
    const { header } = this.#table;
    const rows: Row[] = [];
    for await (const { file, exitCode, word, done } of this.#all()) {
      if (this.#view.quiet && exitCode === EXIT.ok && "row" in done && done.isReassurance) continue;
      const cells = "row" in done ? done.row : [...header.slice(1).map(() => "-"), done.message];
      rows.push([file, word, ...cells]);
    }
    if (rows.length > 0) yield* renderTable(["FILE", "RESULT", ...header], rows, { columns: this.#view.columns });
    if (!this.#view.quiet) yield this.#summaryLine();
  }

  summary(): object {
    const counts = [...this.#statuses].sort(([a], [b]) => a - b);
    return {
      files: this.#files.length,
      examined: this.#examined,
      exit_codes: counts.map(([exit_code, files]) => ({ exit_code, files })),
      exit_code: this.worst,
    };
  }

  #summaryLine(): string {
    const left = this.#files.length - this.#examined;
    const parts = [...this.#words].map(([word, count]) => `${count} ${word}`);
    return `${this.#files.length} files: ${[...parts, ...(left > 0 ? [`${left} not examined`] : [])].join(", ")}\n`;
  }

  get #examined(): number {
    return [...this.#statuses.values()].reduce((sum, count) => sum + count, 0);
  }

  async *#all(): AsyncGenerator<Done> {
    const ahead = new ReadAhead(this.#files);
    const pace = new WholePace(await ahead.sizes(), this.#view.context);
    for (const [index, file] of this.#files.entries()) {
      await ahead.reach(index);
      const done = await this.#examine(file, pace.contextOf(index));
      pace.end(index);
      yield done;
      const isStopped = done.exitCode === EXIT.sigint || done.exitCode === EXIT.sigterm;
      if (isStopped || (done.exitCode !== EXIT.ok && !this.#view.keepGoing)) return;
    }
  }

  async #examine(file: string, context: OperationContext): Promise<Done> {
    let done: FileOutcome | Failure;
    try {
      done = await this.#one(file, context);
    } catch (error) {
      done = await this.#view.fail(error);
    }
    const exitCode = "row" in done ? done.exitCode : done.exit_code;
    const own = "row" in done ? (done.word ?? this.#table.words[exitCode]) : FAILED[exitCode];
    const word = own ?? `status ${exitCode}`;
    this.worst = Math.max(this.worst, exitCode);
    this.#statuses.set(exitCode, (this.#statuses.get(exitCode) ?? 0) + 1);
    this.#words.set(word, (this.#words.get(word) ?? 0) + 1);
    return { file, exitCode, word, done };
  }
}

/** One progress over all files, weighed by the space that each takes. */
class WholePace {
  readonly #context: OperationContext;
  readonly #sizes: readonly number[];
  readonly #total: number;
  #before = 0;

  constructor(sizes: readonly number[], context: OperationContext) {
    this.#context = context;
    this.#sizes = sizes;
    this.#total = sizes.reduce((sum, size) => sum + size, 0);
  }

  contextOf(index: number): OperationContext {
    let share = 0;
    return {
      ...this.#context,
      onProgress: ({ done, total }: Progress) => {
        share = Math.max(share, total > 0 ? Math.min(1, done / total) : 0);
        this.#tell(share * (this.#sizes[index] ?? 0));
      },
    };
  }

  end(index: number): void {
    this.#before += this.#sizes[index] ?? 0;
    this.#tell(0);
  }

  #tell(ofThis: number): void {
    const done = Math.floor(this.#before + ofThis);
    this.#context.onProgress?.({ phase: "all files", done, total: this.#total, unit: "bytes" });
  }
}
