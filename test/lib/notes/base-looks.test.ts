/**
 * Proves that a server reads a base once for all cowfiles over it, again once it has changed, and that a record says what
 * was there when the base was opened.
 */
import { describe, expect, test } from "vitest";
import { type BlockDevice, create, type OpenOptions } from "../../../src/lib/index.ts";
import { BaseLooks } from "../../../src/lib/operations/identity/serve-base.ts";
import { LowerStacks } from "../../../src/lib/stack/live/shared-lower.ts";
import { StackSpec } from "../../../src/lib/stack/spec.ts";
import { BASE, listening, poke, TimedStorage } from "../../support/images/noted-base.ts";

const NAMES = ["a", "b", "c"];
const WRITTEN = { isWritten: true, force: false };

/** Counts bytes that are read of the base. */
class Counting extends TimedStorage {
  baseBytes = 0;

  override open(path: string, options?: OpenOptions): BlockDevice {
    const device = super.open(path, options);
    if (path !== "base") return device;
    const read = device.read.bind(device);
    device.read = (target, offset) => {
      this.baseBytes += target.length;
      return read(target, offset);
    };
    return device;
  }
}

/** A server with what it looks at, over a base that all of the cowfiles are over. */
async function begin(identity: "none" | "full") {
  const storage = new Counting();
  storage.put("base", BASE);
  storage.times.set("base", 1);
  for (const name of NAMES) await create("base", name, { identity }, { storage });
  const context = listening(storage);
  const lowers = new LowerStacks(storage);
  // As an export has it open.
  const lower = await lowers.acquire(StackSpec.parse(storage, "base"));
  const looks = new BaseLooks(lowers, context);
  const look = (name: string) => looks.look(StackSpec.parse(storage, `base,${name}`), WRITTEN);
  storage.baseBytes = 0;
  return { storage, context, lower, look };
}

const notes = (storage: TimedStorage): string[] => storage.paths().filter((path) => path.endsWith(".cowtool-base"));

describe("the base of many cowfiles", () => {
  test("without records is read once, after they are served, and recorded beside each", async () => {
    const { storage, lower, look } = await begin("none");
    const looked = await Promise.all(NAMES.map(look));
    expect(storage.baseBytes).toBe(0);
    for (const each of looked) each.settle();
    expect([storage.baseBytes, notes(storage)]).toEqual([0, []]);
    await Promise.all(looked.map((each) => each.end()));
    expect(storage.baseBytes).toBe(BASE.length);
    expect(notes(storage)).toEqual(NAMES.map((name) => `${name}.cowtool-base`));
    lower.release();
  });

  test("is recorded in the background, without an end", async () => {
    const { storage, look } = await begin("none");
    for (const each of await Promise.all(NAMES.map(look))) each.settle();
    await expect.poll(() => notes(storage).length).toBe(NAMES.length);
  });

  test("that was touched is compared once, and once more when it is touched again", async () => {
    const { storage, lower, look } = await begin("full");
    storage.times.set("base", 2);
    const looked = [await look("a"), await look("b")];
    const once = storage.baseBytes;
    // Besides the blocks of the fingerprint.
    expect([once >= BASE.length, once < 2 * BASE.length]).toEqual([true, true]);
    poke(storage, 10);
    storage.times.set("base", 3);
    await expect(look("c")).rejects.toThrow("was changed since");
    expect(storage.baseBytes).toBeGreaterThan(once);
    for (const each of looked) await each.end();
    lower.release();
  });

  test("that changed after it was opened is not recorded, and that is said", async () => {
    const { storage, context, lower, look } = await begin("none");
    const looked = await look("a");
    looked.settle();
    storage.times.set("base", 2);
    await looked.end();
    expect(notes(storage)).toEqual([]);
    expect(context.notices).toMatchObject([{ severity: "note", file: "base" }]);
    lower.release();
  });
});
