/**
 * Owns the flags and arguments that commands share: one spelling, one short form and one description each. Must not hold
 * a flag that only one command has.
 */
import { Args, Flags } from "@oclif/core";
import { ABI_NAMES, type CowAbi } from "../lib/formats/cowfile/layout.ts";
import { PROGRESS_MODES, type ProgressMode } from "./progress.ts";
import { JSON_MODES, type JsonMode } from "./render/json.ts";

const HELP_GROUP = "SHARED";

/** On every command. */
export const sharedFlags = {
  json: Flags.custom<JsonMode>({
    description: "print the result as JSON: one document, or with `lines` one object a line",
    options: [...JSON_MODES],
    helpValue: "lines",
    helpGroup: HELP_GROUP,
  })(),
  progress: Flags.custom<ProgressMode>({
    description: "how to show progress on stderr",
    options: [...PROGRESS_MODES],
    default: "auto",
    helpValue: "MODE",
    helpGroup: HELP_GROUP,
  })(),
  "no-color": Flags.boolean({ default: false, description: "no colour, even on a terminal", helpGroup: HELP_GROUP }),
  quiet: Flags.boolean({
    default: false,
    char: "q",
    description: "no notes and no automatic progress",
    helpGroup: HELP_GROUP,
  }),
  verbose: Flags.boolean({
    default: false,
    char: "v",
    description: "print more details",
    helpGroup: HELP_GROUP,
  }),
};

export const forceFlag = (overrides: string) => Flags.boolean({ default: false, char: "f", description: overrides });

/** Several, as a command may have several outputs. */
export const replaceFlag = () =>
  Flags.string({
    multiple: true,
    multipleNonGreedy: true,
    description: "replace this output, whatever it is: --force replaces only files of the kind that the command writes",
    helpValue: "NAME",
  });

export const yesFlag = () =>
  Flags.boolean({ default: false, char: "y", description: "answer the confirmation prompt with yes" });

export const dryRunFlag = () =>
  Flags.boolean({
    default: false,
    char: "n",
    description: "open everything read-only and report what the real run would do",
  });

export const outputFlag = (description: string) => Flags.string({ char: "o", description, helpValue: "FILE" });

export const forceShareFlag = () =>
  Flags.boolean({ default: false, description: "read the file even while another process writes it" });

export const stackFlag = (description: string) => Flags.string({ description, helpValue: "STACK" });

/** On commands that take any number of files. */
export const manyFilesFlags = {
  "keep-going": Flags.boolean({
    default: false,
    description: "of several files, go on behind one that fails: the default",
    exclusive: ["no-keep-going"],
  }),
  "no-keep-going": Flags.boolean({
    default: false,
    description: "of several files, stop behind the first whose exit status is not 0",
  }),
};

/** A required positional. oclif would read a missing one from stdin, hence `ignoreStdin` here and on any other Args. */
export const fileArg = (description: string) => Args.string({ required: true, ignoreStdin: true, description });

export const abiFlag = () =>
  Flags.custom<CowAbi>({
    description: "the target machine: byte order and word size of the head",
    options: [...ABI_NAMES],
    default: "le64",
  })();

export const MAP_KINDS = ["text", "svg"] as const;
export type MapKind = (typeof MAP_KINDS)[number];

/** `--map`, or `--map=svg`. */
export const mapFlag = (description: string) =>
  Flags.custom<MapKind>({ description, options: [...MAP_KINDS], helpValue: "svg" })();

/** What a flag means that is given without its value; oclif knows no such flags. */
const OPTIONAL_VALUES: Readonly<Record<string, string>> = { "--map": "--map=text", "--json": "--json=document" };

/** Gives such flags their value, up to a `--`. */
export function withOptionalValues(argv: readonly string[]): string[] {
  const end = argv.indexOf("--");
  return argv.map((word, i) => ((end === -1 || i < end) && OPTIONAL_VALUES[word]) || word);
}
