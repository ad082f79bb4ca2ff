/**
 * Proves when a thread gives memory back: after many connections, once it is calm, or after too many of them.
 */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MemoryTidier } from "../../../src/lib/nbd/threads/tidy-memory.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

test("many connections, or exports, leave garbage, which is collected once it is calm, and not while clients come", () => {
  let collections = 0;
  const tidier = new MemoryTidier(() => collections++);
  const end = (count: number): void => {
    for (let i = 0; i < count; i++) tidier.count();
  };
  end(20);
  vi.advanceTimersByTime(10_000);
  expect(collections).toBe(0);
  for (let i = 0; i < 10; i++) {
    end(20);
    vi.advanceTimersByTime(900);
  }
  expect(collections).toBe(0);
  vi.advanceTimersByTime(200);
  expect(collections).toBe(1);
  tidier.count(4096);
  expect(collections).toBe(2);
  end(100);
  tidier.end();
  vi.advanceTimersByTime(10_000);
  expect(collections).toBe(2);
});

test("the engine's collector is found", () => {
  vi.useRealTimers();
  const tidier = new MemoryTidier();
  let garbage: WeakRef<object> | undefined;
  (() => {
    garbage = new WeakRef({ a: new Array(100).fill(1) });
  })();
  return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    tidier.count(4096);
    expect(garbage?.deref()).toBeUndefined();
  });
});
