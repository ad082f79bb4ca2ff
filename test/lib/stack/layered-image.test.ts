/**
 * Proves the walk of a stack against a plain model of bytes: layers of any length over a base of any length, with holes in
 * their files, pauses on the way, and with or without the quick question whether they hold anything.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Place } from "../../../src/lib/bytes/byte-source.ts";
import { type Extent, listed } from "../../../src/lib/bytes/extent.ts";
import type { Layer } from "../../../src/lib/formats/format.ts";
import { allocatedBy, LayeredImage, shown } from "../../../src/lib/formats/layered-image.ts";
import type { StatusKind } from "../../../src/lib/stack/live/image.ts";
import { blockStatus } from "../../../src/lib/stack/live/status.ts";
import { Overlay } from "../../../src/lib/stack/overlay.ts";
import { deviceOf } from "../../support/storage/memory-files.ts";

const UNIT = 8;
const MAX_UNITS = 24;
const MAX_BYTES = MAX_UNITS * UNIT;

/** What a unit of a layer is: not held, held as zeros, or held with a byte. */
type Cell = number | "zeros" | undefined;

interface LayerSpec {
  readonly cells: readonly Cell[];
  /** Bytes that the last unit lacks. */
  readonly short: number;
  readonly isQuick: boolean;
}

const cell: fc.Arbitrary<Cell> = fc.oneof(
  { weight: 4, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.constant("zeros" as const) },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 255 }) },
);

const layerSpec: fc.Arbitrary<LayerSpec> = fc.record({
  cells: fc.array(cell, { minLength: 1, maxLength: MAX_UNITS }),
  short: fc.nat(UNIT - 1),
  isQuick: fc.boolean(),
});

const SHIFT = 1000;

/** A source whose zeros are holes, unit by unit. */
function sourceOf(bytes: Uint8Array, shift: number) {
  const content = new Uint8Array(shift + bytes.length);
  content.set(bytes, shift);
  return Object.assign(deviceOf(content), {
    *dataExtents(from: number, to: number): Generator<Extent> {
      for (let at = from; at < Math.min(to, content.length); at++) {
        if (content[at] !== 0) yield { offset: at, length: 1 };
        else yield { offset: at, length: 0 };
      }
    },
  });
}

function makeLayer({ cells, short, isQuick }: LayerSpec, name: string): Layer {
  const size = cells.length * UNIT - short;
  const bytes = new Uint8Array(size);
  for (const [i, each] of cells.entries()) if (typeof each === "number") bytes.fill(each, i * UNIT, (i + 1) * UNIT);
  const source = sourceOf(bytes, SHIFT);
  function* places(from: number, to: number): Generator<Place> {
    for (const [i, each] of cells.entries()) {
      const start = Math.max(from, i * UNIT);
      const end = Math.min(to, size, (i + 1) * UNIT);
      if (each === undefined && start <= to)
        yield { offset: Math.min(start, to), length: 0, source, at: SHIFT + start };
      else if (end > start) yield { offset: start, length: end - start, source, at: SHIFT + start };
    }
  }
  return {
    formatId: "test",
    name,
    granularityBytes: UNIT,
    virtualSizeBytes: size,
    base: { blocks: undefined, blockBytes: UNIT, fingerprint: undefined },
    extents: places,
    places,
    ...(isQuick && { isClearOf: (from: number, to: number) => listed(places(from, to)).length === 0 }),
  };
}

/** Per byte of the image: its value, the layer that it comes from (0 for the base), and whether that holds it. */
function model(base: Uint8Array, specs: readonly LayerSpec[]) {
  let bytes = [...base];
  let levels = bytes.map(() => 0);
  let isAllocated = bytes.map(() => false);
  for (const [i, { cells, short }] of specs.entries()) {
    const size = cells.length * UNIT - short;
    const at = Array.from({ length: size }, (_, offset) => cells[Math.floor(offset / UNIT)]);
    const below = { bytes, levels };
    bytes = at.map((each, n) => (each === undefined ? (below.bytes[n] ?? 0) : each === "zeros" ? 0 : each));
    // -1: nothing shows there.
    levels = at.map((each, n) => (each === undefined ? (below.levels[n] ?? -1) : i + 1));
    const before = isAllocated;
    isAllocated = at.map((each, n) => each !== undefined || (before[n] ?? false) || (i > 0 && n >= before.length));
  }
  return { bytes, levels, isAllocated };
}

function marked(extents: Iterable<Extent>, size: number): boolean[] {
  const marks = new Array<boolean>(size).fill(false);
  let last = 0;
  for (const { offset, length } of extents) {
    if (length > 0) expect(offset).toBeGreaterThanOrEqual(last);
    marks.fill(true, offset, offset + length);
    last = Math.max(last, offset + length);
  }
  expect(last).toBeLessThanOrEqual(size);
  return marks;
}

test("a random stack reads, tells its data, what is allocated and its status as the model does", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ max: 3, minLength: 0, maxLength: MAX_BYTES }),
      fc.array(layerSpec, { maxLength: 4 }),
      fc.tuple(fc.nat(MAX_BYTES), fc.nat(MAX_BYTES)),
      (base, specs, [x, y]) => {
        const device = sourceOf(base, 0);
        const layers = specs.map((spec, i) => makeLayer(spec, `layer ${i + 1}`));
        const { bytes, levels, isAllocated } = model(base, specs);
        const overlay = new Overlay("stack", device, layers);
        const image = new LayeredImage("stack", device, layers);
        const size = bytes.length;
        expect(overlay.sizeBytes).toBe(size);
        const [from, to] = [Math.min(x, y, size), Math.min(Math.max(x, y), size)];
        const expected = bytes.slice(from, to);

        const target = new Uint8Array(to - from).fill(99);
        expect(overlay.read(target, from)).toBe(to - from);
        expect([...target]).toEqual(expected);

        // Places: exactly what is not zero, and each byte where it is said to be.
        const copied = new Uint8Array(size);
        for (const { offset, length, source, at } of image.places(from, to))
          source.read(copied.subarray(offset, offset + length), at);
        expect([...copied.subarray(from, to)]).toEqual(expected);
        expect(marked(image.places(from, to), size).slice(from, to)).toEqual(expected.map((byte) => byte !== 0));
        const coarse = marked(overlay.dataExtents(from, to), size);
        for (let at = from; at < to; at++) if (bytes[at] !== 0) expect(coarse[at]).toBe(true);

        const seen = new Array<number>(size).fill(-1);
        for (const { offset, length, level } of shown(device, layers, from, to))
          seen.fill(level, offset, offset + length);
        expect(seen.slice(from, to)).toEqual(levels.slice(from, to));
        expect(marked(image.allocated(from, to), size).slice(from, to)).toEqual(isAllocated.slice(from, to));
        expect(listed(image.allocated(from, to))).toEqual(listed(allocatedBy(layers, from, to)));

        const checkpoints = layers.map((_, i) => ({ name: `cp${i}`, time: "then", level: i + 1 }));
        const status = (kind: StatusKind): number[] => {
          const flags: number[] = [];
          blockStatus(kind, { base: device, layers, checkpoints }, [from, to], (length, flag) => {
            flags.push(...new Array<number>(length).fill(flag));
            return true;
          });
          return flags;
        };
        const n = layers.length;
        const part = levels.slice(from, to);
        expect(status("allocation")).toEqual(expected.map((byte) => (byte === 0 ? 3 : 0)));
        expect(status("depth")).toEqual(
          part.map((level, i) => (level > 0 ? n - level + 1 : level === 0 && expected[i] !== 0 ? n + 1 : 0)),
        );
        expect(status("dirty")).toEqual(part.map((level) => (n > 0 && level === n ? 1 : 0)));
        for (const { name, time, level } of checkpoints) {
          const changed = level === n ? [] : model(base, specs.slice(level)).isAllocated;
          // Behind the image as it was then, a shorter layer hides nothing.
          const held = layers
            .slice(level)
            .map((layer) => marked(layer.extents(0, Math.min(size, layer.virtualSizeBytes)), size));
          for (let at = layers[level - 1]?.virtualSizeBytes ?? 0; at < size; at++)
            changed[at] = held.some((each) => each[at]);
          const expectedFlags = part.map((_, i) => Number(changed[from + i] ?? false));
          expect(status({ since: name, time })).toEqual(expectedFlags);
          expect(() => status({ since: name, time: "later" })).toThrow(/no longer there/);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("a source is asked about its next data once, whatever number of places is within that", () => {
  let asked = 0;
  const base = Object.assign(deviceOf(new Uint8Array(MAX_BYTES).fill(1)), {
    *dataExtents(from: number, to: number): Generator<Extent> {
      asked++;
      yield { offset: from, length: to - from };
    },
  });
  const cells = Array.from({ length: MAX_UNITS }, (_, i) => (i % 2 === 0 ? 7 : undefined));
  const view = new LayeredImage("image", base, [makeLayer({ cells, short: 0, isQuick: false }, "layer")]);
  expect(listed(view.places(0, MAX_BYTES)).filter(({ offset }) => offset % (2 * UNIT) === UNIT)).toHaveLength(12);
  expect(asked).toBe(1);
});

test("one answer about changes in many layers of a huge image is a part of it, and the next begins behind that", () => {
  const TIB = 2 ** 40;
  const layerAt = (offset: number): Layer => ({
    ...makeLayer({ cells: [undefined], short: 0, isQuick: false }, "huge"),
    virtualSizeBytes: 4 * TIB,
    extents: (from, to) => listed([{ offset, length: 4096 }].filter((each) => each.offset >= from && each.offset < to)),
  });
  const layers = [0, TIB, 3 * TIB, 4 * TIB - 4096].map(layerAt);
  const checkpoints = [{ name: "cp", time: "then", level: 1 }];
  const base = deviceOf(new Uint8Array(0));
  const marked: number[] = [];
  let [at, answers] = [0, 0];
  while (at < 4 * TIB) {
    const before = at;
    blockStatus({ since: "cp", time: "then" }, { base, layers, checkpoints }, [at, 4 * TIB], (length, flags) => {
      if (flags === 1) marked.push(at);
      at += length;
      return true;
    });
    expect(at).toBeGreaterThan(before);
    answers++;
  }
  expect(answers).toBe(13);
  expect(marked).toEqual([TIB, 3 * TIB, 4 * TIB - 4096]);
});
