/**
 * Owns one guarantee: tests that start the real program start what src says now, also when vitest is run by hand.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Where src doesn't compile, the tests that need no dist may still run; `npm test` refuses before it comes to this. */
export function setup(): void {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const stdio = ["ignore", 2, 2] as const;
  const done = spawnSync(process.execPath, ["scripts/build.mjs", "--if-stale"], { cwd: root, stdio: [...stdio] });
  if (done.status !== 0)
    process.stderr.write("WARNING: src does not compile, dist is OLD: program tests prove nothing\n");
}
