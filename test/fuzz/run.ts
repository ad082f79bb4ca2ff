/**
 * Owns `npm run fuzz`: coverage-guided fuzzing of each target in turn. A failure is told with its input in base64 (deflated),
 * which is all that it takes to see it again.
 *
 *   node test/fuzz/run.ts [--target NAME] [--minutes M] [--seed N]   M minutes (1) for each target
 *     --keep            put the inputs that reach most with the least into test/corpus/fuzz, and failing ones with them
 *     --input BASE64    try that one input and nothing else
 *     --unguided        without coverage, faster and blinder
 */
import { parseArgs } from "node:util";
import { random } from "../support/random.ts";
import { Coverage, Reached } from "./coverage.ts";
import type { Failure, Target } from "./engine.ts";

const { values } = parseArgs({
  options: {
    target: { type: "string" },
    minutes: { type: "string" },
    seed: { type: "string" },
    input: { type: "string" },
    keep: { type: "boolean", default: false },
    unguided: { type: "boolean", default: false },
  },
});

// Before anything is imported that it is to see.
const coverage = values.unguided ? undefined : new Coverage((url) => /\/src\/lib\/|\/fuzz\/maze/.test(url));
const { fuzz, minimise, tryInput } = await import("./engine.ts");
const { encodeInput, keep, kept } = await import("./kept.ts");
const { describeFailure } = await import("./failure.ts");
const { TARGETS } = await import("./targets.ts");
const { maze } = await import("./maze.ts");
const { inflateRawSync } = await import("node:zlib");

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function tell(failure: Failure): void {
  say(describeFailure(failure));
  say(`  again: npm run fuzz -- --target ${failure.target} --input ${encodeInput(failure.input)}`);
}

async function fuzzOne(name: string, target: Target, seed: number, ms: number): Promise<boolean> {
  const corpus = [...(await target.seeds()), ...kept(name)];
  const guide = coverage && { coverage, reached: new Reached() };
  // What was reached by importing it does not count.
  coverage?.take();
  // What the seeds and the kept ones reach, to see what comes on top.
  for (const input of corpus) await tryInput(name, target, input);
  guide?.reached.add(guide.coverage.take());
  const first = guide?.reached.characters ?? 0;
  const done = await fuzz({
    name,
    target,
    next: random(seed),
    corpus,
    ms,
    guide,
    ...(name === "maze" ? { failuresAtMost: 1 } : {}),
  });
  const rate = ((1000 * done.cases) / done.ms).toFixed(0);
  const growth = guide ? `, reached ${first} → ${guide.reached.characters} characters of source` : "";
  say(
    `${name}: ${done.cases} inputs in ${(done.ms / 1000).toFixed(0)} s (${rate} a second), seed ${seed}, corpus ${corpus.length} → ${done.corpus.length}${growth}, ${done.failures.length} failures`,
  );
  for (const failure of done.failures) tell(failure);
  if (values.keep && coverage) {
    const few = await minimise(name, target, done.corpus, { coverage, reached: new Reached() });
    keep(name, [...few, ...done.failures.map(({ input }) => input)]);
    say(`${name}: ${few.length} kept`);
  }
  return done.failures.length === 0;
}

const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const all: Readonly<Record<string, Target>> = values.target === "maze" ? { maze } : TARGETS;
const wanted = Object.entries(all).filter(([name]) => values.target === undefined || values.target === name);
if (wanted.length === 0) {
  say(`no such target; there are: ${Object.keys(TARGETS).join(", ")}`);
  process.exitCode = 16;
}
for (const [name, target] of wanted) {
  if (values.input !== undefined) {
    const failure = await tryInput(name, target, inflateRawSync(Buffer.from(values.input, "base64")));
    say(failure ? describeFailure(failure) : `${name}: all is well`);
    if (failure) process.exitCode = 1;
  } else if (!(await fuzzOne(name, target, seed, Number(values.minutes ?? 1) * 60_000))) process.exitCode = 1;
}
