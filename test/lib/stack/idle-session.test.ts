/**
 * Proves that an export to which nothing is written costs next to nothing on disk: a journal of one block, of which nothing
 * is made durable, and none of the room that a first change makes. What a full disk then refuses leaves the cowfile clean.
 */
import { expect, test } from "vitest";
import { LARGE_BYTES } from "../../../src/lib/device/sys/memory.ts";
import { JOURNAL_HEADER_BYTES, readJournal } from "../../../src/lib/formats/cowfile/live/journal.ts";
import { create, MemoryStorage } from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { newSharedState } from "../../../src/lib/stack/live/shared-state.ts";
import { type Fault, FaultyStorage } from "../../support/storage/faulty-storage.ts";

const JOURNAL = "cow.cowtool-live";

async function start(storage = new MemoryStorage()): Promise<MemoryStorage> {
  storage.put("base", new Uint8Array(1 << 20).fill(7));
  await create("base", "cow", { identity: "none" }, { storage });
  return storage;
}

test("without a change the journal is its header; the first change makes room, once", async () => {
  const storage = await start();
  const stack = await ServedStack.open(storage, "base,cow", { access: "writable" });
  const size = (): number => storage.facts(JOURNAL)?.allocatedBytes ?? -1;
  const image = stack.image();
  image.flush();
  stack.checkpoint();
  expect(size()).toBe(JOURNAL_HEADER_BYTES);
  image.write(new Uint8Array(1024).fill(1), 0);
  image.commit();
  const room = size();
  expect(room).toBeGreaterThan(64 << 10);
  stack.image().write(new Uint8Array(1024).fill(1), 8192);
  expect(size()).toBe(room);
  stack.abandon();
  const again = await ServedStack.open(storage, "base,cow", { access: "writable" });
  expect(again.found).toBe("recovered");
  again.close();
  expect(storage.paths()).not.toContain(JOURNAL);
});

test("opening and closing make nothing durable, also beside a journal that was left there; the first change does", async () => {
  const storage = await start();
  const synced = (from: number): number =>
    storage.log
      .slice(from)
      .filter((each) => each.kind === "sync-names" || (each.kind === "device" && each.change.kind === "flush")).length;
  const before = storage.log.length;
  const stack = await ServedStack.open(storage, "base,cow", { access: "writable" });
  stack.close();
  expect(storage.paths()).not.toContain(JOURNAL);
  expect(synced(before)).toBe(0);
  // What a power cut may leave.
  storage.put(JOURNAL, new Uint8Array(8192));
  const again = await ServedStack.open(storage, "base,cow", { access: "writable" });
  // The journal, its name, the head.
  const opened = storage.log.length;
  again.image().write(new Uint8Array(1024).fill(1), 0);
  expect(synced(opened)).toBe(3);
  again.close();
  expect(storage.paths()).not.toContain(JOURNAL);
});

test("a cowfile whose head could not be made dirty durably keeps its journal", async () => {
  const storage = await start();
  const faulty = new FaultyStorage(storage, ({ kind, path }) =>
    kind === "flush" && path === "cow" ? { errno: "EIO" } : undefined,
  );
  const stack = await ServedStack.open(faulty, "base,cow", { access: "writable" });
  expect(() => stack.image().write(new Uint8Array(1024).fill(1), 0)).toThrow("fdatasync");
  expect(() => stack.close()).toThrow("earlier write or fsync failed");
  const again = await ServedStack.open(storage, "base,cow", { access: "writable" });
  expect(again.found).toBe("recovered");
  again.close();
});

test("a first change that finds no room in the journal is refused, changes nothing, and can be tried again", async () => {
  const storage = await start();
  let fault: Fault | undefined;
  const faulty = new FaultyStorage(storage, ({ kind, path }) =>
    kind === "write" && path === JOURNAL ? fault : undefined,
  );
  const stack = await ServedStack.open(faulty, "base,cow", { access: "writable" });
  const image = stack.image();
  const before = storage.content("cow")?.toBytes();
  fault = { errno: "ENOSPC", doneBytes: 512 };
  expect(() => image.write(new Uint8Array(1024).fill(1), 0)).toThrow("no space");
  expect(storage.content("cow")?.toBytes()).toEqual(before);
  fault = undefined;
  image.write(new Uint8Array(1024).fill(1), 0);
  image.commit();
  const found = readJournal(storage.open(JOURNAL));
  expect(found?.runs).toEqual([{ first: 0, count: 1 }]);
  stack.close();
});

test("what threads share of it is one piece of memory, large enough to take only what is touched", () => {
  const parts = Object.values(newSharedState(4096));
  const [memory] = new Set(parts.map(({ buffer }) => buffer));
  expect(memory?.byteLength).toBeGreaterThan(LARGE_BYTES);
  // Each part by itself.
  let end = 0;
  for (const { byteOffset, byteLength } of parts) {
    expect(byteOffset).toBeGreaterThanOrEqual(end);
    end = byteOffset + byteLength;
  }
  expect(new Set(parts.map(({ buffer }) => buffer)).size).toBe(1);
});
