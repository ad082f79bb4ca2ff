/**
 * Proves what is recorded of a base, in full and in samples, and that every change of what was recorded is found, and
 * found where it is.
 */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Extent, MemoryDevice, SparseBytes } from "../../../src/lib/index.ts";
import { type BaseRecord, decodeRecord } from "../../../src/lib/notes/base-record.ts";
import { compareContent, recordContent } from "../../../src/lib/operations/identity/content.ts";
import { type Budget, chooseChunkBytes, spread, UNLIMITED } from "../../../src/lib/operations/identity/sampling.ts";
import { noise, random } from "../../support/random.ts";

const KIB = 1024;
const MIB = 1 << 20;

function recordOf(content: Awaited<ReturnType<typeof recordContent>>, blocks: number): BaseRecord {
  const now = new Date().toISOString();
  const record: BaseRecord = {
    cowtool_base: 1,
    recorded: now,
    written: now,
    cowfile: { fingerprint: "0x00000000", rdo_blocks: blocks, id: null },
    base_size: blocks * KIB,
    files: [null],
    hash: "sha256-128",
    merged: false,
    ...content,
  };
  const decoded = decodeRecord(Buffer.from(JSON.stringify(record)));
  if ("why" in decoded) throw new Error(decoded.why);
  expect(decoded).toEqual(record);
  return decoded;
}

/** A base of data, a hole, data again, and a last chunk that is cut short: 300 blocks. */
function smallBase(): SparseBytes {
  const base = new SparseBytes();
  base.write(noise(100 * KIB, 1), 0);
  base.write(noise(41 * KIB, 2), 259 * KIB);
  return base;
}

const BLOCKS = 300;

async function changesOf(record: BaseRecord, base: SparseBytes, budget: Budget = UNLIMITED): Promise<Extent[]> {
  const { changed } = await compareContent(new MemoryDevice("base", base), record, budget, {});
  return [...changed];
}

async function recorded(base: SparseBytes, blocks: number, budget: Budget = UNLIMITED): Promise<BaseRecord> {
  return recordOf(await recordContent(new MemoryDevice("base", base), blocks, budget, {}), blocks);
}

describe("all of a base", () => {
  test("is the same as long as nobody changes it", async () => {
    const base = smallBase();
    const record = await recorded(base, BLOCKS);
    expect([record.chunk_bytes, record.unread]).toEqual([4 * KIB, []]);
    expect(await changesOf(record, base)).toEqual([]);
  });

  test("one bit anywhere is found, and found in its chunk, holes and the last byte included", async () => {
    const base = smallBase();
    const record = await recorded(base, BLOCKS);
    const next = random(5);
    const places = [0, 4095, 4096, 100 * KIB - 1, 100 * KIB, 200 * KIB, 259 * KIB - 1, BLOCKS * KIB - 1];
    for (let i = 0; i < 200; i++) places.push(Math.floor(next() * BLOCKS * KIB));
    for (const place of places) {
      const copy = base.clone();
      const byte = copy.toBytes()[place] ?? 0;
      copy.write(Uint8Array.of(byte ^ (1 << (place % 8))), place);
      const offset = Math.floor(place / 4096) * 4096;
      expect(await changesOf(record, copy), `byte ${place}`).toEqual([{ offset, length: 4096 }]);
    }
  });

  test("a last chunk that is cut short is reported as long as it is", async () => {
    const base = SparseBytes.from(noise(10 * KIB, 3));
    const record = await recorded(base, 10);
    base.write(Uint8Array.of(0, 1, 2), 10 * KIB - 3);
    expect(await changesOf(record, base)).toEqual([{ offset: 8 * KIB, length: 2 * KIB }]);
  });

  test("what is behind the last whole block is no part of it", async () => {
    const base = SparseBytes.from(noise(10 * KIB + 100, 3));
    const record = await recorded(base, 10);
    base.write(Uint8Array.of(0, 1, 2), 10 * KIB + 50);
    expect(await changesOf(record, base)).toEqual([]);
  });

  test("zeros are zeros, whether they are written or a hole, before and after", async () => {
    const sparse = smallBase();
    const full = SparseBytes.from(sparse.toBytes());
    full.write(new Uint8Array(159 * KIB), 100 * KIB);
    const [a, b] = [await recorded(sparse, BLOCKS), await recorded(full, BLOCKS)];
    expect(await changesOf(a, full)).toEqual([]);
    expect(await changesOf(b, sparse)).toEqual([]);
    expect(b.data).toEqual(a.data);
  });

  test("a base that became shorter has changed where it is missing", async () => {
    const record = await recorded(SparseBytes.from(noise(64 * KIB, 3)), 64);
    const shorter = SparseBytes.from(noise(64 * KIB, 3).subarray(0, 40 * KIB));
    expect(await changesOf(record, shorter)).toEqual([{ offset: 40 * KIB, length: 24 * KIB }]);
  });

  test("data that became zeros has changed", async () => {
    const base = smallBase();
    const record = await recorded(base, BLOCKS);
    base.write(new Uint8Array(100 * KIB), 0);
    expect(await changesOf(record, base)).toEqual([{ offset: 0, length: 100 * KIB }]);
  });
});

test("a digest is the beginning of the chunk's SHA-256, zeros and all", async () => {
  const bytes = Buffer.alloc(8 * MIB);
  bytes.set(noise(MIB, 6), 6.5 * MIB);
  const digest = createHash("sha256")
    .update(bytes.subarray(4 * MIB))
    .digest("hex")
    .slice(0, 32);
  const record = recordOf({ chunk_bytes: 4 * MIB, data: [[1, digest]], unread: [] }, (8 * MIB) / KIB);
  expect(await changesOf(record, SparseBytes.from(bytes))).toEqual([]);
});

describe("samples of a base", () => {
  const blocks = (8 * MIB) / KIB;
  const budget = { bytes: MIB, ms: Number.POSITIVE_INFINITY };

  test("say that they are samples, and are the first and the last chunk, and many between", async () => {
    const record = await recorded(SparseBytes.from(noise(8 * MIB, 4)), blocks, budget);
    expect(record.unread.length).toBeGreaterThan(10);
    expect(record.data[0]?.[0]).toBe(0);
    const [first, digests] = record.data.at(-1) ?? [0, ""];
    expect((first + digests.length / 32) * record.chunk_bytes).toBe(8 * MIB);
    const read = record.data.reduce((sum, [, text]) => sum + text.length / 32, 0) * record.chunk_bytes;
    expect([read <= MIB, read > 0.9 * MIB]).toEqual([true, true]);
  });

  test("find a change where they are, and none elsewhere", async () => {
    const base = SparseBytes.from(noise(8 * MIB, 4));
    const record = await recorded(base, blocks, budget);
    for (const [first, count] of record.unread)
      base.write(noise(count * record.chunk_bytes, 9), first * record.chunk_bytes);
    expect(await changesOf(record, base)).toEqual([]);
    const chunk = record.data[7]?.[0] ?? 0;
    base.write(Uint8Array.of(1, 2, 3, 4), chunk * record.chunk_bytes + 100);
    expect(await changesOf(record, base)).toEqual([{ offset: chunk * record.chunk_bytes, length: record.chunk_bytes }]);
  });

  test("of a sparse base are taken from its data, and its holes are known", async () => {
    const base = new SparseBytes();
    base.resize(64 * MIB);
    base.write(noise(4 * MIB, 4), 20 * MIB);
    const record = await recorded(base, (64 * MIB) / KIB, budget);
    for (const [first, count] of record.unread) {
      expect(first * record.chunk_bytes).toBeGreaterThanOrEqual(20 * MIB);
      expect((first + count) * record.chunk_bytes).toBeLessThanOrEqual(24 * MIB);
    }
    base.write(Uint8Array.of(1), 50 * MIB);
    expect(await changesOf(record, base)).toEqual([{ offset: 50 * MIB, length: record.chunk_bytes }]);
  });

  test("when the time is up, the rest is unread; something always is not", async () => {
    const record = await recorded(SparseBytes.from(noise(MIB, 4)), MIB / KIB, { bytes: MIB, ms: 0 });
    expect(record.data.map(([first, digests]) => [first, digests.length / 32])).toEqual([[0, 1]]);
    expect(record.unread).toEqual([[1, MIB / 4096 - 1]]);
  });

  test("of what was recorded are compared if that is too much, and it is said", async () => {
    const base = SparseBytes.from(noise(8 * MIB, 4));
    const record = await recorded(base, blocks);
    const device = new MemoryDevice("base", base);
    expect(await compareContent(device, record, UNLIMITED, {})).toMatchObject({ isAll: true, comparedBytes: 8 * MIB });
    const part = await compareContent(device, record, budget, {});
    expect([part.isAll, part.comparedBytes <= MIB, part.comparedBytes > 0.9 * MIB]).toEqual([false, true, true]);
    base.write(noise(2 * MIB, 8), 3 * MIB);
    const { changed } = await compareContent(device, record, budget, {});
    expect(changed.length).toBeGreaterThan(2);
    expect(changed).toEqual(changed.toSorted((a, b) => a.offset - b.offset));
    const found = changed.reduce((sum, { length }) => sum + length, 0);
    expect(Math.abs(found - part.comparedBytes / 4)).toBeLessThan(64 * KIB);
    for (const { offset, length } of changed)
      expect([offset >= 3 * MIB, offset + length <= 5 * MIB]).toEqual([true, true]);
  });
});

describe("where samples are taken", () => {
  test("whole chunks that do not overlap, no more than the budget, from any runs", () => {
    const next = random(11);
    for (let round = 0; round < 300; round++) {
      const chunkBytes = 4096 << Math.floor(next() * 5);
      const runs: Extent[] = [];
      let at = 0;
      for (let i = 0; i < 1 + next() * 40; i++) {
        const offset = at + Math.floor(next() * 20) * chunkBytes;
        const length = (1 + Math.floor(next() * 50)) * chunkBytes;
        runs.push({ offset, length });
        at = offset + length + chunkBytes;
      }
      const last = runs.at(-1);
      if (last) runs[runs.length - 1] = { ...last, length: last.length - 1024 };
      const budget = Math.floor(next() * 60) * chunkBytes;
      const samples = spread(runs, chunkBytes, budget).toSorted((a, b) => a.offset - b.offset);
      let end = 0;
      let sum = 0;
      for (const { offset, length } of samples) {
        expect(offset).toBeGreaterThanOrEqual(end);
        expect(offset % chunkBytes).toBe(0);
        expect(runs.some((run) => run.offset <= offset && offset + length <= run.offset + run.length)).toBe(true);
        end = offset + length;
        sum += length;
      }
      expect(sum).toBeLessThanOrEqual(Math.max(budget, 0));
      if (samples.length > 1) {
        expect(samples[0]?.offset).toBe(runs[0]?.offset);
        expect(end).toBe((last?.offset ?? 0) + (last?.length ?? 0) - 1024);
      }
    }
  });

  test("every beginning of their order is spread over everything", () => {
    const samples = spread([{ offset: 0, length: 1 << 30 }], 65536, 64 << 20);
    for (const count of [4, 16, 64, 256]) {
      const begun = samples
        .slice(0, count)
        .map(({ offset }) => offset)
        .sort((a, b) => a - b);
      const gaps = [...begun, 1 << 30].map((offset, i) => offset - (begun[i - 1] ?? 0));
      expect(Math.max(...gaps)).toBeLessThanOrEqual((1.1 * (1 << 30)) / count);
    }
  });

  test.each([
    [1, 4096],
    [16, 4096],
    [17, 8192],
    [200, 65536],
    [100_000, 65536],
  ])("of %d MiB in a moment, the chunks have %d bytes", (mebibytes, expected) => {
    const data = [{ offset: 0, length: mebibytes * MIB }];
    expect(chooseChunkBytes(data, mebibytes * MIB, { bytes: 256 * MIB, ms: 1 })).toBe(expected);
  });

  test.each([
    [1024, 65536],
    [100 * 1024, 2 * MIB],
    [4 * MIB, 64 * MIB],
  ])("of %d MiB in full, they have %d", (mebibytes, expected) => {
    const data = [{ offset: 0, length: mebibytes * MIB }];
    expect(chooseChunkBytes(data, mebibytes * MIB, UNLIMITED)).toBe(expected);
  });
});
