/**
 * Proves the arithmetic of meters without time: percentiles against exact ones, and token buckets on a clock of the test.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BUCKETS, bucketOf, cumulative, percentiles } from "../../../src/lib/nbd/meter/histogram.ts";
import { Limit, type Limits, Turn } from "../../../src/lib/nbd/meter/limit.ts";
import { newShared } from "../../../src/lib/nbd/meter/slot.ts";
import { runs } from "../../support/sample.ts";

describe("histograms", () => {
  const latencies = fc.array(
    fc.double({ min: 0, max: 36, noNaN: true }).map((power) => 2 ** power),
    { minLength: 1 },
  );

  test("give percentiles within a sixteenth of the exact ones", () => {
    fc.assert(
      fc.property(latencies, (values) => {
        const counts = new Float64Array(BUCKETS);
        for (const value of values) counts[bucketOf(value)] = (counts[bucketOf(value)] ?? 0) + 1;
        const sorted = [...values].sort((a, b) => a - b);
        const { p50, p99, p999 } = percentiles(counts, values.length);
        for (const [share, got] of [
          [0.5, p50],
          [0.99, p99],
          [0.999, p999],
        ] as const) {
          const exact = (sorted[Math.ceil(sorted.length * share) - 1] ?? 0) / 1000;
          // Within the unit where a bucket is not wider than that.
          expect(Math.abs(got - exact)).toBeLessThanOrEqual(Math.max(exact / 16, 0.25));
        }
      }),
      { numRuns: runs(100) },
    );
  });

  test("have every value in one bucket, ascending, whatever it is", () => {
    let last = -1;
    for (let value = 0; value < 2 ** 42; value = value * 1.01 + 1) {
      const bucket = bucketOf(value);
      expect(bucket - last).toBeLessThanOrEqual(last < 0 ? 1 : Math.max(1, bucket / 4));
      expect(bucket).toBeGreaterThanOrEqual(last);
      last = bucket;
    }
    expect(last).toBe(BUCKETS - 1);
    expect(bucketOf(-5)).toBe(0);
  });

  test("count what is below each bound, and everything", () => {
    fc.assert(
      fc.property(latencies, (values) => {
        const counts = new Float64Array(BUCKETS);
        for (const value of values) counts[bucketOf(value)] = (counts[bucketOf(value)] ?? 0) + 1;
        const { buckets, count } = cumulative(counts, 0);
        expect(count).toBe(values.length);
        for (const { upToSeconds, count: below } of buckets)
          expect(below).toBe(values.filter((value) => value < upToSeconds * 1e9).length);
      }),
      { numRuns: runs(50) },
    );
  });
});

interface Client {
  readonly turn: Turn;
  readonly bytes: number;
  readyMs: number;
  done: number;
  waits: boolean;
}

/** Lets clients ask as fast as they may for some seconds of a clock of its own. @returns how many requests each was let in */
function simulate(
  limits: Limits,
  sizes: readonly number[],
  seconds: number,
  change?: { atMs: number; limits: Limits },
): number[] {
  let nowMs = 5;
  const limit = new Limit(newShared(), () => BigInt(Math.round(nowMs * 1e6)));
  limit.set(limits);
  const clients: Client[] = sizes.map((bytes) => ({ turn: new Turn(limit), bytes, readyMs: 0, done: 0, waits: false }));
  let hasChanged = false;
  while (nowMs < seconds * 1000) {
    for (const client of clients) {
      // A burst of one client ends before the next one's turn.
      while (client.readyMs <= nowMs) {
        const waitMs = client.turn.ask(client.bytes, client.waits);
        client.waits = waitMs > 0;
        if (waitMs > 0) client.readyMs = nowMs + waitMs;
        else client.done++;
      }
    }
    const nextMs = Math.min(...clients.map(({ readyMs }) => readyMs));
    if (change && !hasChanged && nextMs >= change.atMs) {
      hasChanged = true;
      nowMs = change.atMs;
      limit.set(change.limits);
      for (const client of clients) client.readyMs = nowMs;
    } else nowMs = nextMs;
  }
  return clients.map(({ done }) => done);
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

describe("a limit", () => {
  test.each([1, 7, 100, 5000])("of %i requests a second is kept, and used up", (iops) => {
    for (const clients of [1, 3, 40]) {
      const done = sum(simulate({ iops }, Array(clients).fill(4096), 10));
      expect(done).toBeLessThanOrEqual(iops * 10.1 + 1);
      expect(done).toBeGreaterThanOrEqual(iops * 9.9 - clients);
    }
  });

  test("of bytes is kept, by small and by large requests", () => {
    for (const bytes of [512, 4096, 65_536, 1 << 20, 32 << 20]) {
      const bytesPerSecond = 10 << 20;
      const done = sum(simulate({ bytesPerSecond }, [bytes, bytes], 20)) * bytes;
      // A request may be let in before it is paid for.
      expect(done).toBeLessThanOrEqual(bytesPerSecond * 20.1 + 2 * bytes);
      expect(done).toBeGreaterThanOrEqual(bytesPerSecond * 19.9 - 2 * bytes);
    }
  });

  test("is the stricter of the two", () => {
    expect(sum(simulate({ iops: 100, bytesPerSecond: 1 << 20 }, [65_536], 10))).toBeLessThanOrEqual(162);
    expect(sum(simulate({ iops: 10, bytesPerSecond: 1 << 20 }, [4096], 10))).toBeLessThanOrEqual(102);
  });

  test("is fair to each of many connections", () => {
    const done = simulate({ iops: 1000 }, Array(50).fill(4096), 10);
    // All but the burst at the start, which the first one takes.
    expect(Math.max(...done.slice(1)) - Math.min(...done)).toBeLessThanOrEqual(1);
    expect(done[0]).toBeLessThanOrEqual((done[1] ?? 0) + 101);
  });

  test("lets small requests take turns with parts of large ones", () => {
    const [large, small] = simulate({ bytesPerSecond: 10 << 20 }, [8 << 20, 65_536], 60);
    expect((small ?? 0) * 65_536).toBeGreaterThan((large ?? 0) * (8 << 20) * 0.9);
  });

  test("that changes holds from then on, for those that wait, too", () => {
    const change = { atMs: 10_000, limits: { iops: 1000 } };
    const done = sum(simulate({ bytesPerSecond: 1 }, [65_536, 65_536], 20, change));
    expect(done).toBeGreaterThanOrEqual(9900);
    expect(done).toBeLessThanOrEqual(10_104);
    expect(sum(simulate({ iops: 1000 }, [0], 20, { atMs: 10_000, limits: { iops: 1 } }))).toBeLessThanOrEqual(10_112);
  });

  test("is off unless it is set", () => {
    const limit = new Limit(newShared());
    expect([limit.isOn, limit.limits]).toEqual([false, { iops: undefined, bytesPerSecond: undefined }]);
    limit.set({ iops: 5 });
    expect([limit.isOn, limit.limits]).toEqual([true, { iops: 5, bytesPerSecond: undefined }]);
    limit.set({});
    expect(limit.isOn).toBe(false);
  });
});
