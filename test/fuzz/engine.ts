/**
 * Owns the loop of fuzzing: inputs that reached something new are kept, spoiled again, and cut down to the fewest that
 * reach all of it. Knows neither targets nor files.
 */
import type { Coverage, Reached } from "./coverage.ts";
import { mutate, pick, type Random } from "./mutate.ts";

export interface Target {
  /** Inputs by the book. */
  readonly seeds: () => readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /** Throws if anything went wrong; a refusal is none. */
  readonly run: (input: Uint8Array) => void | Promise<void>;
  /** Words that mean something to it. */
  readonly words?: readonly (string | Uint8Array)[];
}

export interface Failure {
  readonly target: string;
  readonly input: Uint8Array;
  readonly error: unknown;
}

/** An input that takes longer than this is a hang, or as good as one. */
const SLOW_MS = 5000;
/** Asking V8 for coverage takes some 2 ms: it is done after inputs that together took longer, and who did it is searched for. */
const BATCH_MS = 60;
const BATCH_AT_MOST = 2000;
const INPUT_BYTES_AT_MOST = 1 << 16;
/** Of different sorts. */
const FAILURES_AT_MOST = 10;

export interface Fuzzed {
  readonly cases: number;
  readonly ms: number;
  readonly failures: readonly Failure[];
  readonly corpus: readonly Uint8Array[];
}

export interface FuzzOptions {
  readonly name: string;
  readonly target: Target;
  readonly next: Random;
  readonly corpus: readonly Uint8Array[];
  /** It goes on until there were that many, on however slow a machine. */
  readonly casesAtLeast?: number;
  readonly ms: number;
  readonly failuresAtMost?: number;
  /** Without, nothing is kept. */
  readonly guide?: { readonly coverage: Coverage; readonly reached: Reached } | undefined;
}

export async function tryInput(name: string, { run }: Target, input: Uint8Array): Promise<Failure | undefined> {
  const startMs = performance.now();
  try {
    // A copy: whatever a target does to its input must not be in the corpus.
    await run(Uint8Array.from(input));
  } catch (error) {
    return { target: name, input, error };
  }
  const ms = performance.now() - startMs;
  return ms > SLOW_MS ? { target: name, input, error: new Error(`took ${ms.toFixed(0)} ms`) } : undefined;
}

function spoil(corpus: readonly Uint8Array[], { words = [] }: Target, next: Random): Uint8Array {
  // What was found last has been tried least.
  const late = next() < 0.3 ? Math.floor(corpus.length * 0.8) : 0;
  let input = Buffer.from(corpus[late + Math.floor(next() * (corpus.length - late))] ?? []);
  if (next() < 0.15) {
    const other = pick(next, corpus);
    const [at, from] = [Math.floor(next() * input.length), Math.floor(next() * other.length)];
    input = Buffer.concat([input.subarray(0, at), other.subarray(from)]);
  }
  if (words.length > 0 && next() < 0.4) {
    const word = Buffer.from(pick(next, words));
    const at = Math.floor(next() * input.length);
    const skipped = next() < 0.5 ? word.length : Math.floor(next() * 12);
    input = Buffer.concat([input.subarray(0, at), word, input.subarray(at + skipped)]);
    if (next() < 0.5) return input.subarray(0, INPUT_BYTES_AT_MOST);
  }
  return mutate(input, next).subarray(0, INPUT_BYTES_AT_MOST);
}

export async function fuzz(options: FuzzOptions): Promise<Fuzzed> {
  const { name, target, next, guide } = options;
  const corpus = [...options.corpus];
  const failures: Failure[] = [];
  const told = new Set<string>();
  const startMs = performance.now();
  let cases = 0;
  const attempt = async (input: Uint8Array): Promise<void> => {
    cases++;
    const failure = await tryInput(name, target, input);
    const sort = failure && String(failure.error).replaceAll(/\d+/g, "0").slice(0, 80);
    if (!failure || !sort || told.has(sort)) return;
    told.add(sort);
    failures.push(failure);
  };
  /** Those of the inputs that reach something new go into the corpus. */
  const search = async (inputs: readonly Uint8Array[]): Promise<void> => {
    for (const input of inputs) await tryInput(name, target, input);
    const seen = guide?.coverage.take() ?? [];
    const [first] = inputs;
    if (!first || !guide?.reached.isNew(seen)) return;
    if (inputs.length === 1) {
      if (guide.reached.add(seen)) corpus.push(first);
      return;
    }
    const middle = Math.floor(inputs.length / 2);
    await search(inputs.slice(0, middle));
    await search(inputs.slice(middle));
  };
  if (guide) for (const input of corpus) await attempt(input);
  guide?.reached.add(guide.coverage.take());
  const isOver = (): boolean => performance.now() - startMs >= options.ms && cases >= (options.casesAtLeast ?? 0);
  while (!isOver() && failures.length < (options.failuresAtMost ?? FAILURES_AT_MOST)) {
    const inputs: Uint8Array[] = [];
    const batchMs = performance.now();
    while (performance.now() - batchMs < BATCH_MS && inputs.length < BATCH_AT_MOST) {
      const input = spoil(corpus, target, next);
      inputs.push(input);
      await attempt(input);
    }
    if (guide?.reached.isNew(guide.coverage.take())) await search(inputs);
  }
  return { cases, ms: performance.now() - startMs, failures, corpus };
}

/** The fewest and shortest inputs that reach what all of them do. */
export async function minimise(
  name: string,
  target: Target,
  inputs: readonly Uint8Array[],
  guide: { readonly coverage: Coverage; readonly reached: Reached },
): Promise<Uint8Array[]> {
  const kept: Uint8Array[] = [];
  guide.coverage.take();
  for (const input of [...inputs].sort((a, b) => a.length - b.length)) {
    await tryInput(name, target, input);
    if (guide.reached.add(guide.coverage.take())) kept.push(input);
  }
  return kept;
}
