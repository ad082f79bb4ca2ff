/** Proves that a dm-snapshot store is not extended in silence where something stands behind the end of its list. */
import { expect, test } from "vitest";
import { MemoryStorage } from "../../../src/lib/index.ts";
import { createStoreFile } from "../../../src/lib/operations/create-store.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";

const CHUNK = 16_384;

test("what stands behind the end of a store's list is told before a write takes it away", async () => {
  const storage = new MemoryStorage();
  storage.put("base", new Uint8Array(40 * CHUNK).fill(3));
  await createStoreFile("base", "store", { chunkBytes: CHUNK }, { storage });
  const notices: string[] = [];
  const open = (): Promise<ServedStack> =>
    ServedStack.open(storage, "base,store", {
      access: "writable",
      onNotice: ({ message }) => void notices.push(message),
    });
  const first = await open();
  for (const chunk of [1, 2]) first.image().write(new Uint8Array(CHUNK).fill(chunk), chunk * CHUNK);
  first.close();
  expect(notices).toEqual([]);
  // As after a power cut that took the first of two tuples.
  storage.content("store")?.write(new Uint8Array(16), CHUNK);
  (await open()).close();
  expect(notices).toEqual([expect.stringMatching(/^has tuples after the end of its list, from byte 16384 .*zeroed/)]);
});
