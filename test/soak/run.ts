/**
 * The soak as a program: `npm run soak -- [--exports N] [--clients N] [--minutes M] [--kill SECONDS] [--seed N]`.
 */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { soak } from "./soak.ts";

const { values } = parseArgs({
  options: {
    exports: { type: "string", default: "200" },
    clients: { type: "string", default: "50" },
    minutes: { type: "string", default: "10" },
    kill: { type: "string", default: "0" },
    seed: { type: "string", default: String(randomInt(1_000_000_000)) },
  },
});
const say = (line: string): void => void process.stdout.write(`${line}\n`);
say(`seed ${values.seed}`);
const soaked = await soak({
  seed: Number(values.seed),
  exports: Number(values.exports),
  clients: Number(values.clients),
  seconds: Number(values.minutes) * 60,
  killSeconds: Number(values.kill),
  say,
});
for (const failure of soaked.failures.slice(0, 50)) say(`FAILED: ${failure}`);
const { answered, changes, kills, failures, earlyMib, lateMib } = soaked;
say(`${answered} requests answered, ${changes} changes, ${kills} kills: ${failures.length} failures`);
say(`memory of the server: ${earlyMib.toFixed(0)} MiB early, ${lateMib.toFixed(0)} MiB at the end`);
process.exitCode = failures.length > 0 ? 1 : 0;
