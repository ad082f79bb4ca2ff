/**
 * Proves that the look-up of deep stacks finds what the walk of their layers does: for layers of any length, over other
 * formats, before a layer is entered into the map, while it is, and after others were, for more layers than a byte counts.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Place } from "../../../src/lib/bytes/byte-source.ts";
import { BLOCK_BYTES } from "../../../src/lib/formats/cowfile/layout.ts";
import type { Layer } from "../../../src/lib/formats/format.ts";
import { BlockMap } from "../../../src/lib/stack/live/block-map.ts";
import { LayerFinder } from "../../../src/lib/stack/live/layer-finder.ts";
import { OWNED_BYTES, OwnerMap } from "../../../src/lib/stack/live/owner-map.ts";
import { ResidentLayer } from "../../../src/lib/stack/live/resident-layer.ts";
import { Overlay } from "../../../src/lib/stack/overlay.ts";
import { runs } from "../../support/sample.ts";
import { deviceOf } from "../../support/storage/memory-files.ts";

const MAX_BLOCKS = 26;
const SHIFT = 4096;
/** Of no real address, but different for each source. */
const ADDRESSES = 1 << 24;

/** For each block: is it allocated? */
type Cells = readonly boolean[];

/** Whole pages, as clients write them, or single blocks. */
const cells: fc.Arbitrary<Cells> = fc.oneof(
  fc
    .array(fc.boolean(), { minLength: 1, maxLength: Math.ceil(MAX_BLOCKS / 4) })
    .map((pages) => pages.flatMap((page) => [page, page, page, page])),
  fc.array(fc.boolean(), { minLength: 1, maxLength: MAX_BLOCKS }),
);

let sources = 0;

function sourceOf(blocks: number, shift: number, byte: number) {
  const device = deviceOf(new Uint8Array(shift + blocks * BLOCK_BYTES).fill(byte));
  const start = ++sources * ADDRESSES;
  return Object.assign(device, {
    addressOf: (offset: number, length: number) => (offset + length <= device.sizeBytes ? start + offset : 0),
    tryRead: (target: Uint8Array, offset: number) => device.read(target, offset) === target.length,
  });
}

function mapOf(allocated: Cells): BlockMap {
  const map = new BlockMap(
    new Uint8Array(new SharedArrayBuffer(Math.ceil(allocated.length / 32) * 4)),
    allocated.length,
  );
  for (const [block, is] of allocated.entries()) if (is) map.assign(block, block + 1, true);
  return map;
}

const IDENTITY = { blocks: undefined, blockBytes: BLOCK_BYTES, fingerprint: undefined };

const resident = (allocated: Cells, byte: number): ResidentLayer =>
  new ResidentLayer(sourceOf(allocated.length, SHIFT, byte), mapOf(allocated), SHIFT, IDENTITY);

/** A layer of a format whose allocations are not in memory. */
function foreign(allocated: Cells, byte: number): Layer {
  const inner = resident(allocated, byte);
  const places = (from: number, to: number): Iterable<Place> => inner.places(from, to);
  const { formatId, name, granularityBytes, virtualSizeBytes, base } = inner;
  return { formatId, name, granularityBytes, virtualSizeBytes, base, places, extents: places };
}

const page = (at: number): number => Math.floor(at / OWNED_BYTES);

interface Case {
  readonly base: ReturnType<typeof sourceOf>;
  /** Of other formats, below those in the map. */
  readonly below?: readonly Layer[];
  readonly residents: readonly ResidentLayer[];
  readonly map: OwnerMap;
}

/** Compares a stack that is looked up with the same one walked, in all ranges of pages and some others. */
function compare({ base, below = [], residents, map }: Case, ranges: readonly (readonly [number, number])[]): void {
  const layers = [...below, ...residents];
  const noted = { found: new Set<number>(), walked: new Set<number>() };
  const finder = LayerFinder.over(base, [...below.map(() => undefined), ...residents], map.passed);
  expect(finder).toBeDefined();
  const found = new Overlay("found", base, layers, { finder, onRead: (level) => noted.found.add(level) });
  const walked = new Overlay("walked", base, layers, { onRead: (level) => noted.walked.add(level) });
  const size = walked.sizeBytes;
  const whole = Array.from(
    { length: Math.ceil(size / OWNED_BYTES) },
    (_, i) => [i * OWNED_BYTES, OWNED_BYTES] as const,
  );
  for (const [offset, wanted] of [...whole, ...ranges]) {
    const [from, length] = [Math.min(offset, size), Math.min(wanted, size - Math.min(offset, size))];
    if (length === 0) continue;
    const end = from + length;
    noted.found.clear();
    noted.walked.clear();
    const [a, b] = [new Uint8Array(length).fill(255), new Uint8Array(length).fill(254)];
    expect(found.read(a, from)).toBe(walked.read(b, from));
    expect(Buffer.compare(a, b)).toBe(0);
    // A base that is shorter than the image is asked for nothing, or not at all.
    const levels = (set: ReadonlySet<number>): string =>
      [...set]
        .filter((level) => level > 0 || end <= base.sizeBytes)
        .sort()
        .join();
    expect(levels(noted.found)).toBe(levels(noted.walked));
    const addresses = [found.addressOf(from, length), walked.addressOf(from, length)] as const;
    // Several pages may be in one place without the map knowing.
    if (addresses[0] !== 0 || page(from) === page(end - 1)) expect(addresses[0]).toBe(addresses[1]);
    const c = new Uint8Array(length).fill(253);
    const isRead = found.tryRead(c, from, () => undefined);
    if (isRead) expect(Buffer.compare(c, a)).toBe(0);
    if (addresses[0] !== 0) expect(isRead).toBe(true);
  }
}

test("a random stack is read as its layers are walked, whatever is in the map, and whoever else uses it", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(MAX_BLOCKS),
      fc.array(cells, { maxLength: 2 }),
      fc.array(cells, { minLength: 2, maxLength: 7 }),
      fc.nat(5),
      fc.array(fc.tuple(fc.nat(MAX_BLOCKS * BLOCK_BYTES), fc.integer({ min: 1, max: 12 * 1024 })), { maxLength: 6 }),
      async (baseBlocks, others, specs, cut, ranges) => {
        const base = sourceOf(baseBlocks, 0, 100);
        const below = others.map((each, i) => foreign(each, 50 + i));
        const held = specs.map((each, i) => ({ resident: resident(each, i + 1), marked: undefined }));
        const entered = 1 + (cut % (held.length - 1));
        const residents = held.map(({ resident: each }) => each);
        const map = OwnerMap.of(held.slice(0, entered), below.length);
        if (!map) throw new Error("no memory");
        const prefix = residents.slice(0, entered);
        // Nothing is entered yet.
        compare({ base, below, residents: prefix, map }, ranges);
        await map.complete;
        compare({ base, below, residents: prefix, map }, ranges);
        compare({ base, below, residents, map }, ranges);
        if (map.add(held.slice(entered))) {
          await map.complete;
          compare({ base, below, residents, map }, ranges);
          compare({ base, below, residents: prefix, map }, ranges);
        } else expect(Math.max(...specs.map(({ length }) => length))).toBeGreaterThan(0);
      },
    ),
    { numRuns: runs(60) },
  );
});

test("only the parts of a bitmap that may have bits are looked at, and nothing once no stack has the map", async () => {
  const blocks = 8 * (64 << 10) + 64;
  const layers = Array.from({ length: 3 }, () => {
    const map = mapOf(new Array<boolean>(blocks).fill(false));
    map.assign(0, 4, true);
    map.assign(blocks - 4, blocks, true);
    return new ResidentLayer(sourceOf(0, 0, 1), map, SHIFT, IDENTITY);
  });
  const held = layers.map((each) => ({ resident: each, marked: [{ offset: 0, length: 8 }] }));
  const map = OwnerMap.of(held, 0);
  await map?.complete;
  expect(map?.passed.owners[0]).toBe(3);
  // That part was said to be empty.
  expect(map?.passed.owners.at(-1)).toBe(0);

  const stopped = OwnerMap.of(held, 0);
  stopped?.release(3);
  await stopped?.complete;
  expect(stopped?.passed.entered[0]).toBe(0);
});

test("there may be more layers than a byte counts, or than the map has room for", async () => {
  const base = sourceOf(8, 0, 9);
  const cellsOf = (i: number): Cells => [
    i % 2 === 0,
    i % 2 === 0,
    i % 2 === 0,
    i % 2 === 0,
    i === 3,
    i === 299,
    i % 7 === 1,
    true,
  ];
  const held = Array.from({ length: 300 }, (_, i) => ({
    resident: resident(i % 3 === 0 ? cellsOf(i) : cellsOf(i).slice(0, 8), i % 200),
    marked: undefined,
  }));
  const layers = held.map(({ resident: each }) => each);
  const narrow = OwnerMap.of(held.slice(0, 100), 0);
  expect(narrow?.passed.owners.BYTES_PER_ELEMENT).toBe(1);
  expect(narrow?.add(held.slice(100, 254))).toBe(true);
  expect([narrow?.count, narrow?.add(held.slice(254, 255))]).toEqual([254, false]);
  await narrow?.complete;
  if (narrow) compare({ base, residents: layers.slice(0, 254), map: narrow }, []);
  if (narrow) compare({ base, residents: layers, map: narrow }, []);
  const wide = OwnerMap.of(held, 0);
  await wide?.complete;
  if (wide) compare({ base, residents: layers, map: wide }, [[2048, 4096]]);
  expect([wide?.passed.owners[0], wide?.passed.owners.BYTES_PER_ELEMENT]).toEqual([299, 2]);
});
