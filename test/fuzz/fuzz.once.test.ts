/**
 * Proves that spoiled input of every kind gets a result or a refusal: first the cases that failed once, then some seconds
 * from a seed of the day. `npm run fuzz -- --minutes M` goes on for longer.
 */
import { expect, test } from "vitest";
import { corpus, describeFailure, fuzz, tryOne } from "./run.ts";

const SECONDS = 12;

test("what failed once does so no more", async () => {
  for (const { target, seed } of corpus()) expect(await tryOne(target, seed)).toBeUndefined();
});

test("heads, bitmaps, packs, journals, handshakes, requests", async () => {
  const seed = Math.floor(Date.now() / 1000) % 2 ** 31;
  const { cases, failures } = await fuzz(seed, SECONDS * 1000);
  expect(failures.map(describeFailure)).toEqual([]);
  expect(cases).toBeGreaterThan(100);
});
