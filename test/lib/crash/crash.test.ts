/**
 * Proves that repair, merge, merge --undo and create survive being killed at every change they make, and losing power
 * there with any choice of what was not flushed: the same command then completes the work. Runs on MemoryStorage.
 */
import { describe, expect, it } from "vitest";
import { CowError, create, MemoryStorage, merge, repair, SparseBytes } from "../../../src/lib/index.ts";
import { isExhaustive } from "../../support/sample.ts";
import { type CrashState, crashStates } from "../../support/storage/crash-states.ts";

const BLOCK = 1024;
const BLOCKS = 9000; // more than one 1 KiB piece of bitmap
const POWER_CUTS_PER_POINT = isExhaustive ? 8 : 3;

function image(fill: (block: number) => number): Uint8Array {
  const bytes = new Uint8Array(BLOCKS * BLOCK);
  for (let block = 0; block < BLOCKS; block++) {
    const value = fill(block);
    if (value === 0) continue;
    bytes.fill(value, block * BLOCK, (block + 1) * BLOCK);
    // 1024 equal bytes add up to 0 mod 256, and would leave no trace in a fingerprint.
    bytes[block * BLOCK] = 2 * value;
  }
  return bytes;
}

/** Blocks 0 to 3 make the fingerprint; the changed image differs in two of them, in places far apart, and by zeros. */
const BASE = image((block) => (block < 6 ? block + 1 : block % 97 === 0 ? 7 : 0));
const CHANGED = image((block) => {
  if (block === 1) return 0x55;
  if (block === 3) return 0;
  if (block >= 40 && block < 50) return 9;
  if (block === 97) return 0;
  if (block === 8500 || block === BLOCKS - 1) return 3;
  return block < 6 ? block + 1 : block % 97 === 0 ? 7 : 0;
});

async function start(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base", BASE);
  storage.put("changed", CHANGED);
  await create("base", "cow", { from: "changed" }, { storage });
  return storage.clone();
}

function crashes(
  initial: MemoryStorage,
  work: (storage: MemoryStorage) => Promise<unknown>,
): AsyncGenerator<CrashState> {
  return crashStates(initial, work, POWER_CUTS_PER_POINT);
}

function bytesOf(storage: MemoryStorage, path: string): Buffer {
  return Buffer.from(storage.content(path)?.toBytes() ?? []);
}

const [BASE_CONTENT, CHANGED_CONTENT] = [SparseBytes.from(BASE), SparseBytes.from(CHANGED)];
const ZERO_PAGE = new Uint8Array(4096);

/** Page by page: most of the images is holes. */
function holds(storage: MemoryStorage, path: string, wanted: SparseBytes): boolean {
  const content = storage.content(path);
  if (content?.sizeBytes !== wanted.sizeBytes) return false;
  const pageOf = ({ pages }: SparseBytes, index: number): Uint8Array => pages.get(index) ?? ZERO_PAGE;
  return [...new Set([...content.pages.keys(), ...wanted.pages.keys()])].every(
    (index) => Buffer.compare(pageOf(content, index), pageOf(wanted, index)) === 0,
  );
}

/** Is it what the driver would open, or refuse as dirty? Never clean and inconsistent. */
function expectHonest(storage: MemoryStorage, path: string): void {
  const bytes = bytesOf(storage, path);
  const dirty = (bytes.readInt16LE(6) & 1) === 1;
  let used = 0;
  for (const byte of bytes.subarray(1024, 1024 + Number(bytes.readBigUInt64LE(16))))
    used += byte.toString(2).replaceAll("0", "").length;
  if (!dirty) expect(used, "a clean head counts what is marked").toBe(Number(bytes.readBigUInt64LE(48)));
}

describe("a crash at any point", () => {
  it("of repair on a dirty file leaves one that the same command repairs", async () => {
    const initial = await start();
    const clean = bytesOf(initial, "cow");
    const dirty = Buffer.from(clean);
    dirty.writeInt16LE(1, 6);
    dirty.writeBigUInt64LE(0n, 48);
    dirty.fill(0, 1024, 2048 + 1024);
    initial.put("cow", dirty);
    const work = (storage: MemoryStorage) => repair("cow", {}, { storage });
    const whole = initial.clone();
    await work(whole);
    let states = 0;
    for await (const { name, storage } of crashes(initial, work)) {
      expectHonest(storage, "cow");
      await work(storage);
      expect(bytesOf(storage, "cow").equals(bytesOf(whole, "cow")), name).toBe(true);
      states++;
    }
    expect(states).toBeGreaterThan(4 * POWER_CUTS_PER_POINT);
  });

  it("of repair -f on a clean file with unmarked data (D05) never leaves it clean and inconsistent", async () => {
    const initial = await start();
    const window = bytesOf(initial, "cow");
    window[1024 + 5] = 0; // blocks 40 to 47 written, not marked: the head, still clean, counts without them
    const used = window.readBigUInt64LE(48);
    window.writeBigUInt64LE(used - 8n, 48);
    initial.put("cow", window);
    const work = (storage: MemoryStorage) => repair("cow", { force: true }, { storage });
    const whole = initial.clone();
    await work(whole);
    expect(Number(bytesOf(whole, "cow").readBigUInt64LE(48))).toBe(Number(used));
    for await (const { name, storage } of crashes(initial, work)) {
      expectHonest(storage, "cow");
      await work(storage);
      expect(bytesOf(storage, "cow").equals(bytesOf(whole, "cow")), name).toBe(true);
    }
  });

  it("of a merge in place is completed by the same command, though the fingerprint's blocks change", async () => {
    const initial = await start();
    const work = (storage: MemoryStorage) => merge("base", "cow", {}, { storage });
    expect((await work(initial.clone())).fingerprint_changed).toBe(true);
    let resumed = 0;
    for await (const { name, storage } of crashes(initial, work)) {
      const result = await work(storage);
      if (result.resumed) resumed++;
      expect(holds(storage, "base", CHANGED_CONTENT), name).toBe(true);
      expect(storage.paths(), name).toEqual(["base", "changed", "cow", "cow.cowtool-base"]);
    }
    expect(resumed).toBeGreaterThan(20);
  });

  it("of a merge with an undo file is completed by the same command, and can be undone", async () => {
    const initial = await start();
    const work = (storage: MemoryStorage) => merge("base", "cow", { undo: "undo" }, { storage });
    for await (const { name, storage } of crashes(initial, work)) {
      await work(storage);
      expect(holds(storage, "base", CHANGED_CONTENT), name).toBe(true);
      await merge("base", "undo", {}, { storage });
      expect(holds(storage, "base", BASE_CONTENT), name).toBe(true);
    }
  });

  it("of a merge with an undo file can be taken back by merging that file, itself crashing at any point", async () => {
    const initial = await start();
    const forward = (storage: MemoryStorage) => merge("base", "cow", { undo: "undo" }, { storage });
    const back = (storage: MemoryStorage) => merge("base", "undo", {}, { storage });
    let taken = 0;
    let states = 0;
    for await (const { name, storage } of crashStates(initial, forward, 2)) {
      const begun = storage.paths().includes("undo") && !holds(storage, "base", BASE_CONTENT);
      if (!begun || states++ % 12 !== 0) continue;
      const half = storage.clone();
      for await (const again of crashStates(half, back, 1)) {
        await back(again.storage).catch((error: unknown) => {
          // Taken back already, or not begun when it crashed: the undo file then has nothing to undo.
          if (!(error instanceof CowError && ["wrong-base", "pending-merge"].includes(error.code))) throw error;
        });
        expect(holds(again.storage, "base", BASE_CONTENT), `${name}, then ${again.name}`).toBe(true);
        taken++;
      }
    }
    expect(taken).toBeGreaterThan(0);
  });

  it("of create --from leaves no cowfile, or the whole one", async () => {
    const initial = await start();
    const whole = bytesOf(initial, "cow");
    initial.remove("cow");
    const before = initial.clone();
    const work = (at: MemoryStorage) => create("base", "cow", { from: "changed" }, { storage: at });
    for await (const { name, storage } of crashes(before, work)) {
      if (storage.paths().includes("cow")) expect(bytesOf(storage, "cow").equals(whole), name).toBe(true);
    }
  });
});
