/**
 * Proves that invert, and a merge into the cowfile below, are finished by the same command wherever they were killed, the
 * last moments included: it makes what is missing, or says that all is done. Runs on MemoryStorage.
 */
import { describe, expect, test } from "vitest";
import { CowError, create, invert, MemoryStorage, merge } from "../../../src/lib/index.ts";
import { noise } from "../../support/random.ts";

const BLOCK = 1024;
const BASE = Buffer.from(noise(40 * BLOCK, 1));

function changed(image: Buffer, ...blocks: number[]): Buffer {
  const copy = Buffer.from(image);
  for (const block of blocks) copy.set(noise(BLOCK, 100 + block), block * BLOCK);
  return copy;
}

class Killed extends Error {}

/** Every state in which a kill before any change leaves the storage, and the one at the end. */
async function* killedStates(initial: MemoryStorage, work: (storage: MemoryStorage) => Promise<unknown>) {
  for (let limit = 0, killed = true; killed; limit++) {
    const storage = initial.clone();
    storage.onChange = (_change, index) => {
      if (index >= limit) throw new Killed();
    };
    killed = false;
    await work(storage).catch((error: unknown) => {
      if (!(error instanceof Killed)) throw error;
      killed = true;
    });
    storage.onChange = () => undefined;
    yield { name: killed ? `killed before change ${limit}` : "not killed", storage };
  }
}

function bytesOf(storage: MemoryStorage, path: string): Buffer {
  return Buffer.from(storage.content(path)?.toBytes() ?? []);
}

async function invertible(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base", BASE);
  storage.put("changed", changed(BASE, 3, 20, 39));
  await create("base", "cow", { from: "changed" }, { storage });
  return storage.clone();
}

const exchange = (storage: MemoryStorage) => invert("base", "cow", { output: "new", layer: "old.cow" }, { storage });

describe("invert", () => {
  test("killed anywhere, is finished by the same command", async () => {
    const initial = await invertible();
    const whole = initial.clone();
    await exchange(whole);
    const done: boolean[] = [];
    for await (const { name, storage } of killedStates(initial, exchange)) {
      done.push((await exchange(storage)).already_done);
      for (const path of ["new", "old.cow"])
        expect(bytesOf(storage, path).equals(bytesOf(whole, path)), `${path}, ${name}`).toBe(true);
      await merge("new", "old.cow", { output: "view" }, { storage });
      expect(bytesOf(storage, "view").equals(BASE), name).toBe(true);
    }
    expect(done.at(-1)).toBe(true);
    expect(done.filter((each) => !each).length).toBeGreaterThan(3);
  });

  test("takes nothing for its own that is not", async () => {
    const initial = await invertible();
    const foreign = initial.clone();
    foreign.put("new", changed(BASE, 3, 20));
    await expect(exchange(foreign)).rejects.toMatchObject({ code: "exists", details: { file: "new" } });
    await exchange(initial);
    await create("new", "other.cow", {}, { storage: initial });
    initial.put("old.cow", bytesOf(initial, "other.cow"));
    await expect(exchange(initial)).rejects.toMatchObject({ code: "exists", details: { file: "old.cow" } });
  });
});

async function stacked(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base", BASE);
  storage.put("first", changed(BASE, 0, 3, 20));
  storage.put("second", changed(changed(BASE, 0, 3, 20), 1, 2, 30));
  await create("base", "lower", { from: "first" }, { storage });
  await create("base,lower", "upper", { from: "second" }, { storage });
  return storage.clone();
}

describe("a merge into the cowfile below", () => {
  const work = (storage: MemoryStorage) => merge("base,lower", "upper", {}, { storage });

  test("killed anywhere, is finished by the same command, though the fingerprint below it changed", async () => {
    const initial = await stacked();
    const already: boolean[] = [];
    for await (const { name, storage } of killedStates(initial, work)) {
      already.push((await work(storage)).already_merged);
      await merge("base", "lower", { output: "view" }, { storage });
      expect(bytesOf(storage, "view").equals(bytesOf(initial, "second")), name).toBe(true);
    }
    expect(already[0]).toBe(false);
    expect(already.at(-1)).toBe(true);
  });

  test("says whether the fingerprint changed, -n as well", async () => {
    const storage = await stacked();
    for (const dryRun of [true, false])
      expect((await merge("base,lower", "upper", { dryRun }, { storage })).fingerprint_changed).toBe(true);
    storage.put("third", changed(bytesOf(storage, "second"), 35));
    await create("base,lower", "top", { from: "third" }, { storage });
    expect((await merge("base,lower", "top", {}, { storage })).fingerprint_changed).toBe(false);
  });

  test("is refused where data of that would be lost that is not marked", async () => {
    const storage = await stacked();
    const lower = bytesOf(storage, "lower");
    lower.fill(7, 4096 + 10 * BLOCK, 4096 + 11 * BLOCK);
    storage.put("lower", lower);
    const error = await work(storage).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CowError);
    expect(error).toMatchObject({ code: "unsuitable", details: { unmarked_blocks: 1, first_block: 10 } });
    expect(bytesOf(storage, "lower").equals(lower)).toBe(true);
    await merge("base,lower", "upper", { force: true }, { storage });
    expect((await work(storage)).already_merged).toBe(true);
  });
});
