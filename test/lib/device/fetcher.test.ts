/**
 * Proves that what is fetched side by side is in the page cache when it is said to have come, that each is told of once,
 * and that what can't be read comes, too.
 */
import { closeSync, fdatasyncSync, openSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Fetcher } from "../../../src/lib/device/sys/fetcher.ts";
import { libc } from "../../../src/lib/device/sys/libc.ts";
import { tryRead } from "../../../src/lib/device/sys/nowait.ts";
import { makeImage } from "../../support/nbd/test-server.ts";
import { noise, random } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SIZE = 8 << 20;
const POSIX_FADV_DONTNEED = 4;
const at = scratchDirectory();
const hasRings = Fetcher.open();
hasRings?.close();

describe.skipIf(!hasRings)("fetching side by side", () => {
  test("brings what was asked for into the page cache, and tells of each once", () => {
    const image = Buffer.from(noise(SIZE, 4));
    makeImage(at("image"), image);
    const fd = openSync(at("image"), "r+");
    fdatasyncSync(fd);
    const fetcher = Fetcher.open();
    if (!fetcher) throw new Error("there was one a moment ago");
    const next = random(8);
    const read = Buffer.alloc(16_384);
    for (let round = 0; round < 30; round++) {
      libc()?.posixFadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
      const asked = new Map<number, readonly [number, number]>();
      for (let tag = round * 100; !fetcher.isFull; tag++) {
        const length = 1 + Math.floor(next() * 16_384);
        const offset = Math.floor(next() * (SIZE - length));
        fetcher.add(fd, offset, length, tag);
        asked.set(tag, [offset, length]);
        if (next() < 0.1) fetcher.begin();
      }
      expect(asked.size).toBe(64);
      fetcher.begin();
      while (asked.size > 0) {
        fetcher.wait((tag) => {
          const [offset, length] = asked.get(tag) ?? [-1, 0];
          expect(tryRead(fd, read.subarray(0, length), offset)).toBe(length);
          expect(read.subarray(0, length).equals(image.subarray(offset, offset + length))).toBe(true);
          asked.delete(tag);
        });
      }
      expect(fetcher.underWay).toBe(0);
    }
    fetcher.close();
    closeSync(fd);
  });

  test("tells of what can't be read as well, and leaves no descriptor behind", () => {
    const before = readdirSync("/proc/self/fd").length;
    const fetcher = Fetcher.open();
    const fd = openSync(at("none"), "w+");
    const come: number[] = [];
    fetcher?.add(9999, 0, 4096, 1);
    fetcher?.add(fd, 1 << 30, 4096, 2);
    fetcher?.begin();
    while ((fetcher?.underWay ?? 0) > 0) fetcher?.wait((tag) => come.push(tag));
    expect(come.sort()).toEqual([1, 2]);
    fetcher?.add(fd, 0, 4096, 3);
    closeSync(fd);
    fetcher?.close();
    expect(readFileSync(at("none"))).toHaveLength(0);
    expect(readdirSync("/proc/self/fd")).toHaveLength(before);
  });
});
