/**
 * Owns one question: what does every command make of this file? Each must work, or refuse by a known code that names the
 * file, and then leave everything as it was. Runs on files or in memory.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import {
  CowError,
  check,
  create,
  diff,
  type ErrorCode,
  info,
  MemoryStorage,
  merge,
  nodeStorage,
  repair,
  type Storage,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import type { Access } from "../../../src/lib/stack/live/access.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { collected } from "../collected.ts";
import { sameBytes } from "../images/driver-model.ts";

const PIECE_BYTES = 64 * 1024;

/** `ok`, or the code of the refusal. */
export type Outcome = "ok" | ErrorCode;

/** Everything but what only the command line, the system or an interruption brings about. */
const CODES: readonly ErrorCode[] = [
  "bad-head",
  "unsupported",
  "dirty",
  "packed",
  "truncated",
  "damaged",
  "wrong-base",
  "unsuitable",
  "io",
  "no-space",
];

/** A folder of files, emptied for each trial. */
export interface Bench {
  readonly storage: Storage;
  readonly path: (name: string) => string;
  reset(files: Readonly<Record<string, Uint8Array>>): void;
  bytes(name: string): Uint8Array;
  names(): string[];
}

export function memoryBench(): Bench {
  let storage = new MemoryStorage();
  return {
    get storage() {
      return storage;
    },
    path: (name) => name,
    reset(files) {
      storage = new MemoryStorage();
      for (const [name, bytes] of Object.entries(files)) storage.put(name, bytes);
    },
    bytes: (name) => storage.content(name)?.toBytes() ?? new Uint8Array(),
    names: () => storage.paths(),
  };
}

export function fileBench(directory: string): Bench {
  return {
    storage: nodeStorage,
    path: (name) => join(directory, name),
    reset(files) {
      for (const name of readdirSync(directory)) rmSync(join(directory, name));
      for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes);
    },
    bytes: (name) => readFileSync(join(directory, name)),
    names: () => readdirSync(directory).sort(),
  };
}

interface Command {
  readonly name: string;
  readonly run: (bench: Bench) => Promise<unknown>;
  /** The inputs that it may change when it works. */
  readonly writes?: "base" | "cow";
}

/** Reads a result to its end: much of it is made while it is read. */
function drain(...lists: (Iterable<unknown> | undefined)[]): void {
  for (const list of lists) for (const _ of list ?? []);
}

function command(
  name: string,
  run: (rdo: string, cow: string, storage: Storage, bench: Bench) => Promise<unknown>,
): Command {
  return { name, run: (bench) => run(bench.path("base"), bench.path("cow"), bench.storage, bench) };
}

/** What reads metadata and little else: cheap enough for thousands of files. */
const LOOKING: readonly Command[] = [
  command("info", async (rdofile, cow, storage) => {
    const { problems } = await info(cow, { rdofile }, { storage });
    drain(problems);
  }),
  command("info --map", async (_, cow, storage) => {
    const { problems, extents, close } = await info(cow, { map: true }, { storage });
    drain(problems);
    await collected(extents);
    close();
  }),
  command("check", async (rdofile, cow, storage) => {
    for (const request of [{}, { rdofile }]) drain((await check(cow, request, { storage })).problems);
  }),
  command("verify-fingerprint", (rdo, cow, storage) => verifyFingerprint(rdo, cow, {}, { storage })),
  command("repair -n", async (_, cow, storage) => {
    const report = await repair(cow, { dryRun: true, force: true }, { storage });
    drain(report.problems, report.suspects, report.marked);
  }),
  command("merge -n -f", (rdo, cow, storage) => merge(rdo, cow, { dryRun: true, force: true }, { storage })),
];

/** What a server does with a stack from beginning to end, without the clients. */
async function served(parts: readonly string[], access: Access, storage: Storage): Promise<void> {
  const stack = await ServedStack.open(storage, parts.join(","), { access });
  try {
    const image = stack.image();
    for (let at = 0; at < image.sizeBytes; at += PIECE_BYTES) {
      const piece = new Uint8Array(Math.min(PIECE_BYTES, image.sizeBytes - at));
      image.read(piece, at);
      if (image.writable) image.write(piece, at);
    }
    for (const kind of ["allocation", "depth", "dirty"] as const) image.status(kind, 0, image.sizeBytes, () => true);
    image.flush();
  } finally {
    stack.close();
  }
}

const READING: readonly Command[] = [
  command("merge -n", (rdo, cow, storage) => merge(rdo, cow, { dryRun: true }, { storage })),
  command("diff", async (rdo, cow, storage) => drain((await diff(rdo, `${rdo},${cow}`, {}, { storage })).extents)),
  command("merge -o", (rdo, cow, storage, { path }) => merge(rdo, cow, { output: path("out") }, { storage })),
  command("merge -o -f", (rdo, cow, storage, { path }) =>
    merge(rdo, cow, { output: path("out"), force: true }, { storage }),
  ),
  command("create --from", (rdo, cow, storage, { path }) =>
    create(rdo, path("out"), { from: `${rdo},${cow}` }, { storage }),
  ),
  command("serve --read-only", (rdo, cow, storage) => served([rdo, cow], "read-only", storage)),
  command("serve --ephemeral", (rdo, cow, storage) => served([rdo, cow], "ephemeral", storage)),
];

const WRITING: readonly Command[] = [
  { ...command("serve", (rdo, cow, storage) => served([rdo, cow], "writable", storage)), writes: "cow" },
  { ...command("merge", (rdo, cow, storage) => merge(rdo, cow, {}, { storage })), writes: "base" },
  {
    ...command("merge --undo", (rdo, cow, storage, { path }) => merge(rdo, cow, { undo: path("out") }, { storage })),
    writes: "base",
  },
  { ...command("merge -f", (rdo, cow, storage) => merge(rdo, cow, { force: true }, { storage })), writes: "base" },
  { ...command("repair", (_, cow, storage) => repair(cow, {}, { storage })), writes: "cow" },
  { ...command("repair -f", (_, cow, storage) => repair(cow, { force: true }, { storage })), writes: "cow" },
  {
    ...command("repair --drop-lost", (_, cow, storage) => repair(cow, { force: true, dropLost: true }, { storage })),
    writes: "cow",
  },
];

export type Files = Readonly<Record<"base" | "cow", Uint8Array>>;

/** Runs every command on fresh copies. Returns what each said. */
export async function everyCommand(
  bench: Bench,
  files: Files,
  which: "all" | "looking" = "all",
): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  bench.reset(files);
  const reading = which === "all" ? [...LOOKING, ...READING] : LOOKING;
  for (const each of reading) outcomes.set(each.name, await attempt(bench, files, each));
  for (const each of which === "all" ? WRITING : []) {
    const outcome = await attempt(bench, files, each);
    outcomes.set(each.name, outcome);
    if (outcome === "ok" && each.writes === "base") expect(bench.bytes("base").length).toBe(files.base.length);
    if (outcome === "ok" && each.name.startsWith("repair -")) await expectRepaired(bench, each.name);
    if (outcome === "ok") bench.reset(files);
  }
  return outcomes;
}

/** As expect, but a hundred times cheaper: it is called a million times. */
function must(condition: boolean, message: () => string): void {
  if (!condition) throw new Error(message());
}

async function attempt(bench: Bench, files: Files, { name, run, writes }: Command): Promise<Outcome> {
  let outcome: Outcome = "ok";
  try {
    await run(bench);
  } catch (error) {
    if (!(error instanceof CowError)) throw new Error(`${name} threw ${String(error)}`, { cause: error });
    const says = (): string => `${name}: ${error.code}: ${error.file}: ${error.message}`;
    must(CODES.includes(error.code), says);
    must(error.file === bench.path("cow") || error.file === bench.path("base"), says);
    must(/^[^A-Z\n][^\n]*[^.\n]$/.test(error.message), says);
    outcome = error.code;
  }
  const mayChange = outcome === "ok" ? writes : undefined;
  for (const input of ["base", "cow"] as const)
    must(
      input === mayChange || sameBytes(bench.bytes(input), files[input]),
      () => `${name}, ${outcome}: changed ${input}`,
    );
  bench.storage.remove(bench.path("out.cowtool-base"));
  const [first, second, out, ...others] = bench.names();
  must(first === "base" && second === "cow" && others.length === 0, () => `${name}: there are ${bench.names()}`);
  must(out === undefined || (out === "out" && outcome === "ok"), () => `${name}, ${outcome}: leaves ${out} behind`);
  if (out) bench.storage.remove(bench.path(out));
  return outcome;
}

/** A second run has nothing to do: it reports nothing fixable, and changes no byte. */
async function expectRepaired(bench: Bench, name: string): Promise<void> {
  const { storage } = bench;
  const after = bench.bytes("cow");
  const dropLost = name.includes("drop");
  const again = await repair(bench.path("cow"), { force: true, dropLost }, { storage });
  expect([again.changed, again.worst.fixable, again.stateBefore], `${name}, twice`).toEqual([false, 0, "clean"]);
  expect([again.marked.count, again.cleared.count], `${name}, twice`).toEqual([0, 0]);
  expect(sameBytes(bench.bytes("cow"), after), `${name}, twice`).toBe(true);
  const { worst } = await check(bench.path("cow"), {}, { storage });
  expect(worst.fixable, `check after ${name}`).toBe(0);
  if (dropLost) expect(worst.unfixable, `check after ${name}`).toBe(0);
}
