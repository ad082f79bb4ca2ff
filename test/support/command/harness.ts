/**
 * Owns how the contract finds and runs commands, and the sentences that every test of it says: this is JSON of that
 * schema, this is one clear error line. Must not know what a single command does.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "@oclif/core";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { expect } from "vitest";
import { type FakeTerminal, type FakeTerminalOptions, fakeTerminal } from "./fake-terminal.ts";
import type { CommandRow } from "./row.ts";
import { COMMAND_ROWS } from "./rows.ts";
import { ROOT, runCommand } from "./run-command.ts";

/** What a command did, in this process or its own. */
export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | undefined;
}

/** The names of all commands there are. */
export const COMMAND_NAMES: readonly string[] = readdirSync(join(ROOT, "src/commands"))
  .filter((name) => name.endsWith(".ts"))
  .map((name) => name.slice(0, -".ts".length))
  .sort();

/** The row of a command; a command without one fails its tests with this sentence. */
export function rowOf(name: string): CommandRow {
  const row = COMMAND_ROWS[name];
  if (!row) throw new Error(`${name} has no row in test/support/command/rows.ts: the contract holds for every command`);
  return row;
}

/** [command, title, element] for test.each, over all commands. A missing row is told by a test of its own. */
export function eachOf<Element extends { readonly title: string }>(
  pick: (row: CommandRow) => readonly Element[],
): (readonly [command: string, title: string, element: Element])[] {
  return COMMAND_NAMES.flatMap((name) => {
    const row = COMMAND_ROWS[name];
    return row ? pick(row).map((element) => [name, element.title, element] as const) : [];
  });
}

export async function commandClass(name: string): Promise<typeof Command> {
  const { default: found } = (await import(join(ROOT, "src/commands", `${name}.ts`))) as { default: typeof Command };
  found.id = name;
  return found;
}

/** Runs a command by name in this process. One that stays is ended by SIGTERM as soon as it has printed something. */
export async function run(
  name: string,
  argv: readonly string[],
  terminal: FakeTerminalOptions | ReturnType<typeof fakeTerminal> = {},
): Promise<Ran> {
  const fake = "out" in terminal ? terminal : fakeTerminal(terminal);
  await runCommand(await commandClass(name), argv, COMMAND_ROWS[name]?.stays ? endedByItsResult(fake) : fake);
  return { stdout: fake.out(), stderr: fake.err(), status: fake.exitCode() };
}

/** A terminal at which somebody types `kill` when the result comes. It goes to the command only, not to this process. */
function endedByItsResult(fake: FakeTerminal): FakeTerminal {
  let [isTyped, isOver] = [false, false];
  const type = (): void => {
    // What was written may have been an error.
    if (!isOver && !isTyped) process.emit("SIGTERM", "SIGTERM");
    isTyped = true;
  };
  return {
    ...fake,
    writeOut(text) {
      setImmediate(type);
      return fake.writeOut(text);
    },
    setExitCode(status) {
      isOver = true;
      fake.setExitCode(status);
    },
  };
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly $ref?: string;
  readonly additionalProperties?: boolean;
  readonly $defs?: Readonly<Record<string, JsonSchema>>;
  readonly enum?: readonly unknown[];
  readonly examples?: readonly unknown[];
}

const ajv = new Ajv2020({ strict: true, allErrors: true, allowUnionTypes: true });
const validators = new Map<string, ValidateFunction>();

export function schemaOf(name: string): JsonSchema {
  return JSON.parse(readFileSync(join(ROOT, "schemas", `${name}.schema.json`), "utf8")) as JsonSchema;
}

/** Keys of `value` that the schema doesn't describe: readers may meet them, so they have to be in it. */
function undescribed(value: unknown, schema: JsonSchema, root: JsonSchema, path: string): string[] {
  // One of several kinds of documents: what the schema itself does not describe, one kind describes.
  const kinds = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].map((kind) => undescribed(value, kind, root, path));
  const least = kinds.reduce((some, each) => (each.length < some.length ? each : some), kinds[0] ?? []);
  const own = undescribedByItself(value, schema, root, path);
  return kinds.length === 0 ? own : own.filter((key) => least.includes(key));
}

function undescribedByItself(value: unknown, schema: JsonSchema, root: JsonSchema, path: string): string[] {
  const named = schema.$ref ? root.$defs?.[schema.$ref.replace("#/$defs/", "")] : undefined;
  const { properties, items, additionalProperties } = { ...(schema.$ref === "#" ? root : named), ...schema };
  if (additionalProperties) return [];
  if (Array.isArray(value)) {
    return items ? [...new Set(value.flatMap((item: unknown) => undescribed(item, items, root, `${path}[]`)))] : [];
  }
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, member]) => {
    const inner = properties?.[key];
    return inner ? undescribed(member, inner, root, `${path}.${key}`) : [`${path}.${key}`];
  });
}

/** Expects `text` to be one JSON document of that schema, with no key that it doesn't describe. */
export function expectJson(text: string, schemaName: string): Record<string, unknown> {
  const value = JSON.parse(text) as Record<string, unknown>;
  let validate = validators.get(schemaName);
  if (!validate) {
    validate = ajv.compile(schemaOf(schemaName));
    validators.set(schemaName, validate);
  }
  validate(value);
  expect(validate.errors ?? [], `${schemaName}: ${text.slice(0, 500)}`).toEqual([]);
  const schema = schemaOf(schemaName);
  expect(undescribed(value, schema, schema, ""), `keys that ${schemaName}.schema.json doesn't describe`).toEqual([]);
  return value;
}

export interface ErrorJson {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly hints: readonly string[];
  readonly exit_code: number;
}

/** Expects a failure with `--json`: the error object alone on stdout, at most notices on stderr, and the same status in both. */
export function expectErrorJson(ran: Ran, status: number): ErrorJson {
  const { error } = expectJson(ran.stdout, "error") as unknown as { error: ErrorJson };
  expect([error.exit_code, ran.status], error.message).toEqual([status, status]);
  expectNotices(ran.stderr);
  return error;
}

/** C0 except the line feed, DEL, C1: what would act on a terminal. */
const CONTROLS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;
const STACK = /^\s+at .*[:(]/m;

/** Expects text for people: whole lines without control characters. */
export function expectPlainLines(text: string): void {
  expect(text).not.toMatch(CONTROLS);
  expect(text).not.toMatch(STACK);
  if (text !== "") expect(text.endsWith("\n")).toBe(true);
}

/** Expects nothing but warnings and notes on stderr. */
export function expectNotices(stderr: string): void {
  expectPlainLines(stderr);
  for (const line of stderr.split("\n").slice(0, -1)) expect(line).toMatch(/^cowtool: (?:warning|note): \S/);
}

/** Expects a failure as people see it: nothing on stdout, one error line, hints after it. Returns the error line. */
export function expectErrorLine(ran: Ran, status: number): string {
  expect(ran.status, ran.stderr || ran.stdout).toBe(status);
  expect(ran.stdout).toBe("");
  expectPlainLines(ran.stderr);
  const lines = ran.stderr.split("\n").slice(0, -1);
  const errors = lines.filter((line) => line.startsWith("cowtool: error: "));
  expect(errors, ran.stderr).toHaveLength(1);
  for (const line of lines) expect(line).toMatch(/^cowtool: (?:error|hint|warning|note): \S.*[^.]$/);
  return errors[0] ?? "";
}
