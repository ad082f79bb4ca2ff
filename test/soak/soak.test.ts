/**
 * A short soak: exports come and go under clients that verify, and the server is killed. `npm run soak` is the long one.
 */
import { expect, test } from "vitest";
import { soak } from "./soak.ts";

test("exports that come and go under their clients, and a server that is killed, lose nothing that was answered", async () => {
  const seed = Number(process.env["COWTOOL_SEED"] ?? Date.now() % 1e9);
  const options = { exports: 8, clients: 4, seconds: 5, killSeconds: 2 };
  const soaked = await soak({ ...options, seed, say: () => undefined });
  expect(soaked.failures, `seed ${seed}`).toEqual([]);
  expect([soaked.answered > 100, soaked.changes > 0, soaked.kills > 0]).toEqual([true, true, true]);
}, 120_000);
