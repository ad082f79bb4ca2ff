/**
 * Proves that what a server does now and then comes to every export, to few of many at a time, and asks a file system once.
 */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MemoryStorage, type Notice } from "../../../src/lib/index.ts";
import type { Exports } from "../../../src/lib/nbd/server/exports.ts";
import { checkpointNowAndThen, watchFiles, watchSpace } from "../../../src/lib/nbd/server/watch.ts";

const COUNT = 200;

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] }));
afterEach(() => void vi.useRealTimers());

/** Exports that count what is done to them. */
function counted() {
  const looks = new Array<number>(COUNT).fill(0);
  const checkpoints = new Array<number>(COUNT).fill(0);
  const count = (list: number[], i: number): void => {
    list[i] = (list[i] ?? 0) + 1;
  };
  const open = looks.map((_, i) => ({
    stack: {
      writtenPath: `${i}.cow`,
      fileSystem: i < 2 ? `${i}` : "2",
      guard: {
        look: () => {
          count(looks, i);
          return [];
        },
      },
      checkpoint: () => count(checkpoints, i),
    },
  }));
  const exports = { open, shared: { lowers: { look: () => [] } } } as unknown as Exports;
  return { exports, looks, checkpoints };
}

const sum = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);

test("files are looked at in turn", () => {
  const { exports, looks } = counted();
  const watch = watchFiles(exports, {});
  vi.advanceTimersByTime(500);
  expect(sum(looks)).toBeLessThan(COUNT / 2);
  vi.advanceTimersByTime(3 * 500);
  expect(looks).toEqual(new Array(COUNT).fill(1));
  clearInterval(watch);
});

test("each export has one checkpoint in five seconds, few at a time", () => {
  const { exports, checkpoints } = counted();
  const watch = checkpointNowAndThen(exports);
  vi.advanceTimersByTime(250);
  expect(sum(checkpoints)).toBe(COUNT / 20);
  vi.advanceTimersByTime(4750);
  expect(checkpoints).toEqual(new Array(COUNT).fill(1));
  clearInterval(watch);
});

test("a file system is asked for its space once for all exports on it", () => {
  const asked: string[] = [];
  const storage = Object.assign(new MemoryStorage(), {
    freeBytes: (path: string) => {
      asked.push(path);
      return 0;
    },
  });
  const warned: (string | undefined)[] = [];
  const onNotice = ({ file }: Notice): void => void warned.push(file);
  clearInterval(watchSpace({}, counted().exports, { storage, onNotice }));
  expect([asked, warned.length]).toEqual([["0.cow", "1.cow", "2.cow"], COUNT]);
});
