/**
 * Proves that what is below the written layers is open once, whatever the number of exports over it, that nothing is shared
 * once its file is another one, and that the last export leaves neither a file nor a lock nor a mapping.
 */
import { copyFileSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { OpenOptions, Storage } from "../../../src/lib/device/storage.ts";
import { libc } from "../../../src/lib/device/sys/libc.ts";
import { type BlockDevice, nodeStorage } from "../../../src/lib/index.ts";
import type { Access } from "../../../src/lib/stack/live/access.ts";
import { ImageReceiver, type PassedImage, type ReceivedImage } from "../../../src/lib/stack/live/passed-image.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { LowerStacks } from "../../../src/lib/stack/live/shared-lower.ts";
import { makeCowfile } from "../../support/nbd/test-server.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();
let number = 0;

/** Counts what is open now, and what was opened in all, by path. */
class Counting {
  readonly now = new Map<string, number>();
  readonly all = new Map<string, number>();
  readonly storage: Storage = {
    ...nodeStorage,
    open: (path: string, options?: OpenOptions): BlockDevice => {
      const device = nodeStorage.open(path, options);
      this.now.set(path, (this.now.get(path) ?? 0) + 1);
      this.all.set(path, (this.all.get(path) ?? 0) + 1);
      const close = device.close.bind(device);
      device.close = () => {
        this.now.set(path, (this.now.get(path) ?? 0) - 1);
        close();
      };
      return device;
    },
  };
  readonly lowers = new LowerStacks(this.storage);

  serve(stack: string, access: Access = "writable"): Promise<ServedStack> {
    return ServedStack.open(this.storage, stack, { access, lowers: this.lowers });
  }
}

function makeBase(byte = 0xb5): string {
  const base = at(`${number++}.img`);
  writeFileSync(base, Buffer.alloc(1 << 20, byte));
  return base;
}

async function makeCowfiles(base: string, count: number): Promise<string[]> {
  const files: string[] = [];
  while (files.length < count) files.push(await makeCowfile(base, at(`${number++}.cow`)));
  return files;
}

function firstByte(stack: ServedStack): number | undefined {
  const bytes = new Uint8Array(1);
  stack.image().read(bytes, 4096);
  return bytes[0];
}

test("a base and a layer are opened once for exports of every kind, side by side", async () => {
  const counting = new Counting();
  const base = makeBase();
  const [layer = "", ...tops] = await makeCowfiles(base, 4);
  const stacks = await Promise.all([
    ...tops.slice(0, 2).map((top) => counting.serve(`${base},${layer},${top}`)),
    ...tops.slice(2).map((top) => counting.serve(`${base},${top}`)),
    counting.serve(`${base},${layer}`, "ephemeral"),
    counting.serve(`${base},${layer}`, "read-only"),
    counting.serve(base, "read-only"),
  ]);
  expect([counting.now.get(base), counting.now.get(layer)]).toEqual([1, 1]);
  expect(counting.all.get(base)).toBe(1);
  for (const stack of stacks) expect(firstByte(stack)).toBe(0xb5);

  // One layer after the other is let go of with its last export.
  for (const stack of stacks.splice(0, 4)) stack.close();
  expect([counting.now.get(base), counting.now.get(layer)]).toEqual([1, 1]);
  stacks.shift()?.close();
  expect([counting.now.get(base), counting.now.get(layer)]).toEqual([1, 0]);
  expect(() => nodeStorage.open(base, { writable: true, lock: "exclusive" })).toThrow(/locked by this very process/);
  stacks.shift()?.close();
  expect(counting.now.get(base)).toBe(0);
  nodeStorage.open(base, { writable: true, lock: "exclusive" }).close();
});

test("a base that was replaced or changed is opened anew, and the old one goes with its exports", async () => {
  const counting = new Counting();
  const base = makeBase();
  const [a = "", b = "", c = ""] = await makeCowfiles(base, 3);
  const first = await counting.serve(`${base},${a}`);
  renameSync(makeBase(), base);
  const second = await counting.serve(`${base},${b}`);
  expect(counting.now.get(base)).toBe(2);
  first.close();
  expect(counting.now.get(base)).toBe(1);
  // Longer, as far as only its times and its length tell.
  writeFileSync(base, Buffer.alloc((1 << 20) + 512, 0xb5));
  const third = await counting.serve(`${base},${c}`);
  expect([counting.now.get(base), third.sizeBytes]).toEqual([2, 1 << 20]);
  second.close();
  third.close();
  expect(counting.now.get(base)).toBe(0);
});

test("a stack that cannot be opened leaves nothing open, and the next one finds out for itself", async () => {
  const counting = new Counting();
  const base = makeBase();
  const [layer = "", top = ""] = await makeCowfiles(base, 2);
  const intact = readFileSync(layer);
  writeFileSync(layer, "no cowfile");
  const opened = await Promise.allSettled([
    counting.serve(`${base},${layer},${top}`),
    counting.serve(`${base},${layer},${top}`),
  ]);
  expect(opened.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect([counting.now.get(base), counting.now.get(layer)]).toEqual([0, 0]);
  writeFileSync(layer, intact);
  (await counting.serve(`${base},${layer},${top}`)).close();
  expect([counting.now.get(base), counting.now.get(layer)]).toEqual([0, 0]);
});

function mapped(file: string): number {
  return readFileSync("/proc/self/maps", "utf8").split(file).length - 1;
}

test.skipIf(libc() === null)("is mapped once, and no longer than an export is over it", async () => {
  const counting = new Counting();
  const base = makeBase();
  const [a = "", b = ""] = await makeCowfiles(base, 2);
  const stacks = [await counting.serve(`${base},${a}`), await counting.serve(`${base},${b}`)];
  const passed = stacks.map((stack) => stack.passed());
  expect([mapped(base), mapped(a), mapped(b)]).toEqual([1, 1, 1]);
  expect(passed[0]?.lower).toBe(passed[1]?.lower);
  stacks[0]?.close();
  expect([mapped(base), mapped(a), mapped(b)]).toEqual([1, 0, 1]);
  stacks[1]?.close();
  expect([mapped(base), mapped(b)]).toEqual([0, 0]);
});

test("a thread has what is below once for all images, and gives it up with the last of them", async () => {
  const counting = new Counting();
  const base = makeBase();
  const [layer = "", a = "", b = ""] = await makeCowfiles(base, 3);
  const stacks = [await counting.serve(`${base},${layer},${a}`), await counting.serve(`${base},${layer},${b}`)];
  const receiver = new ImageReceiver();
  const received: ReceivedImage[] = [];
  for (const stack of stacks) {
    const passed = stack.passed();
    if (passed) received.push(await receiver.receive(passed));
  }
  expect([received.length, receiver.partCount]).toEqual([2, 2]);
  const bytes = new Uint8Array(1);
  received[0]?.release();
  received[1]?.image.read(bytes, 4096);
  expect([bytes[0], receiver.partCount]).toEqual([0xb5, 2]);
  received[1]?.release();
  expect(receiver.partCount).toBe(0);
  for (const stack of stacks) stack.close();
});

test.skipIf(libc() === null)(
  "a hundred forks have the frozen layers once: descriptors, mappings, bitmaps, map of owners",
  async () => {
    const counting = new Counting();
    const base = makeBase();
    const [deeper = "", top = "", ...layers] = await makeCowfiles(base, 6);
    const stacks: ServedStack[] = [];
    const fork = async (...frozen: readonly string[]): Promise<PassedImage> => {
      const own = at(`${number++}.cow`);
      copyFileSync(top, own);
      const stack = await counting.serve([base, ...frozen, own].join());
      stacks.push(stack);
      const passed = stack.passed();
      if (!passed) throw new Error("can be passed");
      return passed;
    };
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    const parent = await fork(...layers);
    const before = descriptors();
    const forks = await Promise.all(Array.from({ length: 100 }, () => fork(...layers)));
    // Its cowfile and its journal.
    expect(descriptors() - before).toBeLessThanOrEqual(200);
    expect(forks.every(({ lower }) => lower === parent.lower)).toBe(true);
    expect([base, ...layers].map(mapped)).toEqual(new Array(5).fill(1));
    const bitmaps = ({ lower }: PassedImage) =>
      lower.layers.map((layer) => layer.kind === "resident" && layer.bitmap.buffer);

    // One checkpoint later the parent adds to what they share, and another fork of the old one does without that.
    const later = await fork(...layers, deeper);
    const memory = parent.lower.owners?.owners.buffer;
    expect(bitmaps(later).slice(0, 4)).toEqual(bitmaps(parent));
    for (const [i, buffer] of bitmaps(parent).entries()) expect(bitmaps(later)[i]).toBe(buffer);
    expect(later.lower.owners?.owners.buffer).toBe(memory);
    expect((await fork(...layers)).lower.owners?.owners.buffer).toBe(memory);
    for (const stack of stacks) expect(firstByte(stack)).toBe(0xb5);

    // So does a view of a checkpoint.
    const view = stacks[0]?.parts.lower.at(3);
    expect([view?.layers.length, view?.passed()?.owners?.owners.buffer]).toEqual([3, memory]);
    view?.release();

    // Once the later one is gone, so is its layer from the map.
    stacks.splice(-2, 1)[0]?.close();
    expect((await fork(...layers)).lower.owners?.owners.buffer).not.toBe(memory);
    for (const stack of stacks) stack.close();
    expect([base, deeper, ...layers].map((file) => counting.now.get(file))).toEqual(new Array(6).fill(0));
  },
);
