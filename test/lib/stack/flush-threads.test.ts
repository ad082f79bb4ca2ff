/**
 * Proves that a flush which was replied to covers what was written before it, with real threads: four write to one cowfile,
 * flush after each write, and look into the files after each flush (test/support/nbd/flush-thread.ts).
 *
 * COWTOOL_FLUSH_SECONDS says for how long, in rounds of at most two seconds.
 */
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { nodeStorage } from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import type { FlushThreadOrder, FlushThreadResult } from "../../support/nbd/flush-thread.ts";
import { makeCowfile, makeImage } from "../../support/nbd/test-server.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SECONDS = Number(process.env["COWTOOL_FLUSH_SECONDS"] ?? 1.5);
const ROUND_SECONDS = 2;
const THREADS = 4;
const MIB = 1 << 20;
const SIZE = 256 * MIB;

/** Where fdatasync takes no time there are more races in a second; that it was called, and when, is counted. */
const at = scratchDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);

async function playRound(round: number, seconds: number): Promise<readonly FlushThreadResult[]> {
  const cowfile = await makeCowfile(at("base.img"), at(`${round}.cow`));
  const stack = await ServedStack.open(nodeStorage, `${at("base.img")},${cowfile}`, { access: "writable" });
  try {
    const image = stack.passed();
    if (!image) throw new Error("the stack has no descriptors");
    const counts = new SharedArrayBuffer(8);
    return await Promise.all(
      Array.from({ length: THREADS }, async (_, i) => {
        const part = SIZE / THREADS;
        const order: FlushThreadOrder = {
          image,
          counts,
          from: i * part,
          end: (i + 1) * part,
          milliseconds: 1000 * seconds,
          seed: THREADS * round + i,
        };
        const worker = new Worker(new URL("../../support/nbd/flush-thread.ts", import.meta.url), { workerData: order });
        const [result] = (await once(worker, "message")) as [FlushThreadResult];
        return result;
      }),
    );
  } finally {
    stack.close();
    rmSync(cowfile);
  }
}

test(`a replied flush covers each replied write, for ${SECONDS} s`, { timeout: 60_000 + 3000 * SECONDS }, async () => {
  makeImage(at("base.img"), Buffer.alloc(0), SIZE);
  let pairs = 0;
  for (let round = 0; round * ROUND_SECONDS < SECONDS; round++) {
    const results = await playRound(round, Math.min(ROUND_SECONDS, SECONDS - round * ROUND_SECONDS));
    expect(results.map(({ violation }) => violation).filter((violation) => violation !== undefined)).toEqual([]);
    for (const result of results) pairs += result.pairs;
  }
  process.stderr.write(`${pairs} writes with a flush each, in ${SECONDS} s\n`);
  expect(pairs).toBeGreaterThan(10);
});
