/**
 * Proves what the page computes: rates from counters, the forecast of space, and how figures and names are written.
 */
import { expect, test } from "vitest";
import type { PageExport } from "../../../src/lib/control/page/page-document.ts";
import { forecast } from "../../../src/page/forecast.ts";
import { count, duration, latency, segment, shownName, size } from "../../../src/page/format.ts";
import { History, spaceLeft } from "../../../src/page/history.ts";

const GIB = 2 ** 30;

function exportAt(fields: Partial<PageExport>): PageExport {
  const counters = { reads: 0, writes: 0, flushes: 0, bytes_read: 0, bytes_written: 0, errors: 0, unflushed_bytes: 0 };
  const space = { allocated_bytes: null, quota_bytes: null, free_bytes: null };
  const rest = {
    state: "open",
    access: "writable",
    virtual_size: GIB,
    layers: 1,
    connections: 0,
    error: null,
    can_checkpoint: false,
  };
  return { name: "x", ...counters, ...space, ...rest, ...fields };
}

test("space is forecast by a line through what was left, and only where it becomes less", () => {
  const line = (bytesPerSecond: number, seconds: number): ReturnType<typeof forecast> =>
    forecast(
      Array.from({ length: seconds }, (_, i) => ({
        timeMs: i * 1000,
        bytes: 10 * GIB + i * bytesPerSecond + (i % 2 === 0 ? 4096 : -4096),
      })),
    );
  expect(line(-1e6, 5)).toBeUndefined();
  expect(line(0, 60)?.fullInMs).toBeUndefined();
  expect(line(1e6, 60)?.fullInMs).toBeUndefined();
  const falling = line(-1e6, 60);
  expect(falling?.bytesPerSecond).toBeCloseTo(-1e6, -3);
  expect((falling?.fullInMs ?? 0) / 1000).toBeCloseTo((10 * GIB - 59e6) / 1e6, -2);
});

test("space left is what the quota leaves, if that is less", () => {
  expect(spaceLeft(exportAt({}))).toBeUndefined();
  expect(spaceLeft(exportAt({ free_bytes: 5 }))).toBe(5);
  expect(spaceLeft(exportAt({ free_bytes: 500, quota_bytes: 100, allocated_bytes: 60 }))).toBe(40);
  expect(spaceLeft(exportAt({ free_bytes: 500, quota_bytes: 100, allocated_bytes: 160 }))).toBe(0);
});

test("rates are differences of counters, from zero for an export that was added anew, and are kept for five minutes", () => {
  const history = new History();
  history.add(1000, exportAt({ reads: 100, bytes_read: 4096 }), null);
  expect(history.latest).toBeUndefined();
  history.add(3000, exportAt({ reads: 120, bytes_read: 8192 }), null);
  expect(history.latest).toMatchObject({ reads: 10, readBytes: 2048 });
  history.add(4000, exportAt({ reads: 7 }), null);
  expect(history.latest).toMatchObject({ reads: 7, readBytes: 0 });
  for (let second = 5; second < 1000; second++) history.add(second * 1000, exportAt({ reads: 7 }), null);
  expect(history.samples).toHaveLength(301);
});

test("figures are short, names are visible, and a name in an address is as on the control socket", () => {
  expect([0, 1023, 1536, 10 * GIB].map(size)).toEqual(["0 B", "1023 B", "1.5 KiB", "10 GiB"]);
  expect([0.04, 7, 9999, 12_345, 4.5e6].map(count)).toEqual(["<0.1", "7", "9999", "12 k", "4.5 M"]);
  expect([0, 45, 1234, 2e6].map(latency)).toEqual(["–", "45 µs", "1.2 ms", "2 s"]);
  expect([0, 59_999, 12_000_000, 86_400_000].map(duration)).toEqual(["0 s", "59 s", "3 h 20 min", "1 d"]);
  expect(["", "a\u202eb\n", "plain"].map(shownName)).toEqual(["(default)", "a\\u{202e}b\\u{a}", "plain"]);
  expect(["", "~x", "a/b"].map(segment)).toEqual(["~", "~~x", "a/b"]);
});
