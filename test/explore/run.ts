/**
 * Owns one process of an exploration: options in, lines of JSON out, each the sums up to then. See scripts/explore.mjs.
 */
import { parseArgs } from "node:util";
import type { Explored } from "./explore.ts";
import { plant } from "./mutations.ts";

const REPORT_EVERY_MS = 5000;

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    stride: { type: "string", default: "1" },
    lives: { type: "string" },
    states: { type: "string" },
    seconds: { type: "string" },
    mutation: { type: "string" },
    chains: { type: "boolean", default: false },
    gate: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
    "until-failure": { type: "boolean", default: false },
  },
});
if (values.mutation !== undefined) plant(values.mutation);

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

if (values.gate) {
  const { exploreGate } = await import("./chain/gate.ts");
  print(JSON.stringify(exploreGate()));
  process.exit();
}

const { explore } = await import("./explore.ts");

let reported = performance.now();
function report(explored: Explored): void {
  if (performance.now() - reported < REPORT_EVERY_MS) return;
  reported = performance.now();
  print(JSON.stringify(explored));
}

const limit = (text: string | undefined): number => (text === undefined ? Number.POSITIVE_INFINITY : Number(text));
const explored = await explore({
  seed: Number(values.seed),
  stride: Number(values.stride),
  lives: limit(values.lives),
  chains: values.chains,
  states: limit(values.states),
  milliseconds: limit(values.seconds) * 1000,
  untilFailure: values["until-failure"],
  onProgress: report,
  ...(values.trace ? { onTrace: print } : {}),
});
print(JSON.stringify(explored));
