/**
 * Proves that merging a store into its origin leaves the view as it is, whatever happens: killed before each change, and
 * with any choice of what was not flushed lost, the pair shows the same, and the same call completes the work.
 */
import { describe, expect, it } from "vitest";
import { MemoryStorage } from "../../../src/lib/device/memory-storage.ts";
import { CowError } from "../../../src/lib/errors.ts";
import { DmSnapshotLayer } from "../../../src/lib/formats/dm-snapshot/layer.ts";
import { WritableStore } from "../../../src/lib/formats/dm-snapshot/writable-store.ts";
import {
  convert,
  invert,
  merge as mergeCommand,
  type Notice,
  openStack,
  repair,
  squash,
} from "../../../src/lib/index.ts";
import { type MergeStoreHooks, mergeStore } from "../../../src/lib/operations/merge/store.ts";
import { Overlay } from "../../../src/lib/stack/overlay.ts";
import { createStore } from "../../support/images/write-store.ts";
import { noise, random } from "../../support/random.ts";
import { bytesOf } from "../../support/storage/memory-files.ts";

const POWER_CUTS = 5;

class Killed extends Error {}

/** Origin and store of `chunks` exceptions, scattered and in runs; the origin's last chunk is cut short. */
function makePair(chunkSectors: number, exceptions: number): MemoryStorage {
  const chunkBytes = chunkSectors * 512;
  const storage = new MemoryStorage();
  const originChunks = 2 * exceptions + 8;
  storage.put("origin", noise(originChunks * chunkBytes - (chunkSectors > 1 ? 512 : 0), 1));
  storage.put("store", noise((exceptions + 80) * chunkBytes, 2));
  const target = storage.open("store", { writable: true });
  createStore(target, { chunkSectors });
  const store = new WritableStore(target, { below: storage.open("origin"), mayGrow: true });
  const next = random(chunkSectors);
  const olds = new Set<number>([originChunks - 1]);
  while (olds.size < exceptions) {
    const at = Math.floor(next() * (originChunks - 4));
    for (let i = 0; i < 4 && olds.size < exceptions; i++) olds.add(at + i);
  }
  for (const old of olds) {
    store.reserve(1);
    target.write(noise(chunkBytes, 1000 + old), store.nextFree * chunkBytes);
    store.take(old, 1);
    if (next() < 0.1) store.commit();
  }
  store.flush();
  return storage.clone();
}

function view(storage: MemoryStorage): Buffer {
  const origin = storage.open("origin");
  const layer = new DmSnapshotLayer(storage.open("store"), { below: origin, lenient: false });
  return bytesOf(new Overlay("view", origin, [layer]));
}

const merge = (storage: MemoryStorage, hooks: MergeStoreHooks = {}) =>
  mergeStore(storage.open("store", { writable: true }), storage.open("origin", { writable: true }), hooks);

async function runUntil(initial: MemoryStorage, limit: number, hooks: MergeStoreHooks) {
  const storage = initial.clone();
  storage.onChange = (_change, index) => {
    if (index >= limit) throw new Killed();
  };
  let killed = false;
  try {
    await merge(storage, hooks);
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    killed = true;
  }
  storage.onChange = () => undefined;
  return { storage, killed };
}

describe("merging a store into its origin", () => {
  it.each([
    [1, 100, 1 << 20],
    [1, 100, 7],
    [2, 70, 50],
    [8, 12, 1],
  ])(
    "chunks of %i sectors, %i exceptions, %i a step: the view is the same at every point of a crash",
    async (chunkSectors, exceptions, stepExceptions) => {
      const initial = makePair(chunkSectors, exceptions);
      const expected = view(initial);
      let states = 0;
      for (let limit = 0; ; limit++) {
        const { storage, killed } = await runUntil(initial, limit, { stepExceptions });
        if (!killed) break;
        const after = [storage.clone()];
        for (let seed = 0; seed < POWER_CUTS; seed++) {
          const next = random(limit * 100 + seed);
          const share = seed === 0 ? 0 : next();
          after.push(storage.powerCut(initial, () => next() < share));
        }
        for (const state of after) {
          expect(view(state).equals(expected), `killed before change ${limit}`).toBe(true);
          states++;
        }
        const resumed = after[limit % after.length] ?? storage;
        await merge(resumed);
        expect(bytesOf(resumed.open("origin")).equals(expected)).toBe(true);
        expect(view(resumed).equals(expected)).toBe(true);
      }
      expect(states).toBeGreaterThan(30);
      const whole = initial.clone();
      await merge(whole);
      const layer = new DmSnapshotLayer(whole.open("store"), { lenient: false });
      expect(layer.opened.verdicts.scan.olds.length).toBe(0);
      expect(layer.opened.verdicts.scan.stale).toBeUndefined();
      expect(bytesOf(whole.open("origin")).equals(expected)).toBe(true);
    },
  );

  it("ends a step where it is interrupted, and goes on from there", async () => {
    const start = makePair(1, 200);
    const expected = view(start);
    const stop = new AbortController();
    stop.abort();
    const hooks = { signal: stop.signal, stepExceptions: 80 };
    await expect(merge(start, hooks)).rejects.toThrow(/80 of 200 chunks are merged/);
    expect(view(start).equals(expected)).toBe(true);
    await expect(merge(start, hooks)).rejects.toThrow(CowError);
    expect(await merge(start)).toEqual({ exceptions: 40, bytes: 40 * 512 });
    expect(bytesOf(start.open("origin")).equals(expected)).toBe(true);
  });

  it("refuses a store that a kernel gave up, before anything is written", async () => {
    const storage = makePair(2, 10);
    const target = storage.open("store", { writable: true });
    target.write(new Uint8Array(4), 4);
    const before = bytesOf(storage.open("origin"));
    await expect(merge(storage)).rejects.toThrow(/marked invalid/);
    expect(bytesOf(storage.open("origin")).equals(before)).toBe(true);
  });

  it("refuses a store that holds chunks beyond the end of the origin, --force and -n as well, and changes nothing", async () => {
    const storage = makePair(2, 20);
    const whole = view(storage);
    const origin = bytesOf(storage.open("origin"));
    const before = bytesOf(storage.open("store"));
    const short = origin.subarray(0, 20 * 1024);
    storage.put("short", short);
    for (const request of [{}, { force: true }, { dryRun: true, force: true }]) {
      const error = await mergeCommand("short", "store", request, { storage }).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        code: "wrong-base",
        message: expect.stringMatching(/^holds \d+ chunks beyond the end of short, which has 20480 bytes/),
        details: { file: "store", base_bytes: 20480, needed_bytes: whole.length + 512 },
      });
    }
    await expect(
      mergeStore(storage.open("store", { writable: true }), storage.open("short", { writable: true }), {}),
    ).rejects.toMatchObject({ code: "wrong-base" });
    expect(bytesOf(storage.open("short")).equals(short)).toBe(true);
    expect(bytesOf(storage.open("store")).equals(before)).toBe(true);
    expect(view(storage).equals(whole)).toBe(true);
  });

  it.each(["a stack", "merge -o", "squash", "convert", "invert"] as const)(
    "%s says what it leaves out of such a store",
    async (what) => {
      const storage = makePair(2, 20);
      storage.put("short", bytesOf(storage.open("origin")).subarray(0, 20 * 1024));
      const notices: string[] = [];
      const context = { storage, onNotice: ({ message }: Notice) => void notices.push(message) };
      if (what === "a stack") (await openStack(storage, "short,store", context)).close();
      if (what === "merge -o") await mergeCommand("short", "store", { output: "new" }, context);
      if (what === "squash") await squash("short,store", "new", {}, context);
      if (what === "convert") await convert("short,store", "new", { to: "raw" }, context);
      if (what === "invert") await invert("short", "store", { output: "new", layer: "inverse" }, context);
      expect(notices.join("\n")).toMatch(
        /holds \d+ chunks beyond the end of short, which has 20480 bytes: they are left out/,
      );
    },
  );

  it("repair gives such chunks up only where that is asked for", async () => {
    const storage = makePair(2, 20);
    storage.put("short", bytesOf(storage.open("origin")).subarray(0, 20 * 1024));
    const before = bytesOf(storage.open("store"));
    await expect(repair("store", { rdofile: "short", force: true }, { storage })).rejects.toMatchObject({
      code: "damaged",
      hints: [expect.stringContaining("--drop-lost")],
    });
    expect(bytesOf(storage.open("store")).equals(before)).toBe(true);
    await repair("store", { rdofile: "short", dropLost: true }, { storage });
    await mergeCommand("short", "store", {}, { storage });
  });

  it("removes no tuple behind the end of the list whose data is not in the origin", async () => {
    const storage = makePair(2, 20);
    const target = storage.open("store", { writable: true });
    // A gap after the third tuple hides all that follow.
    target.write(new Uint8Array(16), 2 * 512 + 3 * 16);
    const before = bytesOf(target);
    for (const dryRun of [true, false])
      await expect(mergeCommand("origin", "store", { dryRun }, { storage })).rejects.toMatchObject({
        code: "damaged",
        message: expect.stringContaining("after the end of its list"),
        hints: [expect.stringContaining("cowtool repair store")],
      });
    expect(bytesOf(target).equals(before)).toBe(true);
  });
});
