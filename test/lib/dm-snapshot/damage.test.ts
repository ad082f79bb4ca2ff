/**
 * Proves that a damaged store never does more than be refused, that whoever insists sees what a kernel would, and that
 * repair keeps that view, wherever it is killed.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryStorage } from "../../../src/lib/device/memory-storage.ts";
import { CowError } from "../../../src/lib/errors.ts";
import { encodeHeader } from "../../../src/lib/formats/dm-snapshot/header.ts";
import { dmSnapshotFormat } from "../../../src/lib/formats/dm-snapshot/index.ts";
import { DmSnapshotLayer } from "../../../src/lib/formats/dm-snapshot/layer.ts";
import { storeGeometry, tupleOffset } from "../../../src/lib/formats/dm-snapshot/layout.ts";
import { STORE_PROBLEMS } from "../../../src/lib/formats/dm-snapshot/problems.ts";
import { noise, random } from "../../support/random.ts";
import { bytesOf, deviceOf, viewOf } from "../../support/storage/memory-files.ts";

const SECTORS = 2;
const CHUNK = SECTORS * 512;
const ORIGIN_CHUNKS = 60;
const STORE_CHUNKS = 150;
const geometry = storeGeometry(SECTORS);

type Tuple = readonly [number, number];

/** A store with this list of exceptions, whatever is in it; garbage in its data chunks. */
function storeOf(list: readonly Tuple[], chunks = STORE_CHUNKS): Buffer {
  const bytes = Buffer.from(noise(chunks * CHUNK, 5));
  for (let area = 0; tupleOffset(geometry, area * geometry.perArea) < bytes.length; area++) {
    const at = tupleOffset(geometry, area * geometry.perArea);
    bytes.fill(0, at, at + CHUNK);
  }
  bytes.fill(0, 0, CHUNK);
  bytes.set(encodeHeader({ valid: 1, chunkSectors: SECTORS }), 0);
  for (const [i, [old, next]] of list.entries()) {
    const at = tupleOffset(geometry, i);
    bytes.writeBigUInt64LE(BigInt(old), at);
    bytes.writeBigUInt64LE(BigInt(next), at + 8);
  }
  return bytes;
}

const origin = () => deviceOf(noise(ORIGIN_CHUNKS * CHUNK - 512, 1));

/** What a kernel shows: the first exception of a chunk counts, wherever it lies; EIO is taken for the origin. */
function kernelView(list: readonly Tuple[], store: Buffer): Buffer {
  const view = bytesOf(origin());
  const seen = new Set<number>();
  for (const [old, next] of list) {
    if (next === 0) break;
    if (seen.has(old) || old >= ORIGIN_CHUNKS) continue;
    const isData = next < STORE_CHUNKS && next !== 0 && next % geometry.strideChunks !== 1;
    // A kernel would show metadata; whoever forces us gets the origin there, or a later exception.
    if (!isData) continue;
    seen.add(old);
    const data = store.subarray(next * CHUNK, (next + 1) * CHUNK);
    data.copy(view, old * CHUNK, 0, Math.min(CHUNK, view.length - old * CHUNK));
  }
  return view;
}

const tuples = fc.array(
  fc.tuple(
    fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: ORIGIN_CHUNKS - 1 }) }, fc.constantFrom(60, 61, 5000)),
    fc.oneof(
      { weight: 12, arbitrary: fc.integer({ min: 2, max: 64 }) },
      { weight: 8, arbitrary: fc.integer({ min: 67, max: 129 }) },
      fc.constantFrom(0, 1, 66, STORE_CHUNKS, 1_000_000),
    ),
  ),
  { maxLength: 90 },
);

describe("a list of exceptions", () => {
  it("of any kind is judged as a kernel reads it, and repaired without changing what it shows: 400 random ones", async () => {
    await fc.assert(
      fc.asyncProperty(tuples, async (list) => {
        const bytes = storeOf(list);
        const below = origin();
        const cow = deviceOf(bytes);
        const forced = new DmSnapshotLayer(cow, { below, lenient: true });
        const expected = kernelView(list, bytes);
        expect(viewOf(below, forced).equals(expected)).toBe(true);
        const { problems } = await dmSnapshotFormat.check(cow, { backing: below });
        const ids = new Set([...problems].map(({ id }) => id));
        const isError = [...problems].some(({ severity }) => severity === "error");
        if (isError) expect(() => new DmSnapshotLayer(cow, { below, lenient: false })).toThrow(CowError);
        const options = { dryRun: false, force: false, dropLost: true, backing: below };
        if (ids.has("new-duplicate")) {
          await expect(dmSnapshotFormat.repair(cow, options)).rejects.toThrow(CowError);
          expect(bytesOf(cow).equals(bytes)).toBe(true);
          return;
        }
        await dmSnapshotFormat.repair(cow, options);
        const repaired = new DmSnapshotLayer(cow, { below, lenient: false });
        expect(viewOf(below, repaired).equals(expected)).toBe(true);
        const after = await dmSnapshotFormat.check(cow, { backing: below });
        expect(after.worst).toMatchObject({ fixable: 0, unfixable: 0 });
      }),
      { numRuns: 400 },
    );
  });

  it("that is being repaired shows the same wherever that is killed, and is completed by the same command", async () => {
    const next = random(3);
    const list: Tuple[] = [];
    for (let i = 0; i < 100; i++) {
      const data = 2 + i + Math.floor(i / 64);
      if (i % 9 === 4) list.push([Math.floor(next() * 5000) + 60, data]);
      else if (i % 11 === 5) list.push([i % 50, STORE_CHUNKS + i]);
      else if (i % 13 === 6) list.push([list[2]?.[0] ?? 0, data]);
      else list.push([(i * 7) % ORIGIN_CHUNKS, data]);
    }
    const bytes = storeOf(list);
    const initial = new MemoryStorage();
    initial.put("cow", bytes);
    const below = origin();
    const expected = kernelView(list, bytes);
    const repair = (storage: MemoryStorage) =>
      dmSnapshotFormat.repair(storage.open("cow", { writable: true }), {
        dryRun: false,
        force: true,
        dropLost: true,
        backing: below,
      });
    let states = 0;
    for (let limit = 0; ; limit++) {
      const storage = initial.clone();
      storage.onChange = (_change, index) => {
        if (index >= limit) throw new Error("killed");
      };
      const isKilled = await repair(storage).then(
        () => false,
        () => true,
      );
      if (!isKilled) break;
      storage.onChange = () => undefined;
      const cuts = [storage.clone(), ...[0, 1, 2].map((seed) => powerCut(storage, initial, limit * 10 + seed))];
      for (const cut of cuts) {
        const shown = viewOf(below, new DmSnapshotLayer(cut.open("cow"), { below, lenient: true }));
        expect(shown.equals(expected), `killed before change ${limit}`).toBe(true);
        await repair(cut);
        const after = new DmSnapshotLayer(cut.open("cow"), { below, lenient: false });
        expect(viewOf(below, after).equals(expected)).toBe(true);
        states++;
      }
    }
    expect(states).toBeGreaterThan(20);
  });
});

function powerCut(storage: MemoryStorage, before: MemoryStorage, seed: number): MemoryStorage {
  const next = random(seed);
  return storage.powerCut(before, () => next() < 0.5);
}

describe("hostile bytes", () => {
  it("in header and areas never do more than fail: 500 random ones", async () => {
    const whole = storeOf(
      Array.from({ length: 70 }, (_, i) => [i % ORIGIN_CHUNKS, 2 + i + Math.floor(i / 64)] as const),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 2047 }), fc.integer({ min: 0, max: 255 })), { maxLength: 5 }),
        fc.integer({ min: 0, max: whole.length }),
        fc.boolean(),
        async (changes, length, isCut) => {
          const bytes = Buffer.from(isCut ? whole.subarray(0, length) : whole);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          const below = origin();
          for (const work of [
            () => dmSnapshotFormat.describe(deviceOf(bytes), { backing: below }),
            () => dmSnapshotFormat.check(deviceOf(bytes), {}),
            () => dmSnapshotFormat.repair(deviceOf(bytes), { dryRun: false, force: true, dropLost: true }),
            async () => viewOf(below, new DmSnapshotLayer(deviceOf(bytes), { below, lenient: true })),
            async () => [...new DmSnapshotLayer(deviceOf(bytes), { lenient: true }).extents(0, 1e9)],
          ]) {
            try {
              await work();
            } catch (error) {
              expect(error).toBeInstanceOf(CowError);
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it("that are all ones are no list of a billion exceptions", async () => {
    const bytes = Buffer.alloc(8 << 20, 255);
    bytes.set(encodeHeader({ valid: 1, chunkSectors: 64 }), 0);
    const { problems } = await dmSnapshotFormat.check(deviceOf(bytes), {});
    const ids = [...problems].map(({ id }) => id);
    expect(ids).toContain("too-many");
    expect(ids.length).toBeLessThan(2000);
  });
});

it("what check found can be read when the file is closed", async () => {
  const cow = deviceOf(
    storeOf([
      [1, 2],
      [1, 3],
    ]),
  );
  const { problems } = await dmSnapshotFormat.check(cow, {});
  cow.read = () => {
    throw new Error("is closed");
  };
  expect([...problems].map(({ id }) => id)).toEqual(["old-duplicate"]);
});

it("every problem of the table says what a kernel does, and what is fixable says how", () => {
  for (const [id, spec] of Object.entries(STORE_PROBLEMS)) {
    expect(spec.about.length, id).toBeGreaterThan(20);
    expect(spec.kernel.length, id).toBeGreaterThan(5);
  }
});
