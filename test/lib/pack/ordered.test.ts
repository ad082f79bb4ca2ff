/**
 * Proves the work that packing does several at a time: results come in order, no more is begun than there is room for,
 * and a failure is thrown once, in its place, and nowhere else.
 */
import { describe, expect, test } from "vitest";
import { mapOrdered } from "../../../src/lib/bytes/ordered.ts";
import { pause } from "../../support/command/real-process.ts";
import { unheardDuring } from "../../support/unheard.ts";

interface Job {
  readonly ms: number;
  readonly fails?: true;
}

async function work({ ms, fails }: Job): Promise<number> {
  await pause(ms);
  if (fails) throw new Error(`failed after ${ms} ms`);
  return ms;
}

async function collect(jobs: Iterable<Job>, concurrency: number): Promise<number[]> {
  const results: number[] = [];
  for await (const result of mapOrdered(jobs, concurrency, work)) results.push(result);
  return results;
}

describe("work in order, several at a time", () => {
  test.each([0, 1, 2, 7, 100])("%i at once: the results come in the order of the inputs", async (concurrency) => {
    const times = [9, 1, 5, 0, 7, 3, 2];
    const jobs = times.map((ms) => ({ ms }));
    expect(await collect(jobs, concurrency)).toEqual(times);
    expect(await collect([], concurrency)).toEqual([]);
  });

  test("takes no more inputs than it may have under way, and one to wait for", async () => {
    let [running, most, taken] = [0, 0, 0];
    function* inputs(): Generator<number> {
      for (; taken < 20; taken++) yield taken;
    }
    const results = mapOrdered(inputs(), 3, async (input) => {
      most = Math.max(most, ++running);
      await pause(1);
      running--;
      return input;
    });
    for await (const result of results) expect(taken - result).toBeLessThanOrEqual(4);
    expect([most <= 4, taken]).toEqual([true, 20]);
  });

  test("throws the first failure in the order of the inputs, whichever comes first in time", async () => {
    const jobs: Job[] = [{ ms: 1 }, { ms: 20, fails: true }, { ms: 2, fails: true }, { ms: 3 }];
    const seen: number[] = [];
    const unheard = await unheardDuring(async () => {
      const run = async (): Promise<void> => {
        for await (const ms of mapOrdered(jobs, 3, work)) seen.push(ms);
      };
      await expect(run()).rejects.toThrow("failed after 20 ms");
    });
    expect(seen).toEqual([1]);
    expect(unheard).toEqual([]);
  });

  test("a failure behind slow work is nobody else's", async () => {
    const unheard = await unheardDuring(async () => {
      await expect(collect([{ ms: 30 }, { ms: 1, fails: true }, { ms: 1 }], 2)).rejects.toThrow("failed after 1 ms");
    });
    expect(unheard).toEqual([]);
  });

  test("whoever stops early waits for what is under way, and hears no more of it", async () => {
    let done = 0;
    const unheard = await unheardDuring(async () => {
      const results = mapOrdered([{ ms: 1 }, { ms: 20 }, { ms: 5, fails: true as const }], 3, async (job: Job) => {
        const result = await work(job);
        done++;
        return result;
      });
      for await (const _ of results) break;
      expect(done).toBe(2);
    });
    expect(unheard).toEqual([]);
  });

  test("a failing input ends it, after the work under way", async () => {
    let done = 0;
    function* inputs(): Generator<Job> {
      yield { ms: 10 };
      throw new Error("no more input");
    }
    const results = mapOrdered(inputs(), 4, async (job) => {
      await work(job);
      done++;
    });
    await expect(results.next()).rejects.toThrow("no more input");
    expect(done).toBe(1);
  });
});
