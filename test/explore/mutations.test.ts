/**
 * Proves that the explorer finds what it is there for: bugs of mutations.ts, each planted into a process of its own. One of
 * each of some files that they are planted into, or all of them (support/sample.ts).
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, test } from "vitest";
import { HOW, isExhaustive, sampleOf } from "../support/sample.ts";
import type { Explored } from "./explore.ts";
import { MUTATIONS, type Mutation } from "./mutations.ts";

const RUN = fileURLToPath(new URL("run.ts", import.meta.url));
const LIBRARY = new URL("../../src/lib/", import.meta.url);
/** Most are found within a thousand states, none took more than thirty thousand. */
const STATES_AT_MOST = 200_000;

/** A planted bug takes a process of its own, which explores for some seconds. */
const FILES = 8;

const common = MUTATIONS.filter(({ isRare }) => !isRare);
const byFile = Object.values(Object.groupBy(common, ({ changes }) => changes[0]?.file ?? ""));
const some: readonly Mutation[] = isExhaustive
  ? MUTATIONS
  : sampleOf(byFile, FILES).flatMap((group = [], index) => sampleOf(group, 1, index));

test.each(MUTATIONS)("there is something to change for: $name", ({ changes }) => {
  for (const { file, from } of changes) expect(readFileSync(new URL(file, LIBRARY), "utf8")).toContain(from);
});

describe(`a planted bug is found (${HOW}):`, () => {
  it.each(some)("$name", { timeout: 600_000 }, async ({ name, seed = 1, explores }) => {
    const kind = explores === undefined ? [] : [`--${explores}`];
    const options = [
      ...kind,
      "--seed",
      String(seed),
      "--states",
      String(STATES_AT_MOST),
      "--until-failure",
      "--mutation",
      name,
    ];
    const { stdout } = await promisify(execFile)(process.execPath, [RUN, ...options]);
    const explored = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Explored;
    expect(explored.failures).toHaveLength(1);
  });
});
