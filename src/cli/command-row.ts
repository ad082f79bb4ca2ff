/**
 * Owns the one table that help, man pages and completions are made from: a command with its arguments and flags, read from
 * its class. Must not know any command by name.
 */
import type { Command, Interfaces } from "@oclif/core";
import { withOptionalValues } from "./flags.ts";

export interface ArgRow {
  /** As usage shows it: RDOFILE. */
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
}

export interface FlagRow {
  /** Without the dashes. */
  readonly name: string;
  readonly char: string | undefined;
  readonly description: string;
  /** On every command. */
  readonly isShared: boolean;
  /** What a value is called: FILE; undefined for a flag that takes none. */
  readonly valueName: string | undefined;
  /** What the flag means without a value, if it may stand without one; a value then needs the `=`. */
  readonly bareValue: string | undefined;
  /** The only values it takes, if it takes only some. */
  readonly options: readonly string[];
  readonly defaultValue: string | undefined;
  readonly isRepeatable: boolean;
  readonly isRequired: boolean;
}

export interface CommandRow {
  readonly id: string;
  readonly summary: string;
  readonly description: string;
  readonly args: readonly ArgRow[];
  /** The last argument may be given any number of times. */
  readonly isVariadic: boolean;
  /** Those of the command itself first, then the shared ones. */
  readonly flags: readonly FlagRow[];
  /** Command lines, as one would type them. */
  readonly examples: readonly string[];
}

export type CommandClass = typeof Command;

/** What is read of a flag; oclif exports no type for flags of both kinds. */
interface Flag {
  readonly type?: string;
  readonly char?: string;
  readonly summary?: string;
  readonly description?: string;
  readonly options?: readonly string[];
  readonly helpValue?: string | readonly string[];
  readonly default?: unknown;
  readonly multiple?: boolean;
  readonly required?: boolean;
}

/** The flags that oclif itself answers, before any command is loaded. */
export const HELP_FLAG: FlagRow = {
  name: "help",
  char: "h",
  description: "show help and do nothing else",
  isShared: true,
  valueName: undefined,
  bareValue: undefined,
  options: [],
  defaultValue: undefined,
  isRepeatable: false,
  isRequired: false,
};

/** Only before a command. */
export const VERSION_FLAG: FlagRow = { ...HELP_FLAG, name: "version", char: "V", description: "show the version" };

function flagRow(name: string, flag: Flag, isShared: boolean): FlagRow {
  const takesValue = flag.type === "option";
  const hasDefault = takesValue && ["string", "number"].includes(typeof flag.default);
  const options = flag.options ?? [];
  return {
    name,
    char: flag.char,
    description: flag.summary ?? flag.description ?? "",
    isShared,
    valueName: takesValue ? valueNameOf(name, flag) : undefined,
    bareValue: takesValue ? bareValueOf(name) : undefined,
    options,
    defaultValue: hasDefault ? String(flag.default) : undefined,
    isRepeatable: flag.multiple ?? false,
    isRequired: flag.required ?? false,
  };
}

function bareValueOf(name: string): string | undefined {
  return withOptionalValues([`--${name}`])[0]?.split("=")[1];
}

function valueNameOf(name: string, { helpValue }: Flag): string {
  return (typeof helpValue === "string" ? helpValue : helpValue?.[0]) ?? name.toUpperCase();
}

/** @param flags absent where a command declares none, whatever oclif's types say */
function flagRows(flags: Interfaces.FlagInput | undefined, isShared: boolean): FlagRow[] {
  return Object.entries(flags ?? {})
    .filter(([, flag]) => !flag.hidden)
    .map(([name, flag]) => flagRow(name, flag as unknown as Flag, isShared))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function argRows(args: Interfaces.ArgInput | undefined): ArgRow[] {
  return Object.entries(args ?? {})
    .filter(([, arg]) => !arg.hidden)
    .map(([name, arg]) => ({
      name: name.toUpperCase(),
      description: arg.description ?? "",
      required: arg.required ?? false,
    }));
}

function exampleLines(examples: readonly Command.Example[]): string[] {
  return examples
    .map((example) => (typeof example === "string" ? example : example.command))
    .map((line) => line.replaceAll("<%= config.bin %>", "cowtool"));
}

export function commandRow(id: string, command: CommandClass): CommandRow {
  return {
    id,
    summary: command.summary ?? "",
    description: command.description ?? "",
    args: argRows(command.args),
    isVariadic: !command.strict,
    flags: [...flagRows(command.flags, false), HELP_FLAG, ...flagRows(command.baseFlags, true)],
    examples: exampleLines(command.examples ?? []),
  };
}
