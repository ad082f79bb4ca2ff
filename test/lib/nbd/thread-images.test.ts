/**
 * Proves what a thread keeps of the images of exports: those in use, a few for the next client, and none of an export that
 * was closed.
 */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { nodeStorage } from "../../../src/lib/index.ts";
import { ThreadImages } from "../../../src/lib/nbd/threads/thread-images.ts";
import type { LiveImage } from "../../../src/lib/stack/live/image.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();

test("images in use stay, a few others are kept, forgotten ones go with their last connection", async () => {
  writeFileSync(at("base.img"), Buffer.alloc(8192, 1));
  const stack = await ServedStack.open(nodeStorage, at("base.img"), { access: "ephemeral" });
  const passed = stack.passed();
  if (!passed) throw new Error("it has descriptors");
  const images = new ThreadImages();
  const use = (number: number): Promise<LiveImage> => images.with(number, passed, (image) => image);
  let leave: () => void = () => undefined;
  const left = new Promise<void>((resolve) => {
    leave = resolve;
  });
  const connected = images.with(0, passed, () => left);
  const first = await use(1);
  expect(await use(1)).toBe(first);
  for (const number of [2, 3, 4]) await use(number);
  expect(images.count).toBe(3);
  expect(await use(1)).not.toBe(first);
  for (const number of [0, 1, 2, 3, 4]) images.forget(number);
  expect(images.count).toBe(1);
  leave();
  await connected;
  expect(images.count).toBe(0);
  stack.close();
});
