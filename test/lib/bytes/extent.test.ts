/**
 * Proves extent lists and the algebra of extents against arrays of booleans, and that a list's memory is bounded.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  coalesce,
  complement,
  type Extent,
  ExtentList,
  intersect,
  subtract,
  union,
  widen,
  within,
} from "../../../src/lib/bytes/extent.ts";

const SPACE = 60;

/** Ascending extents as gaps and lengths; zero gaps make neighbours, zero lengths empty ones. */
const disjoint: fc.Arbitrary<Extent[]> = fc.array(fc.tuple(fc.nat(4), fc.nat(5)), { maxLength: 10 }).map((pairs) => {
  let at = 0;
  return pairs.map(([gap, length]) => {
    const extent = { offset: at + gap, length };
    at += gap + length;
    return extent;
  });
});

/** Ascending by offset, but overlapping as they like. */
const overlapping: fc.Arbitrary<Extent[]> = fc
  .array(fc.record({ offset: fc.nat(40), length: fc.nat(12) }), { maxLength: 10 })
  .map((extents) => extents.sort((a, b) => a.offset - b.offset));

function toFlags(extents: Iterable<Extent>): boolean[] {
  const flags = new Array<boolean>(SPACE * 2).fill(false);
  for (const { offset, length } of extents) flags.fill(true, offset, offset + length);
  return flags;
}

/** The one list of maximal, ascending, non-empty extents for these flags. */
function fromFlags(flags: readonly boolean[]): Extent[] {
  const extents: { offset: number; length: number }[] = [];
  for (const [i, flag] of flags.entries()) {
    if (!flag) continue;
    const last = extents.at(-1);
    if (last && last.offset + last.length === i) last.length++;
    else extents.push({ offset: i, length: 1 });
  }
  return extents;
}

/** What has a length; pauses must be in their place. */
function solid(extents: Iterable<Extent>): Extent[] {
  let at = Number.NEGATIVE_INFINITY;
  return [...extents].filter(({ offset, length }) => {
    expect(offset).toBeGreaterThanOrEqual(at);
    at = offset + length;
    return length > 0;
  });
}

function pausesIn(extents: Iterable<Extent>): number {
  return [...extents].filter(({ length }) => length === 0).length;
}

describe("ExtentList", () => {
  test("holds what was appended, joined, with its sum and end", () => {
    fc.assert(
      fc.property(disjoint, (extents) => {
        const list = new ExtentList();
        for (const { offset, length } of extents) list.append(offset, length);
        const expected = fromFlags(toFlags(extents));
        expect([...list]).toEqual(expected);
        expect(list.count).toBe(expected.length);
        expect(expected.map((_, i) => list.at(i))).toEqual(expected);
        expect([list.at(-1), list.at(expected.length)]).toEqual([undefined, undefined]);
        const last = expected.at(-1);
        expect(list.end).toBe(last ? last.offset + last.length : -1);
        expect(list.totalBytes).toBe(expected.reduce((sum, { length }) => sum + length, 0));
        expect(list.omitted).toBe(0);
      }),
    );
  });

  test("takes offsets near 2^53", () => {
    const list = new ExtentList();
    list.append(2 ** 53 - 4096, 1024);
    list.append(2 ** 53 - 3072, 1024);
    expect([...list]).toEqual([{ offset: 2 ** 53 - 4096, length: 2048 }]);
  });

  test("keeps half a million extents of a hostile bitmap, and counts the rest exactly", () => {
    const list = new ExtentList();
    const kept = 1 << 19;
    for (let i = 0; i < kept + 1000; i++) list.append(i * 2048, 1024);
    expect([list.count, list.omitted, list.totalBytes]).toEqual([kept, 1000, (kept + 1000) * 1024]);
    expect(list.end).toBe((kept + 999) * 2048 + 1024);
    // What joins the last one, which was not kept, makes no kept one longer.
    list.append(list.end, 1024);
    expect(list.at(kept - 1)).toEqual({ offset: (kept - 1) * 2048, length: 1024 });
    expect([list.count, list.omitted]).toEqual([kept, 1000]);
    expect([...list]).toHaveLength(kept);
  });
});

describe("algebra of extents", () => {
  test("coalesce joins neighbours and overlaps", () => {
    fc.assert(
      fc.property(overlapping, (extents) => {
        expect(solid(coalesce(extents))).toEqual(fromFlags(toFlags(extents)));
      }),
    );
  });

  test("union holds what either holds", () => {
    fc.assert(
      fc.property(overlapping, overlapping, (a, b) => {
        expect(solid(union(a, b))).toEqual(fromFlags(toFlags([...a, ...b])));
      }),
    );
  });

  test("complement is what is left of a range", () => {
    fc.assert(
      fc.property(disjoint, fc.nat(SPACE), fc.nat(SPACE), (extents, from, to) => {
        const flags = toFlags(extents).map((flag, i) => !flag && i >= from && i < to);
        expect(solid(coalesce(complement(extents, from, to)))).toEqual(fromFlags(flags));
      }),
    );
  });

  test("widen reaches whole units, and never beyond the limit", () => {
    fc.assert(
      fc.property(disjoint, fc.integer({ min: 1, max: 8 }), fc.nat(SPACE), (extents, unit, limit) => {
        const flags = toFlags(extents);
        const touched = (i: number): boolean =>
          flags.slice(Math.floor(i / unit) * unit, (Math.floor(i / unit) + 1) * unit).some(Boolean);
        const expected = fromFlags(flags.map((_, i) => i < limit && touched(i)));
        expect(solid(widen(extents, unit, limit))).toEqual(expected);
      }),
    );
  });

  test("intersect is what both hold, subtract what the second does not, within a part of it", () => {
    fc.assert(
      fc.property(disjoint, disjoint, fc.nat(SPACE), fc.nat(SPACE), (a, b, from, to) => {
        const [inA, inB] = [toFlags(a), toFlags(b)];
        expect(solid(coalesce(intersect(a, b)))).toEqual(fromFlags(inA.map((flag, i) => flag && inB[i] === true)));
        expect(solid(coalesce(subtract(a, b)))).toEqual(fromFlags(inA.map((flag, i) => flag && !inB[i])));
        const cut = fromFlags(inA.map((flag, i) => flag && i >= from && i < to));
        expect(solid(coalesce(within(a, from, Math.max(from, to))))).toEqual(cut);
      }),
    );
  });

  test("passes pauses on, so that whoever reads can stop a long walk", () => {
    const walk = [4, 0, 0, 3, 0].map((length, i) => ({ offset: i * 10, length }));
    const other = [{ offset: 0, length: 100 }];
    for (const result of [
      coalesce(walk),
      union(walk, []),
      union([], walk),
      widen(walk, 8, 100),
      within(walk, 0, 100),
      complement(walk, 0, 100),
      intersect(walk, other),
      intersect(other, walk),
      subtract(walk, []),
      subtract(other, walk),
    ])
      expect(pausesIn(result)).toBe(3);
  });

  test("pauses where much is joined, or passed over", () => {
    const touching = Array.from({ length: 10_000 }, (_, i) => ({ offset: i * 2, length: 1 }));
    const between = touching.map(({ offset }) => ({ offset: offset + 1, length: 1 }));
    for (const result of [
      widen(touching, 2, 20_000),
      intersect(touching, between),
      intersect([{ offset: 20_000, length: 1 }], touching),
      subtract(touching, touching),
      subtract([{ offset: 20_000, length: 1 }], touching),
    ])
      expect(pausesIn(result)).toBeGreaterThan(1);
  });

  test("nothing is asked of a source before somebody wants it", () => {
    let asked = 0;
    function* endless(): Generator<Extent> {
      for (let i = 0; ; i++) {
        asked++;
        yield { offset: i * 10, length: 1 };
      }
    }
    const [first] = [union(widen(endless(), 2, Number.MAX_SAFE_INTEGER), endless()).next().value];
    expect(first).toEqual({ offset: 0, length: 2 });
    expect(asked).toBeLessThan(10);
  });
});
