/** Proves that writing an image walks its view once, and that an interrupted one is resumed with the same count. */
import { expect, test } from "vitest";
import { RawWriter } from "../../../src/lib/formats/raw/writer.ts";
import { type Position, writeImage } from "../../../src/lib/output/write-image.ts";
import { random } from "../../support/random.ts";
import { deviceOf } from "../../support/storage/memory-files.ts";

const SIZE = 5 * 2 ** 20 + 700;

test("a whole image is written in one walk, what of it is data is counted to the byte, and it can be resumed", async () => {
  const next = random(5);
  const bytes = new Uint8Array(SIZE);
  const extents: { offset: number; length: number }[] = [];
  for (let at = 0; at < SIZE; at += 1 + Math.floor(next() * 100_000)) {
    const offset = Math.max(at, (extents.at(-1)?.offset ?? 0) + (extents.at(-1)?.length ?? 0));
    const length = Math.min(SIZE - offset, 1 + Math.floor(next() * (next() < 0.1 ? 2_000_000 : 3000)));
    if (length <= 0) continue;
    bytes.fill(1 + extents.length, offset, offset + length);
    extents.push({ offset, length });
  }
  const source = deviceOf(bytes);
  let walks = 0;
  const view = {
    *places(from: number, to: number) {
      walks++;
      for (const { offset, length } of extents) {
        const [start, end] = [Math.max(from, offset), Math.min(to, offset + length)];
        if (start < end) yield { offset: start, length: end - start, source, at: start };
      }
    },
  };
  const total = extents.reduce((sum, { length }) => sum + length, 0);
  const target = deviceOf(new Uint8Array(0));
  const job = { view, sizeBytes: SIZE, target, phase: "writing", stopped: () => new Error("stopped") };
  const positions: Position[] = [];
  const notes = { pace: { bytes: 1, milliseconds: 1e9 }, save: (position: Position) => void positions.push(position) };
  const done = await writeImage({ ...job, writer: new RawWriter(target, SIZE), notes }, {});
  expect([done.held, walks]).toEqual([total, 1]);
  const read = new Uint8Array(SIZE);
  target.read(read, 0);
  expect(Buffer.compare(read, bytes)).toBe(0);
  for (const from of [positions[1], positions[Math.floor(positions.length / 2)]]) {
    const again = await writeImage({ ...job, writer: new RawWriter(target, SIZE), from }, {});
    expect([again.held, again.copied]).toEqual([done.held, done.copied]);
    target.read(read, 0);
    expect(Buffer.compare(read, bytes)).toBe(0);
  }
});
