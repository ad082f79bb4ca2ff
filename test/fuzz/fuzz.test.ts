/**
 * Proves that spoiled input of every kind gets a result or a refusal: first the inputs that are kept, which reach as much of
 * the code as was ever reached, then some seconds of spoilings of these from a seed of the day. `npm run fuzz` goes on for
 * longer, and is guided by what each input reaches.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { random } from "../support/random.ts";
import { isExhaustive } from "../support/sample.ts";
import { fuzz, tryInput } from "./engine.ts";
import { describeFailure } from "./failure.ts";
import { encodeInput, kept } from "./kept.ts";
import { TARGETS } from "./targets.ts";

const SECONDS = isExhaustive ? 120 : 6;
const RUN = fileURLToPath(new URL("run.ts", import.meta.url));
const seed = Number(process.env["COWTOOL_SEED"] ?? Math.floor(Date.now() / 1000) % 2 ** 31);
const targets = Object.entries(TARGETS);

describe(`seed ${seed} (COWTOOL_SEED repeats it)`, () => {
  test.each(targets)("%s: what is kept, and spoilings of it", async (name, target) => {
    const corpus = [...(await target.seeds()), ...kept(name)];
    expect(kept(name).length).toBeGreaterThan(2);
    for (const input of corpus) {
      const failure = await tryInput(name, target, input);
      expect(failure && describeFailure(failure), encodeInput(input)).toBeUndefined();
    }
    const ms = (SECONDS * 1000) / targets.length;
    const { cases, failures } = await fuzz({ name, target, next: random(seed), corpus, ms, casesAtLeast: 6 });
    expect(failures.map((failure) => `${describeFailure(failure)}\n${encodeInput(failure.input)}`)).toEqual([]);
    expect(cases).toBeGreaterThan(5);
  });
});

test("guided by coverage, it finds its way through a maze", async () => {
  const run = promisify(execFile)(process.execPath, [RUN, "--target", "maze", "--minutes", "1", "--seed", "3"]);
  const { stdout, code } = (await run.catch(
    (error: { stdout: string; code: number }) => error as typeof error & { code: number },
  )) as { stdout: string; code?: number };
  expect([code, stdout]).toEqual([1, expect.stringContaining("the end of the maze")]);
});
