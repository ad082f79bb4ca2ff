/**
 * Proves that a checkpoint takes every page of the bitmap that has a mark whose journal entry is in the half it leaves: the
 * next checkpoint lets that half be overwritten before its own pages are on disk.
 */
import { expect, test } from "vitest";
import { create, MemoryStorage, SparseBytes } from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { Control } from "../../../src/lib/stack/live/shared-state.ts";

const STACK = "base,vm.cow";
const BOOT = new Uint8Array(16).fill(7);
/** Its mark is in the second page of the bitmap. */
const SECOND_PAGE = 30_000 * 1024;
/** More than the flush log remembers, so that a flush is a checkpoint. */
const LARGE = 128 * 1024;

/** Runs `then` when a word of that number, of memory as long as `Control`, is read for the first time from now on. */
function atLoadOf(index: number, then: () => void): () => void {
  const original = Atomics.load;
  const restore = (): void =>
    void Object.defineProperty(Atomics, "load", { value: original, configurable: true, writable: true });
  const load = (memory: Int32Array, at: number): number => {
    if (memory.length === Control.LENGTH && at === index) {
      restore();
      then();
    }
    return original(memory, at);
  };
  Object.defineProperty(Atomics, "load", { value: load, configurable: true, writable: true });
  return restore;
}

test("a mark made while a checkpoint looks for changed pages is not lost", async () => {
  const storage = new MemoryStorage();
  const base = new SparseBytes();
  base.resize(32 << 20);
  storage.put("base", base);
  await create("base", "vm.cow", {}, { storage });
  const stack = await ServedStack.open(storage, STACK, { access: "writable", boot: BOOT });
  const [first, second] = [stack.image(), stack.image()];
  const write = (image: typeof first, offset: number, length = 4096): void => {
    image.write(new Uint8Array(length).fill(0x5a), offset);
    image.commit();
  };

  write(first, SECOND_PAGE, LARGE);
  // Only the second page has changed so far. Meanwhile another thread's write is answered that changes the first one.
  const restore = atLoadOf(Control.UNFINISHED, () => write(second, 4096));
  first.flush();
  restore();
  write(first, SECOND_PAGE + LARGE, LARGE);

  // Killed in the next checkpoint, before its pages are written, when further entries went to the half that came into use.
  let killed: MemoryStorage | undefined;
  storage.onChange = (change) => {
    if (killed || change.kind !== "device" || change.change.kind !== "flush") return;
    storage.onChange = () => undefined;
    for (const block of [40, 80, 120, 160]) write(second, block * 1024);
    killed = storage.clone();
  };
  first.flush();
  stack.close();

  const again = await ServedStack.open(killed ?? storage, STACK, { access: "writable", boot: BOOT });
  const read = new Uint8Array(4096);
  again.image().read(read, 4096);
  again.close();
  expect(killed).toBeDefined();
  expect(read).toEqual(new Uint8Array(4096).fill(0x5a));
});
