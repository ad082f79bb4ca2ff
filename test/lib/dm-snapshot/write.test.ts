/**
 * Proves that stores are written as a kernel would: new ones, extended ones, and what a crash leaves of both. Checked
 * against a model, and against stores that a kernel wrote.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BlockDevice } from "../../../src/lib/device/block-device.ts";
import { MemoryStorage } from "../../../src/lib/device/memory-storage.ts";
import { CowError } from "../../../src/lib/errors.ts";
import { describeStore } from "../../../src/lib/formats/dm-snapshot/describe.ts";
import { dmSnapshotFormat } from "../../../src/lib/formats/dm-snapshot/index.ts";
import { DmSnapshotLayer } from "../../../src/lib/formats/dm-snapshot/layer.ts";
import { chunksNeeded, dataChunk, dataIndex, storeGeometry } from "../../../src/lib/formats/dm-snapshot/layout.ts";
import { WritableStore } from "../../../src/lib/formats/dm-snapshot/writable-store.ts";
import { goldenCases, goldenImage } from "../../support/images/golden-folder.ts";
import { createStore, storeBytesFor, writeStore } from "../../support/images/write-store.ts";
import { noise, random } from "../../support/random.ts";
import { bytesOf, deviceOf, deviceOfFile, viewOf } from "../../support/storage/memory-files.ts";

const strict = (cow: BlockDevice, below: BlockDevice) => new DmSnapshotLayer(cow, { below, lenient: false });

describe("a new store", () => {
  it("is header and zeroed area 0 of whatever was there", async () => {
    const cow = deviceOf(noise(40 * 4096, 3));
    createStore(cow, { chunkSectors: 8 });
    const bytes = bytesOf(cow);
    expect(bytes.subarray(0, 16).toString("hex")).toBe("536e4170010000000100000008000000");
    expect(bytes.subarray(16, 8192).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(8192).equals(noise(40 * 4096, 3).subarray(8192))).toBe(true);
    const { facts } = await describeStore(cow, {});
    expect(facts).toMatchObject({ kernel_status: "16/320 16", exceptions: 0, next_free: 2, looks_full: false });
  });

  it("is made long enough", () => {
    const cow = deviceOf(0);
    createStore(cow, { chunkSectors: 2048 });
    expect(cow.sizeBytes).toBe(2 * 2048 * 512);
  });

  it.each([0, 3, -1, 1.5, 2 ** 22, Number.NaN])("has no chunks of %d sectors", (chunkSectors) => {
    expect(() => createStore(deviceOf(0), { chunkSectors })).toThrow(CowError);
  });
});

describe("places", () => {
  it("of data chunks: what dataIndex undoes", () => {
    for (const sectors of [1, 2, 8, 64]) {
      const geometry = storeGeometry(sectors);
      for (let i = 0; i < 5 * geometry.perArea; i++) {
        expect(dataIndex(geometry, dataChunk(geometry, i))).toBe(i);
        expect(dataChunk(geometry, i) % geometry.strideChunks).not.toBe(1);
      }
    }
  });

  it("a full area needs the next one to exist", () => {
    const geometry = storeGeometry(8);
    expect(chunksNeeded(geometry, 0)).toBe(2);
    expect(chunksNeeded(geometry, 255)).toBe(257);
    expect(chunksNeeded(geometry, 256)).toBe(259);
    expect(chunksNeeded(geometry, 257)).toBe(260);
  });
});

describe("a store from extents", () => {
  it("shows the same view, for any layer: 300 random ones", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          sectors: fc.constantFrom(1, 2, 4, 8, 16),
          size: fc.integer({ min: 1, max: 300_000 }),
          parts: fc.array(fc.tuple(fc.integer({ min: 0, max: 300_000 }), fc.integer({ min: 1, max: 40_000 })), {
            maxLength: 12,
          }),
          seed: fc.integer(),
          isBlank: fc.boolean(),
        }),
        async ({ sectors, size, parts, seed, isBlank }) => {
          const origin = deviceOf(noise(size, seed));
          const changed = noise(size, seed + 1);
          const expected = bytesOf(origin);
          const held = new Uint8Array(size);
          for (const [offset, length] of parts) {
            held.fill(1, offset, offset + length);
            expected.set(changed.subarray(offset, offset + length), Math.min(offset, size));
          }
          const extents = () => runsOf(held);
          const cow = deviceOf(isBlank ? 0 : noise(700_000, seed + 2));
          const { exceptions } = await writeStore(
            cow,
            {
              sizeBytes: size,
              extents,
              read: (target, offset) => void target.set(expected.subarray(offset, offset + target.length)),
            },
            { chunkSectors: sectors },
          );
          expect(viewOf(origin, strict(cow, origin)).equals(expected)).toBe(true);
          const { worst } = await dmSnapshotFormat.check(cow, { backing: origin });
          expect(worst).toMatchObject({ fixable: 0, unfixable: 0 });
          const { facts } = await describeStore(cow, {});
          expect(facts).toMatchObject({ exceptions, chunks_unused: 0 });
          expect(storeBytesFor(sectors, extents(), size)).toBeLessThanOrEqual(cow.sizeBytes);
          if (isBlank) expect(storeBytesFor(sectors, extents(), size)).toBe(cow.sizeBytes);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is no store before it is whole, wherever it is killed", async () => {
    const origin = noise(64 * 1024, 1);
    const initial = new MemoryStorage();
    initial.put("cow", noise(100 * 1024, 7));
    createStore(initial.open("cow", { writable: true }), { chunkSectors: 1 });
    const start = initial.clone();
    const work = (storage: MemoryStorage) =>
      writeStore(
        storage.open("cow", { writable: true }),
        {
          sizeBytes: origin.length,
          extents: () => [{ offset: 3000, length: 30_000 }],
          read: (target, offset) => void target.set(origin.subarray(offset, offset + target.length)),
        },
        { chunkSectors: 2 },
      );
    const whole = start.clone();
    await work(whole);
    for (let limit = 0, killed = true; killed; limit++) {
      const storage = start.clone();
      storage.onChange = (_change, index) => {
        if (index >= limit) throw new Error("killed");
      };
      killed = await work(storage).then(
        () => false,
        () => true,
      );
      if (!killed) break;
      const next = random(limit);
      const cut = storage.powerCut(start, () => next() < 0.5);
      const head = bytesOf(cut.open("cow")).subarray(0, 16);
      const isOldOrNone = limit === 0 || !dmSnapshotFormat.matches(head) || head[12] === 1 || isWhole(cut, whole);
      expect(isOldOrNone, `killed before change ${limit}`).toBe(true);
    }
  });
});

function isWhole(storage: MemoryStorage, whole: MemoryStorage): boolean {
  return bytesOf(storage.open("cow")).equals(bytesOf(whole.open("cow")));
}

function* runsOf(held: Uint8Array): Generator<{ offset: number; length: number }> {
  for (let at = held.indexOf(1); at >= 0; ) {
    const end = held.indexOf(0, at);
    const stop = end < 0 ? held.length : end;
    yield { offset: at, length: stop - at };
    at = end < 0 ? -1 : held.indexOf(1, stop);
  }
}

/** Writes one chunk through a store as whoever serves it does. */
function put(store: WritableStore, old: number, data: Uint8Array): void {
  const at = store.map.get(old);
  if (at === 0) {
    store.reserve(1);
    store.target.write(data, store.nextFree * store.geometry.chunkBytes);
    store.take(old, 1);
  } else store.target.write(data, at * store.geometry.chunkBytes);
}

describe("an extended store", () => {
  it.each([1, 2, 8])("of chunks of %i sectors holds what a model holds, commit by commit", (chunkSectors) => {
    const chunkBytes = chunkSectors * 512;
    const chunks = 900;
    const origin = deviceOf(noise(chunks * chunkBytes, 1));
    const cow = deviceOf(noise(10 * chunkBytes, 2));
    createStore(cow, { chunkSectors });
    const expected = bytesOf(origin);
    const next = random(chunkSectors);
    for (let round = 0; round < 6; round++) {
      const store = new WritableStore(cow, { below: origin, mayGrow: true });
      for (let i = 0; i < 120; i++) {
        const old = Math.floor(next() * chunks);
        const data = noise(chunkBytes, round * 1000 + i);
        put(store, old, data);
        expected.set(data, old * chunkBytes);
        if (next() < 0.1) store.commit();
      }
      store.flush();
      expect(viewOf(origin, strict(cow, origin)).equals(expected)).toBe(true);
      expect(store.count).toBe(strict(cow, origin).opened.verdicts.scan.olds.length);
      expect(dataIndex(store.geometry, store.nextFree)).toBe(store.count);
    }
  });

  it("takes no exception more than a kernel would, and says so before anything is changed", () => {
    // The 255th fits 257 chunks, but the 256th needs area 1 to exist, though its data has a place (p8-lastslot).
    for (const [chunks, fit] of [
      [2, 0],
      [3, 1],
      [257, 255],
      [258, 255],
      [259, 256],
      [260, 257],
    ] as const) {
      const cow = deviceOf(new Uint8Array(chunks * 4096 + 100));
      const origin = deviceOf(new Uint8Array(400 * 4096));
      createStore(cow, { chunkSectors: 8 });
      const store = new WritableStore(cow, { below: origin });
      for (let old = 0; old < fit; old++) put(store, old, noise(4096, old));
      store.flush();
      const before = bytesOf(cow);
      expect(() => put(store, 399, noise(4096, 0)), `${chunks} chunks`).toThrow(/the store is full/);
      expect(() => new WritableStore(cow, { below: origin }).reserve(1)).toThrow(CowError);
      expect(bytesOf(cow).equals(before)).toBe(true);
      expect(strict(cow, origin).opened.verdicts.map.count).toBe(fit);
    }
  });

  it.each(goldenCases("dmsnap").filter((name) => !["n8-transient", "p8-overflow-invalid"].includes(name)))(
    "goes on where a kernel ended: %s",
    (name) => {
      const origin = deviceOfFile(goldenImage(`dmsnap/${name}`, "origin.img"));
      const cow = deviceOfFile(goldenImage(`dmsnap/${name}`, "cow.img"));
      const expected = viewOf(origin, strict(cow, origin));
      const store = new WritableStore(cow, { below: origin, mayGrow: true });
      const { chunkBytes, perArea } = store.geometry;
      for (let i = 0; i < Math.min(perArea + 2, 300); i++) {
        const old = (i * 7) % Math.ceil(origin.sizeBytes / chunkBytes);
        const data = noise(chunkBytes, i);
        put(store, old, data);
        expected.set(data, old * chunkBytes);
      }
      store.flush();
      expect(viewOf(origin, strict(cow, origin)).equals(expected)).toBe(true);
    },
  );

  it("loses nothing that a flush covered, whatever a power cut takes", () => {
    const chunkBytes = 512;
    const origin = deviceOf(noise(300 * chunkBytes, 1));
    const initial = new MemoryStorage();
    initial.put("cow", noise(400 * chunkBytes, 2));
    createStore(initial.open("cow", { writable: true }), { chunkSectors: 1 });
    const start = initial.clone();
    const dataOf = (old: number, round: number): Uint8Array => noise(chunkBytes, old * 10 + round);
    /** Writes 100 chunks in three flushes; tells which were covered by one. */
    const work = (storage: MemoryStorage, flushed: Set<number>): void => {
      const store = new WritableStore(storage.open("cow", { writable: true }), { below: origin });
      const next = random(5);
      const written = new Set<number>();
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 33; i++) {
          const old = Math.floor(next() * 300);
          if (store.map.get(old) !== 0) continue;
          put(store, old, dataOf(old, 0));
          written.add(old);
          if (i % 9 === 0) store.commit();
        }
        store.flush();
        for (const old of written) flushed.add(old);
      }
    };
    let states = 0;
    for (let limit = 0, killed = true; killed; limit++) {
      const storage = start.clone();
      storage.onChange = (_change, index) => {
        if (index >= limit) throw new Error("killed");
      };
      const flushed = new Set<number>();
      killed = false;
      try {
        work(storage, flushed);
      } catch {
        killed = true;
      }
      for (let seed = 0; seed < 3; seed++) {
        const next = random(limit * 10 + seed);
        const share = [0, 0.5, next()][seed] ?? 0;
        const cow = storage.powerCut(start, () => next() < share).open("cow", { writable: true });
        const view = viewOf(origin, strict(cow, origin));
        const before = bytesOf(origin);
        for (let old = 0; old < 300; old++) {
          const now = view.subarray(old * chunkBytes, (old + 1) * chunkBytes);
          const isNew = now.equals(dataOf(old, 0));
          const isOld = now.equals(before.subarray(old * chunkBytes, (old + 1) * chunkBytes));
          expect(flushed.has(old) ? isNew : isNew || isOld, `change ${limit}, chunk ${old}`).toBe(true);
        }
        // What was under way and stands behind the list's end does not come back to life.
        const again = new WritableStore(cow, { below: origin });
        const taken = strict(cow, origin).opened.verdicts.map.count;
        const free = Array.from({ length: 300 }, (_, old) => old).filter((old) => again.map.get(old) === 0);
        for (const old of free.slice(0, 3)) put(again, old, dataOf(old, 1));
        again.flush();
        expect(strict(cow, origin).opened.verdicts.map.count).toBe(taken + Math.min(3, free.length));
        states++;
      }
    }
    expect(states).toBeGreaterThan(200);
  });
});
