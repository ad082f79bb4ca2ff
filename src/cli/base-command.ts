/**
 * Owns what every command has in common: shared flags, output as text or JSON, exit status, errors, signals, progress,
 * prompts. Must not know any operation. oclif's own JSON, logging, exiting and error printing are not used at all.
 *
 * A command is flags → options → one operation → render, for instance:
 *
 *     export default class Info extends BaseCommand<typeof Info> {
 *       static override summary = "show what a file is and holds";
 *       static override args = { file: fileArg("cowfile, packed or not") };
 *       static override flags = { map: Flags.boolean({ description: "add the extents" }) };
 *
 *       protected async execute(): Promise<Outcome> {
 *         const { info } = await import("../lib/operations/info.ts"); // here, so that --help stays fast
 *         const result = await info(this.args.file, { map: this.flags.map }, this.context());
 *         return { result, exitCode: EXIT.ok, render: () => renderKeyValue([["format", result.format]]) };
 *       }
 *     }
 */
import { Command, type Interfaces, Parser } from "@oclif/core";
import type { Notice, OperationContext } from "../lib/context.ts";
import { CowError } from "../lib/errors.ts";
import type { Streams } from "../lib/operations/pack/request.ts";
import { EXIT } from "./exit-codes.ts";
import { sharedFlags, withOptionalValues } from "./flags.ts";
import type { FileTable, OneFile, Outcome } from "./outcome.ts";
import { makeProgressView, type ProgressView } from "./progress.ts";
import { confirm } from "./prompt.ts";
import { mayColour } from "./render/colour.ts";
import { writeJson } from "./render/json.ts";
import { ReaderGone, writeText } from "./render/text.ts";
import {
  type Failure,
  failureOf,
  reportError,
  wantsJson,
  wantsNoColour,
  writeFailure,
  writeNotice,
} from "./report-error.ts";
import { catchStopSignals, type StopSignals } from "./signals.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

export type { Outcome } from "./outcome.ts";

export type Flags<T extends typeof Command> = Interfaces.InferredFlags<(typeof BaseCommand)["baseFlags"] & T["flags"]>;
export type Args<T extends typeof Command> = Interfaces.InferredArgs<T["args"]>;

export abstract class BaseCommand<T extends typeof Command> extends Command {
  static override baseFlags = sharedFlags;

  /** The argument that names a file to make which may be `-`: stdout carries that, and result or error go to stderr. */
  static outputArg: string | undefined;

  /** The streams; tests put their own here before the command runs. */
  terminal: Terminal = processTerminal();

  protected args!: Args<T>;
  protected flags!: Flags<T>;
  /** Everything on the command line that is no flag, for commands that take any number of files. */
  protected positionals: readonly string[] = [];
  #stops: StopSignals | undefined;
  #progress: ProgressView | undefined;
  #isAsking = false;
  /** The base of several files. */
  #opened: { close(): void } | undefined;

  /** Does the command's work and returns the result; failures are thrown, as CowError. */
  protected abstract execute(): Promise<Outcome>;

  /** What oclif calls. Its own looks for plugins, variables and hooks, of which cowtool has none. */
  override async _run<Result>(): Promise<Result> {
    await this.run().catch((error: unknown) => this.catch(error));
    return undefined as Result;
  }

  override async run(): Promise<void> {
    // oclif would add a warning of its own to a parse error when NODE_ENV is "test".
    this.parsed = true;
    this.argv = withOptionalValues(this.argv);
    const ctor = this.ctor as T & typeof BaseCommand;
    // Not this.parse(), which asks the configuration's plugins first.
    const { args, flags, argv } = await Parser.parse(this.argv, {
      context: this,
      args: ctor.args,
      flags: { ...ctor.baseFlags, ...ctor.flags },
      strict: ctor.strict,
    });
    this.positionals = argv.map(String);
    this.args = args as Args<T>;
    this.flags = flags as Flags<T>;
    this.#stops = catchStopSignals(() => this.#sayStopping());
    this.#progress = makeProgressView(this.flags.progress, this.terminal, this.flags.quiet);
    try {
      const outcome = await this.execute();
      this.#progress.clear();
      await this.#write(outcome);
      this.terminal.setExitCode(outcome.exitCode);
    } finally {
      this.#opened?.close();
      this.#progress.stop();
      this.#stops.dispose();
    }
  }

  /** Called by oclif with whatever `run` threw, parse errors included. */
  protected override async catch(error: unknown): Promise<void> {
    // The reader of our stdout has closed it, which is not a failure.
    if (error instanceof ReaderGone) return;
    await reportError(error, { ...this.#reporting(), json: wantsJson(this.argv), toStderr: this.stdoutIsData });
  }

  #reporting() {
    return {
      terminal: this.terminal,
      noColour: wantsNoColour(this.argv),
      argv: this.argv,
      command: this.id,
      help: `cowtool ${this.id} --help`,
      flags: [...Object.keys({ ...sharedFlags, ...this.ctor.flags }), "help"],
      signal: this.#stops?.received(),
      moreHints: () => this.#swapped(),
    };
  }

  /** Of a command that takes a base and then a layer: are they in the wrong order? */
  async #swapped(): Promise<readonly string[]> {
    const { id, args } = this.ctor;
    const [base, layer] = Object.keys(args);
    const isOne = (base === "rdofile" || base === "base") && layer !== undefined;
    if (!isOne) return [];
    const { newSwappedHints, swappedHints } = await import("./swapped-hint.ts");
    const hints = id === "create" ? newSwappedHints : swappedHints;
    return hints(`${this.config.bin} ${id}`, this.positionals);
  }

  /**
   * Runs a command for each of its files. A single one has its own outcome, several have one together.
   *
   * @param rdofile a stack to compare all of them with: for several files it is opened once
   */
  protected async eachFile(
    files: readonly string[],
    rdofile: string | undefined,
    table: FileTable,
    one: OneFile,
  ): Promise<Outcome> {
    const context = this.context();
    const [only, ...more] = files;
    if (only !== undefined && more.length === 0) return await one(only, rdofile, context);
    const { manyFiles } = await import("./many-files.ts");
    const { OpenFiles } = await import("../lib/operations/files.ts");
    const opened = new OpenFiles(context);
    this.#opened = opened;
    const base = rdofile === undefined ? undefined : await opened.openStack(rdofile);
    const fail = async (error: unknown): Promise<Failure> => {
      const failure = await failureOf(error, this.#reporting());
      this.#progress?.clear();
      if (!this.flags.json) writeFailure(this.#reporting(), failure);
      return failure;
    };
    return manyFiles(files, table, (file, paced) => one(file, base, paced), {
      context,
      columns: this.terminal.columns,
      isLines: this.flags.json === "lines",
      quiet: this.flags.quiet,
      keepGoing: !this.argv.includes("--no-keep-going"),
      fail,
    });
  }

  /** May severity words in the result be coloured? */
  protected get colour(): boolean {
    const { stdoutIsTerminal, env } = this.terminal;
    return mayColour({ isTerminal: stdoutIsTerminal, env, noColour: this.flags["no-color"] });
  }

  /** An operation's context. */
  protected context(): OperationContext {
    return {
      signal: this.#stops?.signal,
      onProgress: (progress) => this.#progress?.onProgress(progress),
      onNotice: (notice) => this.notify(notice),
    };
  }

  /** A warning or a note on stderr; `-q` drops notes. */
  protected notify({ severity, file, message }: Notice): void {
    if (severity === "note" && this.flags.quiet) return;
    this.#progress?.clear();
    writeNotice({ terminal: this.terminal, noColour: this.flags["no-color"] }, severity, file, message);
  }

  /**
   * Returns when the user agrees (or `yes`, from the command's yesFlag, says so), throws otherwise.
   *
   * @param question without the answers: `write 12 blocks into base.img?`
   */
  protected async confirm(file: string, question: string, yes: boolean): Promise<void> {
    this.#progress?.clear();
    const signal = this.#stops?.signal ?? new AbortController().signal;
    this.#isAsking = true;
    await confirm(this.terminal, signal, { file, question, yes, json: this.flags.json !== undefined });
    this.#isAsking = false;
  }

  /** The standard streams for an operation that takes `-`. Binary output to a terminal is refused. */
  protected get streams(): Streams {
    return {
      input: { [Symbol.asyncIterator]: () => this.terminal.readBytes(this.#stops?.signal)[Symbol.asyncIterator]() },
      output: async (bytes) => {
        if (this.terminal.stdoutIsTerminal)
          throw new CowError("usage", "stdout is a terminal: send it to a file or a pipe", { file: "-" });
        if (!(await this.terminal.writeBytes(bytes))) throw new ReaderGone();
      },
    };
  }

  /** Does the command's data go to stdout? For a command line that could not be parsed, the likelier answer. */
  protected get stdoutIsData(): boolean {
    const name = (this.ctor as typeof BaseCommand).outputArg;
    const args: Readonly<Record<string, unknown>> | undefined = this.args;
    return name !== undefined && (args ? args[name] === "-" : this.argv.lastIndexOf("-") > 0);
  }

  /** The outcome of work that is done, and of which the text only says so. */
  protected done(result: object, render: Outcome["render"]): Outcome {
    return { result, exitCode: EXIT.ok, isReassurance: true, render };
  }

  /** Prints a result while the work goes on; the outcome then has none. */
  protected announce(outcome: Omit<Outcome, "exitCode">): Promise<void> {
    this.#progress?.clear();
    return this.#write(outcome);
  }

  async #write(outcome: Omit<Outcome, "exitCode">): Promise<void> {
    const { result, render, toStderr, isReassurance, outlivesReader = false } = outcome;
    if (result === undefined) return;
    let isHeard = true;
    const sink = async (text: string): Promise<boolean> => {
      if (isHeard) isHeard = await this.#print(text, toStderr);
      return isHeard || outlivesReader;
    };
    if (this.flags.json) await writeJson(result, sink, this.flags.json);
    else if (!(isReassurance && this.flags.quiet)) await writeText(await render(), sink);
  }

  #print(text: string, toStderr: boolean | undefined): boolean | Promise<boolean> {
    this.#progress?.clear();
    if (!toStderr && !this.stdoutIsData) return this.terminal.writeOut(text);
    this.terminal.writeErr(text);
    return true;
  }

  #sayStopping(): void {
    if (this.#isAsking || !this.terminal.stderrIsTerminal) return;
    this.notify({ severity: "note", message: "stopping at the next safe point; a second signal ends it at once" });
  }
}
