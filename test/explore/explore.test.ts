/**
 * Proves that a cowfile which is being written keeps what was promised of it in every state that a kill or a power cut may
 * leave it in, as far as some thousand states from a random seed tell. `npm run explore` goes on for as long as one likes.
 */
import { randomInt } from "node:crypto";
import { describe, expect, it } from "vitest";
import { isExhaustive } from "../support/sample.ts";
import { exploreGate } from "./chain/gate.ts";
import { explore } from "./explore.ts";

const STATES = isExhaustive ? 100_000 : 3000;
const CHAIN_STATES = isExhaustive ? 100_000 : 600;
const seed = Number(process.env["COWTOOL_SEED"] ?? randomInt(1_000_000_000));

describe(`lives from seed ${seed} (COWTOOL_SEED repeats them)`, () => {
  it(`keep every promise in ${STATES} states`, { timeout: 600_000 }, async () => {
    process.stdout.write(`exploring from seed ${seed}\n`);
    const { failures, states } = await explore({ seed, states: STATES });
    expect(failures).toEqual([]);
    expect(states).toBeGreaterThanOrEqual(STATES);
  });

  it(`of disks with checkpoints keep every promise in ${CHAIN_STATES} states`, { timeout: 600_000 }, async () => {
    const { failures, states } = await explore({ seed, states: CHAIN_STATES, chains: true });
    expect(failures).toEqual([]);
    expect(states).toBeGreaterThanOrEqual(CHAIN_STATES);
  });

  it.each([false, true])("are the same each time, change by change (of chains: %s)", async (chains) => {
    const traces: string[][] = [[], []];
    for (const trace of traces) await explore({ seed, lives: 1, chains, onTrace: (line) => trace.push(line) });
    expect(traces[0]?.length).toBeGreaterThan(20);
    expect(traces[1]).toEqual(traces[0]);
  });
});

it("no order of steps at a stack's gate lets a batch change old parts, or use a file that is closed", () => {
  expect(exploreGate()).toMatchObject({ failures: [], states: expect.any(Number) });
});
