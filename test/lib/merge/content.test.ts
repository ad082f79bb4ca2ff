/**
 * Proves what a merge knows by the content of base and layer, whatever the layer's format: that all is there already, that
 * an undo file would undo nothing, that the base is half merged under another name, what is not marked and so not merged.
 */
import { describe, expect, test } from "vitest";
import {
  type BlockDevice,
  CowError,
  convert,
  create,
  invert,
  MemoryStorage,
  merge,
  type Notice,
  type OpenOptions,
  type OperationContext,
  openStack,
  pack,
  squash,
} from "../../../src/lib/index.ts";
import { noise } from "../../support/random.ts";

const BLOCK = 1024;
const BASE = Buffer.from(noise(64 * BLOCK, 1));
const JOURNAL = "base.cowtool-merge";

function changed(...blocks: number[]): Buffer {
  const copy = Buffer.from(BASE);
  for (const block of blocks) copy.set(noise(BLOCK, 100 + block), block * BLOCK);
  return copy;
}

/** `cow` over `base` changes blocks of which no fingerprint is made. */
async function start(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base", BASE);
  storage.put("changed", changed(20, 40, 50));
  await create("base", "cow", { from: "changed" }, { storage });
  return storage.clone();
}

function bytesOf(storage: MemoryStorage, path: string): Buffer {
  return Buffer.from(storage.content(path)?.toBytes() ?? []);
}

class Killed extends Error {}

/** Killed before the second block of the base is written. */
async function halfMerge(storage: MemoryStorage): Promise<void> {
  let writes = 0;
  storage.onChange = (change) => {
    if (
      change.kind === "device" &&
      change.change.kind === "write" &&
      change.change.bytes.length === BLOCK &&
      ++writes > 1
    )
      throw new Killed();
  };
  await merge("base", "cow", {}, { storage }).catch((error: unknown) => {
    if (!(error instanceof Killed)) throw error;
  });
  storage.onChange = () => undefined;
  expect(storage.paths()).toContain(JOURNAL);
  expect(bytesOf(storage, "base").equals(changed(20))).toBe(true);
}

function move(storage: MemoryStorage, from: string, to: string): void {
  storage.put(to, bytesOf(storage, from));
  storage.remove(from);
}

describe("a merge that is complete already", () => {
  test("is known where the fingerprint did not change, and gets no undo file", async () => {
    const storage = await start();
    expect(await merge("base", "cow", {}, { storage })).toMatchObject({ already_merged: false, blocks_merged: 3 });
    const notices: Notice[] = [];
    const context = { storage, onNotice: (notice: Notice) => void notices.push(notice) };
    expect(await merge("base", "cow", { undo: "undo" }, context)).toMatchObject({
      already_merged: true,
      blocks_merged: 0,
      undo: null,
    });
    expect(storage.paths()).not.toContain("undo");
    expect(notices).toEqual([
      { severity: "note", file: "undo", message: "was not made: there is nothing to take back" },
    ]);
  });

  test.each(["qcow2", "dm-snapshot"] as const)(
    "is known for a %s layer, and whether the fingerprint changed",
    async (to) => {
      for (const [blocks, isOther] of [
        [[20], false],
        [[1, 20], true],
      ] as const) {
        const storage = await start();
        storage.put("changed", changed(...blocks));
        const units = to === "qcow2" ? { clusterBytes: 1024 } : { chunkBytes: 1024 };
        await convert("changed", "layer", { to, base: "base", ...units }, { storage });
        for (const dryRun of [true, false])
          expect((await merge("base", "layer", { dryRun }, { storage })).fingerprint_changed).toBe(isOther);
        expect(bytesOf(storage, "base").equals(changed(...blocks))).toBe(true);
        expect(await merge("base", "layer", {}, { storage })).toMatchObject({
          already_merged: true,
          blocks_merged: 0,
          fingerprint_changed: false,
        });
      }
    },
  );
});

describe("no undo file is made of a base that is half merged under another name", () => {
  const withUndo = (storage: MemoryStorage, force = false) =>
    merge("other", "cow", { undo: "undo", force }, { storage });

  test("as its journal under the old name tells", async () => {
    const storage = await start();
    await halfMerge(storage);
    move(storage, "base", "other");
    const error = await withUndo(storage).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "pending-merge", details: { file: "other", journal: JOURNAL } });
    expect((error as CowError).hints.join()).toContain(`mv ${JOURNAL} other.cowtool-merge`);
    expect(storage.paths()).not.toContain("undo");
    move(storage, JOURNAL, "other.cowtool-merge");
    expect(await merge("other", "cow", {}, { storage })).toMatchObject({ resumed: true });
    expect(bytesOf(storage, "other").equals(changed(20, 40, 50))).toBe(true);
  });

  test("as the note beside the cowfile tells, where the journal is not to be found", async () => {
    const storage = await start();
    await halfMerge(storage);
    move(storage, "base", "other");
    storage.remove(JOURNAL);
    await expect(withUndo(storage)).rejects.toMatchObject({ code: "pending-merge", details: { file: "other" } });
    expect(storage.paths()).not.toContain("undo");
    // Another copy, of which nothing is overwritten yet, is no such base.
    storage.put("other", BASE);
    expect(await withUndo(storage)).toMatchObject({ undo: "undo", blocks_merged: 3 });
    await merge("other", "undo", {}, { storage });
    expect(bytesOf(storage, "other").equals(BASE)).toBe(true);
  });
});

test("an undo file is the file that `create --from` makes of the same content, zeros in it stay holes", async () => {
  const storage = await start();
  const original = Buffer.from(BASE);
  original.fill(0, 36 * BLOCK, 48 * BLOCK);
  storage.put("original", original);
  storage.put("base", original);
  await create("base", "cow2", { from: "changed", force: true }, { storage });
  await merge("base", "cow2", { undo: "undo" }, { storage });
  await create("base", "same", { from: "original" }, { storage });
  expect(bytesOf(storage, "undo").equals(bytesOf(storage, "same"))).toBe(true);
  expect(storage.facts("undo")?.allocatedBytes).toBe(storage.facts("same")?.allocatedBytes);
  await merge("base", "undo", {}, { storage });
  expect(bytesOf(storage, "base").equals(original)).toBe(true);
});

test.each(["cowfile", "qcow2"] as const)(
  "a %s that needs more space than is free is refused before the first write",
  async (to) => {
    class Full extends MemoryStorage {
      override freeBytes(): number {
        return 3 * BLOCK;
      }
    }
    const storage = new Full();
    storage.put("base", new Uint8Array(64 * BLOCK));
    storage.put("changed", changed(20, 40, 50));
    await convert("changed", "layer", { to, base: "base" }, { storage });
    const before = storage.log.length;
    for (const dryRun of [true, false])
      await expect(merge("base", "layer", { dryRun }, { storage })).rejects.toMatchObject({ code: "no-space" });
    expect(storage.log).toHaveLength(before);
    expect(await merge("base", "layer", { force: true }, { storage })).toMatchObject({ already_merged: false });
  },
);

describe("a base that refuses every write", () => {
  class Sealed extends MemoryStorage {
    override open(path: string, options: OpenOptions = {}): BlockDevice {
      const device = super.open(path, options);
      const refuse = (): never => {
        throw new CowError("permission", "cannot write: operation not permitted", {
          file: path,
          details: { errno: "EPERM" },
        });
      };
      return path === "base" ? Object.defineProperty(device, "write", { value: refuse }) : device;
    }
  }

  test("is not left half merged", async () => {
    const storage = new Sealed();
    storage.put("base", BASE);
    storage.put("changed", changed(20));
    await create("base", "cow", { from: "changed" }, { storage });
    const before = storage.paths();
    for (const undo of [undefined, "undo"])
      await expect(merge("base", "cow", { undo }, { storage })).rejects.toMatchObject({ code: "permission" });
    expect(storage.paths()).toEqual(before);
    await create("base", "another", {}, { storage });
  });
});

describe("data without a mark in a clean cowfile", () => {
  async function withUnmarked(): Promise<MemoryStorage> {
    const storage = await start();
    const cow = bytesOf(storage, "cow");
    cow.fill(9, 4096 + 30 * BLOCK, 4096 + 32 * BLOCK);
    storage.put("cow", cow);
    return storage;
  }
  const said =
    /^2 blocks hold data, but are not allocated \(the first is block 30\), and are not (merged|packed|squashed|converted|in the new files): `cowtool repair -f cow`/;

  test.each([
    ["merge in place", {}],
    ["merge -n", { dryRun: true }],
    ["merge -o", { output: "out" }],
  ])("%s says how many blocks it leaves out", async (_, request) => {
    const notices: string[] = [];
    const context = { storage: await withUnmarked(), onNotice: ({ message }: Notice) => void notices.push(message) };
    expect(await merge("base", "cow", request, context)).toMatchObject({ unmarked_blocks: 2, blocks_merged: 3 });
    expect(notices).toEqual([expect.stringMatching(said)]);
  });

  test.each([
    ["pack", (context: OperationContext) => pack("cow", "out", {}, context)],
    ["squash", (context: OperationContext) => squash("base,cow", "out", {}, context)],
    ["convert", (context: OperationContext) => convert("base,cow", "out", { to: "raw" }, context)],
    ["convert of a cowfile alone", (context: OperationContext) => convert("cow", "out", { to: "cowfile" }, context)],
    ["invert", (context: OperationContext) => invert("base", "cow", { output: "out", layer: "over" }, context)],
  ])("%s says so, too", async (_, run) => {
    const notices: string[] = [];
    await run({ storage: await withUnmarked(), onNotice: ({ message }) => void notices.push(message) });
    expect(notices).toEqual([expect.stringMatching(said)]);
  });

  test("is no longer redundant for people", async () => {
    const { mergeSummary } = await import("../../../src/cli/render/merge-summary.ts");
    const result = await merge("base", "cow", {}, { storage: await withUnmarked() });
    const text = [...mergeSummary(result)].join("");
    expect(text).not.toMatch(/redundant|may be removed/);
    expect(text).toContain("cow: all its allocated blocks are now in base too; 2 unallocated blocks may hold data");
  });
});

test("marks that count as not held are told wherever a stack is opened", async () => {
  const storage = await start();
  const cow = bytesOf(storage, "cow").subarray(0, 4096 + 41 * BLOCK);
  cow[BLOCK + 8] = 1; // block 64 of 64
  storage.put("cow", cow);
  const notices: string[] = [];
  const stack = await openStack(storage, "base,cow", { onNotice: ({ message }) => void notices.push(message) });
  stack.close();
  expect(notices).toEqual([
    "1 block is allocated beyond the end of the file, where no data is: the backing shows instead",
    "1 block is allocated beyond the end of the image, and left out",
  ]);
});

test("a journal that does not explain the base is not used: --force begins anew, and saves what is there now", async () => {
  const storage = await start();
  await halfMerge(storage);
  const half = bytesOf(storage, "base");
  half.set(noise(BLOCK, 5), 0);
  storage.put("base", half);
  await expect(merge("base", "cow", { undo: "undo" }, { storage })).rejects.toMatchObject({ code: "wrong-base" });
  const result = await merge("base", "cow", { undo: "undo", force: true }, { storage });
  expect(result).toMatchObject({ resumed: false, already_merged: false, undo: "undo" });
  expect(storage.paths()).not.toContain(JOURNAL);
  await merge("base", "undo", {}, { storage });
  expect(bytesOf(storage, "base").equals(half)).toBe(true);
});

describe("giving an interrupted merge up", () => {
  const giveUp = (storage: MemoryStorage, more: object = {}) =>
    merge("base", "cow", { giveUp: true, ...more }, { storage });

  test("takes the journal away once the cowfile is gone, and nothing else", async () => {
    const storage = await start();
    await halfMerge(storage);
    await expect(giveUp(storage)).rejects.toMatchObject({
      code: "pending-merge",
      message: expect.stringContaining("can be completed"),
    });
    storage.remove("cow");
    await expect(create("base", "new", {}, { storage })).rejects.toMatchObject({
      hints: [expect.stringContaining("COWFILE"), expect.stringContaining("`cowtool merge base cow --give-up`")],
    });
    const half = bytesOf(storage, "base");
    expect(await giveUp(storage, { dryRun: true })).toMatchObject({ given_up: true, dry_run: true });
    expect(storage.paths()).toContain(JOURNAL);
    await expect(merge("base", "vm.cow", { giveUp: true }, { storage })).rejects.toMatchObject({
      code: "pending-merge",
    });
    const asked: object[] = [];
    expect(await giveUp(storage, { confirm: async (question: object) => void asked.push(question) })).toMatchObject({
      given_up: true,
      blocks_merged: 0,
    });
    expect(asked).toMatchObject([{ givesUp: true }]);
    expect(storage.paths()).not.toContain(JOURNAL);
    expect(bytesOf(storage, "base").equals(half)).toBe(true);
    await create("base", "new", {}, { storage });
    await expect(giveUp(storage)).rejects.toMatchObject({ code: "unsuitable" });
  });

  test("points to the undo file while that is there", async () => {
    const storage = await start();
    let writes = 0;
    storage.onChange = (change) => {
      if (change.kind === "device" && change.file === 1 && change.change.kind === "write" && ++writes > 1)
        throw new Killed();
    };
    await merge("base", "cow", { undo: "undo" }, { storage }).catch(() => undefined);
    storage.onChange = () => undefined;
    storage.remove("cow");
    await expect(giveUp(storage)).rejects.toMatchObject({ message: expect.stringContaining("undo is there") });
    expect(await giveUp(storage, { force: true })).toMatchObject({ given_up: true });
  });

  test("of a journal that cannot be read wants --force; create --force passes it over", async () => {
    const storage = await start();
    storage.put(JOURNAL, Buffer.from("rubbish"));
    await expect(create("base", "new", {}, { storage })).rejects.toMatchObject({
      code: "damaged",
      hints: [expect.stringContaining("--force")],
    });
    await create("base", "new", { force: true }, { storage });
    await expect(giveUp(storage)).rejects.toMatchObject({ code: "damaged" });
    await giveUp(storage, { force: true });
    expect(storage.paths()).not.toContain(JOURNAL);
  });
});

describe("a layer that is smaller than its base", () => {
  test.each([
    ["with data", changed(20).subarray(0, 40 * BLOCK)],
    ["empty", BASE.subarray(0, 40 * BLOCK)],
  ])("%s: is not merged in place, and makes a new image of its own size", async (_, shown) => {
    const storage = new MemoryStorage();
    storage.put("base", BASE);
    storage.put("shown", shown);
    await convert("shown", "small", { to: "qcow2", base: "base" }, { storage });
    await expect(merge("base", "small", {}, { storage })).rejects.toMatchObject({
      code: "unsuitable",
      message: "is an image of 40960 bytes, smaller than the base",
    });
    expect(bytesOf(storage, "base").equals(BASE)).toBe(true);
    await merge("base", "small", { output: "out" }, { storage });
    await convert("base,small", "raw", { to: "raw" }, { storage });
    expect(bytesOf(storage, "out").equals(bytesOf(storage, "raw"))).toBe(true);
    expect(bytesOf(storage, "out").equals(shown)).toBe(true);
  });
});
