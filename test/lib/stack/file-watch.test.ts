/**
 * Proves that the files of a deep stack are looked at by turns, and the written one each time.
 */
import { expect, test } from "vitest";
import type { BlockDevice } from "../../../src/lib/device/block-device.ts";
import { FileWatch } from "../../../src/lib/stack/live/file-watch.ts";
import { deviceOf } from "../../support/storage/memory-files.ts";

function watched(count: number) {
  const looks = new Array<number>(count).fill(0);
  const files = looks.map((_, i): BlockDevice => {
    const isWhole = (): boolean => {
      looks[i] = (looks[i] ?? 0) + 1;
      return true;
    };
    return Object.assign(deviceOf(0), { file: { isBlockDevice: false, isWhole } }) as unknown as BlockDevice;
  });
  return { looks, watch: new FileWatch(files) };
}

test("few files are all looked at, of many some, in turn, and the last one always", () => {
  for (const count of [0, 1, 8]) {
    const { looks, watch } = watched(count);
    watch.look(0);
    watch.look(1);
    expect(looks).toEqual(new Array(count).fill(1));
  }
  const { looks, watch } = watched(15);
  watch.look(0);
  expect(looks).toEqual([1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
  watch.look(1e7);
  expect(looks).toEqual([...new Array(14).fill(1), 2]);
});
