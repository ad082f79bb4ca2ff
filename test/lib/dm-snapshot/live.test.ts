/**
 * Proves that a store can be written while it is served: what is read back is what a model holds, the store on disk is
 * sound and shows it, and what a kill or a power cut leaves is what was promised.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BlockDevice } from "../../../src/lib/device/block-device.ts";
import { MemoryStorage } from "../../../src/lib/device/memory-storage.ts";
import { CowError } from "../../../src/lib/errors.ts";
import { dmSnapshotFormat } from "../../../src/lib/formats/dm-snapshot/index.ts";
import { DmSnapshotLayer } from "../../../src/lib/formats/dm-snapshot/layer.ts";
import { assembleImage } from "../../../src/lib/stack/live/assemble.ts";
import type { LiveImage } from "../../../src/lib/stack/live/image.ts";
import { LiveStore } from "../../../src/lib/stack/live/live-store.ts";
import { SpaceReserve } from "../../../src/lib/stack/live/space-reserve.ts";
import { createStore } from "../../support/images/write-store.ts";
import { noise, random } from "../../support/random.ts";
import { FaultyStorage, type Judge } from "../../support/storage/faulty-storage.ts";
import { deviceOf, viewOf } from "../../support/storage/memory-files.ts";

function serve(cow: BlockDevice, below: BlockDevice, top = new LiveStore(cow, { below, mayGrow: true })): LiveImage {
  return assembleImage({ name: cow.name, base: below, layers: [], top });
}

const layerOf = (cow: BlockDevice, below: BlockDevice) => new DmSnapshotLayer(cow, { below, lenient: false });

const SIZE = 100_000;

interface Change {
  readonly kind: "write" | "zero" | "allocate" | "trim";
  readonly at: number;
  readonly length: number;
}

type Op = Change | { readonly kind: "commit" | "flush" | "reopen" };

const ops: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom("write" as const, "write" as const, "zero" as const, "allocate" as const, "trim" as const),
      at: fc.integer({ min: 0, max: SIZE - 1 }),
      length: fc.integer({ min: 1, max: 20_000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom("commit" as const, "flush" as const, "reopen" as const) }),
  },
);

/** Does to the model what the image does. */
function apply(image: LiveImage, model: Buffer, op: Op, data: Uint8Array, held: (chunk: number) => boolean): void {
  if (op.kind === "commit") image.commit();
  else if (op.kind === "flush") image.flush();
  else if ("at" in op) {
    const length = Math.min(op.length, SIZE - op.at);
    if (op.kind === "write") {
      image.write(data.subarray(0, length), op.at);
      model.set(data.subarray(0, length), op.at);
    } else if (op.kind === "trim") {
      for (let at = 0; at < SIZE; at += CHUNK_BYTES) {
        const end = Math.min(SIZE, at + CHUNK_BYTES);
        if (at >= op.at && end <= op.at + length && held(at / CHUNK_BYTES)) model.fill(0, at, end);
      }
      image.trim(op.at, length);
    } else {
      image.zero(op.at, length, { mayPunch: op.kind === "zero" });
      model.fill(0, op.at, op.at + length);
    }
  }
}

const CHUNK_BYTES = 2048;

describe("a store that is served", () => {
  it("reads back what a model holds, and is a sound store that shows it: 300 random sessions", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(ops, { minLength: 1, maxLength: 30 }), fc.integer(), async (steps, seed) => {
        const base = noise(SIZE, seed);
        base.fill(0, 20_000, 50_000);
        const below = deviceOf(base);
        const cow = deviceOf(noise(8 * CHUNK_BYTES, seed + 1));
        createStore(cow, { chunkSectors: CHUNK_BYTES / 512 });
        const model = Buffer.from(base);
        let image = serve(cow, below);
        for (const [i, op] of steps.entries()) {
          const isHeld = (chunk: number): boolean => {
            let held = false;
            image.status(
              "dirty",
              chunk * CHUNK_BYTES,
              Math.min(CHUNK_BYTES, SIZE - chunk * CHUNK_BYTES),
              (_length, flags) => {
                held = flags === 1;
                return false;
              },
            );
            return held;
          };
          apply(image, model, op, noise(20_000, seed + i), isHeld);
          if (op.kind === "reopen") {
            image.flush();
            image = serve(cow, below);
          }
        }
        const seen = Buffer.alloc(SIZE);
        image.read(seen, 0);
        expect(seen.equals(model)).toBe(true);
        for (const [at, length] of [
          [1, 3000],
          [30_000, 40_000],
          [SIZE - 10, 10],
        ] as const) {
          const part = Buffer.alloc(length);
          image.read(part, at);
          expect(part.equals(model.subarray(at, at + length))).toBe(true);
        }
        image.flush();
        expect(viewOf(below, layerOf(cow, below)).equals(model)).toBe(true);
        const { worst } = await dmSnapshotFormat.check(cow, { backing: below });
        expect(worst).toMatchObject({ fixable: 0, unfixable: 0 });
      }),
      { numRuns: 300 },
    );
  });

  it("changes nothing where it is full, and goes on serving", () => {
    const below = deviceOf(noise(SIZE, 1));
    const cow = deviceOf(new Uint8Array(6 * CHUNK_BYTES));
    createStore(cow, { chunkSectors: 4 });
    const top = new LiveStore(cow, { below });
    const image = serve(cow, below, top);
    image.write(noise(3 * CHUNK_BYTES, 2), 0);
    image.commit();
    const before = Buffer.alloc(SIZE);
    image.read(before, 0);
    expect(() => image.write(noise(2 * CHUNK_BYTES, 3), 3 * CHUNK_BYTES)).toThrow(CowError);
    const after = Buffer.alloc(SIZE);
    image.read(after, 0);
    expect(after.equals(before)).toBe(true);
    image.write(noise(CHUNK_BYTES, 3), 4 * CHUNK_BYTES);
    image.write(noise(CHUNK_BYTES, 4), CHUNK_BYTES);
    image.flush();
    expect(top.store.count).toBe(4);
  });

  it("gives back chunks that it zeros, allocates none over a hole, and keeps space free for others", () => {
    const CHUNK = 16_384;
    const base = noise(8 * CHUNK, 1);
    base.fill(0, 4 * CHUNK);
    const below = deviceOf(base);
    const cow = deviceOf(new Uint8Array(10 * CHUNK_BYTES));
    createStore(cow, { chunkSectors: CHUNK / 512 });
    const top = new LiveStore(cow, { below, mayGrow: true });
    const image = serve(cow, below, top);
    image.zero(4 * CHUNK + 100, 2 * CHUNK, { mayPunch: true });
    expect(top.store.count).toBe(0);
    image.zero(100, 2 * CHUNK, { mayPunch: true });
    image.write(noise(CHUNK, 2), 6 * CHUNK);
    image.zero(6 * CHUNK + 4096, 8192, { mayPunch: true });
    image.flush();
    expect(top.store.count).toBe(4);
    const data = [...cow.dataExtents(2 * CHUNK, cow.sizeBytes)].reduce((sum, { length }) => sum + length, 0);
    expect(data).toBe(4096 + CHUNK + (CHUNK - 8192));
    const seen = Buffer.alloc(8 * CHUNK);
    image.read(seen, 0);
    const model = Buffer.from(base).fill(0, 100, 100 + 2 * CHUNK);
    model.set(noise(CHUNK, 2), 6 * CHUNK);
    expect(seen.equals(model.fill(0, 6 * CHUNK + 4096, 6 * CHUNK + 12_288))).toBe(true);
    const full = new LiveStore(cow, { below, mayGrow: true, reserve: new SpaceReserve("/", 1, () => 0) });
    expect(() => serve(cow, below, full).write(noise(10, 3), 3 * CHUNK)).toThrow(/to be left/);
  });

  it("is sound after a write that failed at any of its steps, and as it was outside of that", async () => {
    const base = noise(SIZE, 1);
    for (let failing = 0, hasFailed = true; hasFailed; failing++) {
      hasFailed = false;
      let steps = -1;
      const judge: Judge = ({ kind }) => {
        if ((kind !== "write" && kind !== "read") || steps < 0 || steps++ !== failing) return undefined;
        hasFailed = true;
        return { errno: "EIO", doneBytes: 512 };
      };
      const storage = new MemoryStorage();
      storage.put("base", base);
      storage.put("cow", noise(10 * CHUNK_BYTES, 2));
      createStore(storage.open("cow", { writable: true }), { chunkSectors: 4 });
      const faulty = new FaultyStorage(storage, judge);
      const image = serve(faulty.open("cow", { writable: true }), faulty.open("base"));
      image.write(noise(CHUNK_BYTES, 3), CHUNK_BYTES);
      image.commit();
      const model = Buffer.alloc(SIZE);
      image.read(model, 0);
      steps = 0;
      const write = (): void => image.write(noise(3 * CHUNK_BYTES, 4), 100);
      if (failing === 0) expect(write).toThrow(CowError);
      else
        try {
          write();
        } catch (error) {
          expect(error).toBeInstanceOf(CowError);
        }
      steps = -1;
      image.flush();
      const seen = viewOf(deviceOf(base), layerOf(storage.open("cow"), deviceOf(base)));
      expect(seen.subarray(0, 100).equals(model.subarray(0, 100)), `step ${failing}`).toBe(true);
      const after = 100 + 3 * CHUNK_BYTES;
      expect(seen.subarray(after).equals(model.subarray(after)), `step ${failing}`).toBe(true);
      const { worst } = await dmSnapshotFormat.check(storage.open("cow"), { backing: deviceOf(base) });
      expect(worst, `step ${failing}`).toMatchObject({ fixable: 0, unfixable: 0 });
    }
  });

  it("tells what it holds, and what is a hole", () => {
    const base = noise(SIZE, 1);
    base.fill(0, 40_960, 81_920);
    const below = deviceOf(base);
    const cow = deviceOf(new Uint8Array(10 * CHUNK_BYTES));
    createStore(cow, { chunkSectors: 4 });
    const image = serve(cow, below);
    image.write(noise(10, 1), CHUNK_BYTES + 5);
    const list = (kind: "allocation" | "depth" | "dirty") => {
      const runs: [number, number][] = [];
      image.status(kind, 0, SIZE, (length, flags) => {
        const last = runs.at(-1);
        if (last?.[1] === flags) last[0] += length;
        else runs.push([length, flags]);
        return true;
      });
      return runs;
    };
    expect(list("dirty")).toEqual([
      [2048, 0],
      [2048, 1],
      [SIZE - 4096, 0],
    ]);
    expect(list("depth")).toEqual([
      [2048, 2],
      [2048, 1],
      [40_960 - 4096, 2],
      [40_960, 0],
      [SIZE - 81_920, 2],
    ]);
    expect(list("allocation")).toEqual([
      [40_960, 0],
      [40_960, 3],
      [SIZE - 81_920, 0],
    ]);
  });

  it("keeps what was committed when it is killed, and what was flushed when the power is cut", () => {
    const below = deviceOf(noise(60 * CHUNK_BYTES, 1));
    const initial = new MemoryStorage();
    initial.put("cow", noise(10 * CHUNK_BYTES, 2));
    createStore(initial.open("cow", { writable: true }), { chunkSectors: 4 });
    const start = initial.clone();
    const size = below.sizeBytes;
    /** Versions of each sector that may be there: from the last that is certain to the newest. */
    const work = (storage: MemoryStorage, at: { committed: number; flushed: number; done: number }): Buffer[] => {
      const image = serve(storage.open("cow", { writable: true }), below);
      const next = random(9);
      const versions = [Buffer.alloc(size)];
      below.read(versions[0] as Buffer, 0);
      at.committed = at.flushed = at.done = 0;
      try {
        for (let i = 1; i <= 40; i++) {
          const offset = Math.floor((next() * size) / 512) * 512;
          const length = Math.min(size - offset, 512 * (1 + Math.floor(next() * 9)));
          const version = Buffer.from(versions[i - 1] as Buffer);
          version.set(noise(length, i), offset);
          versions.push(version);
          at.done = i;
          image.write(noise(length, i), offset);
          if (i % 3 === 0) {
            image.commit();
            at.committed = i;
          }
          if (i % 10 === 0) {
            image.flush();
            at.committed = at.flushed = i;
          }
        }
      } catch (error) {
        if (!(error instanceof Error && error.message === "killed")) throw error;
      }
      return versions;
    };
    const expectFrom = (storage: MemoryStorage, versions: readonly Buffer[], from: number, what: string): void => {
      const view = viewOf(below, layerOf(storage.open("cow"), below));
      for (let sector = 0; sector < size / 512; sector++) {
        const now = view.subarray(sector * 512, (sector + 1) * 512);
        const fits = versions.slice(from).some((each) => each.subarray(sector * 512, (sector + 1) * 512).equals(now));
        if (!fits) expect.fail(`${what}: sector ${sector} is of no version from ${from} on`);
      }
    };
    let states = 0;
    for (let limit = 0; ; limit++) {
      const storage = start.clone();
      storage.onChange = (_change, index) => {
        if (index >= limit) throw new Error("killed");
      };
      const at = { committed: 0, flushed: 0, done: 0 };
      const isOver = limit > 2000;
      let versions: Buffer[];
      try {
        versions = work(storage, at);
      } catch {
        // Killed while it was opened.
        continue;
      }
      expectFrom(storage, versions, at.committed, `killed before change ${limit}`);
      for (let seed = 0; seed < 3; seed++) {
        const next = random(limit * 10 + seed);
        const share = [0, 0.5, next()][seed] ?? 0;
        expectFrom(
          storage.powerCut(start, () => next() < share),
          versions,
          at.flushed,
          `power cut before change ${limit}`,
        );
        states++;
      }
      if (at.done === 40 && at.flushed === 40) break;
      if (isOver) expect.fail("does not end");
    }
    expect(states).toBeGreaterThan(200);
  });
});
