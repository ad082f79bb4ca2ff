/**
 * Proves that the explorer finds what it is there for: each of the bugs in mutations.ts, planted into a process of its own.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { Explored } from "./explore.ts";
import { MUTATIONS } from "./mutations.ts";

const RUN = fileURLToPath(new URL("run.ts", import.meta.url));
/** Most are found within a thousand states, none took more than thirty thousand. */
const STATES_AT_MOST = 200_000;

describe("a planted bug is found:", () => {
  it.each(MUTATIONS)("$name", { timeout: 600_000 }, async ({ name, seed = 1 }) => {
    const options = ["--seed", String(seed), "--states", String(STATES_AT_MOST), "--until-failure", "--mutation", name];
    const { stdout } = await promisify(execFile)(process.execPath, [RUN, ...options]);
    const explored = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Explored;
    expect(explored.failures).toHaveLength(1);
  });
});
