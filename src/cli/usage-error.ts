/**
 * Owns the wording of errors from oclif's parser: turns them into CowErrors `usage` in the style of cowtool. Must not
 * turn bugs into usage errors.
 */
import { stripVTControlCharacters } from "node:util";
import { Errors } from "@oclif/core";
import { CowError } from "../lib/errors.ts";
import { nearest } from "./nearest.ts";

/** The parts of oclif's parse errors; its classes are not exported, so these distinguish them. */
interface ParseError {
  readonly args?: readonly (string | { readonly name?: string })[];
  readonly flags?: readonly string[];
}

function names(values: readonly (string | { readonly name?: string })[]): string {
  return values.map((value) => (typeof value === "string" ? value : (value.name ?? "?").toUpperCase())).join(", ");
}

function plural(count: number): string {
  return count === 1 ? "" : "s";
}

/** `Expected --x to be one of: a, b\nSee more help with --help` → `expected --x to be one of: a, b` */
function houseStyle(message: string): string {
  const text = message
    .replace(/\n*See more help with --help\s*$/, "")
    .replace(/^The following errors? occurred:\s*/, "")
    .replace(/\s*\n\s*/g, ", ")
    .trim();
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function wording(error: Error & ParseError): string {
  // On a terminal oclif's messages have colours of their own.
  const message = stripVTControlCharacters(error.message);
  const missing = [...message.matchAll(/Missing required flag (\S+)/g)].map(([, name = ""]) => `--${name}`);
  if (missing.length > 0) return `missing required flag${plural(missing.length)}: ${missing.join(", ")}`;
  if (Array.isArray(error.flags)) return `unknown flag${plural(error.flags.length)}: ${names(error.flags)}`;
  if (Array.isArray(error.args)) {
    const isMissing = error.args.some((arg) => typeof arg !== "string");
    return `${isMissing ? "missing" : "unexpected"} argument${plural(error.args.length)}: ${names(error.args)}`;
  }
  return houseStyle(message);
}

function suggestions({ flags }: Error & ParseError, known: readonly string[]): string[] {
  if (!Array.isArray(flags)) return [];
  const names = (flags as string[]).flatMap((flag) => nearest(flag.replace(/^-+|=.*$/g, ""), known));
  return [...new Set(names)].map((name) => `did you mean --${name}?`);
}

/**
 * The usage error for an error of oclif's parser, or undefined for any other error.
 *
 * @param help the command line that shows how it is done, such as `cowtool info --help`
 * @param flags those that the command has, without dashes: the closest to an unknown one are suggested
 */
export function asUsageError(error: unknown, help: string, flags: readonly string[] = []): CowError | undefined {
  if (!(error instanceof Errors.CLIError)) return undefined;
  // An ExitError is a request, not a failure; a command that can't be loaded is our bug, not the user's error.
  if (error instanceof Errors.ExitError || error instanceof Errors.ModuleLoadError) return undefined;
  return new CowError("usage", wording(error), {
    hints: [...suggestions(error, flags), `see ${help}`],
    cause: error,
  });
}
