/**
 * Proves that LVM physical volumes are recognised, that logical volumes are read where LVM puts them, that a thick snapshot
 * inside shows what it should, and that nothing in the text can do harm. (The same with what a real `lvm` and kernel made
 * is part of scripts/test-vm-dmsnap.mjs.)
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ByteSource } from "../../../src/lib/bytes/byte-source.ts";
import { CowError } from "../../../src/lib/errors.ts";
import { WritableStore } from "../../../src/lib/formats/dm-snapshot/writable-store.ts";
import { lvmFormat } from "../../../src/lib/formats/lvm/index.ts";
import { lvmChecksum } from "../../../src/lib/formats/lvm/layout.ts";
import { parseText } from "../../../src/lib/formats/lvm/text.ts";
import {
  EXTENT_SECTORS,
  groupText,
  PE_START,
  PV_UUID,
  putMetadata,
  snapshotText,
  stripedText,
  volumeText,
} from "../../support/images/lvm-volume.ts";
import { createStore } from "../../support/images/write-store.ts";
import { noise, random } from "../../support/random.ts";
import { bytesOf, deviceOf, viewOf } from "../../support/storage/memory-files.ts";

const EXTENT = EXTENT_SECTORS * 512;
const START = PE_START * 512;
const PV_BYTES = START + 40 * EXTENT;

const base = volumeText("base", [stripedText(0, 4, [["pv0", 10]]), stripedText(4, 2, [["pv0", 2]])]);
const other = volumeText("other", [
  stripedText(
    0,
    4,
    [
      ["pv0", 20],
      ["pv0", 30],
    ],
    128,
  ),
]);
const snap = volumeText("snap", [stripedText(0, 8, [["pv0", 22]])]);
const snapshot = volumeText("snapshot0", [snapshotText(6, "base", "snap")]);
const everywhere = volumeText("far", [stripedText(0, 1, [["pv1", 0]])]);
const cached = volumeText("cached", ['start_extent = 0\nextent_count = 1\ntype = "cache"']);

function volume(text: string, textOffset?: number): Buffer {
  const bytes = Buffer.alloc(PV_BYTES);
  bytes.set(noise(PV_BYTES - START, 1), START);
  putMetadata(bytes, text, textOffset);
  return bytes;
}

function open(bytes: Buffer, lv: string, ...flags: string[]): ByteSource {
  const settings = new Map([["lv", lv], ...flags.map((flag) => [flag, ""] as const)]);
  const image = lvmFormat.openImage?.(deviceOf(bytes), { allowDirty: false, settings });
  if (!image) throw new Error("no image");
  return image;
}

const extents = (bytes: Buffer, first: number, count: number): Buffer =>
  bytes.subarray(START + first * EXTENT, START + (first + count) * EXTENT);

describe("a physical volume", () => {
  it("is recognised by its label, in any of the first four sectors", () => {
    const bytes = volume(groupText(base));
    expect(lvmFormat.matches(bytes.subarray(0, 4096))).toBe(true);
    expect(lvmFormat.matches(bytes.subarray(0, 600))).toBe(false);
    const moved = Buffer.concat([Buffer.alloc(1024), bytes.subarray(0, 3072)]);
    expect(lvmFormat.matches(moved)).toBe(true);
    expect(lvmFormat.matches(Buffer.alloc(4096))).toBe(false);
  });

  it("is described with its group and volumes", async () => {
    const { facts, problems } = await lvmFormat.describe(deviceOf(volume(groupText(base + other + everywhere))), {});
    expect(facts).toMatchObject({
      format: "lvm",
      pv_uuid: PV_UUID,
      volume_group: "vg",
      extent_size: EXTENT,
      logical_volumes: [
        { name: "base", size: 6 * EXTENT, segments: 2, addressable: true },
        { name: "other", size: 4 * EXTENT, segments: 1, addressable: true },
        { name: "far", size: EXTENT, segments: null, addressable: false },
      ],
      snapshots: [],
    });
    expect([...problems].map(({ id }) => id)).toEqual(["logical-volume"]);
  });

  it("has no group before vgcreate", async () => {
    const bytes = volume(groupText(base));
    const header = bytes.subarray(4096, 4608);
    header.fill(0, 40);
    header.writeUInt32LE(lvmChecksum(header.subarray(4)), 0);
    const { facts } = await lvmFormat.describe(deviceOf(bytes), {});
    expect(facts).toMatchObject({ volume_group: null, logical_volumes: [] });
    expect(() => open(bytes, "vg/base")).toThrow(/no volume group/);
  });

  it("is read although its text goes round the end of the area", () => {
    const bytes = volume(groupText(base), 1044480 - 300);
    expect(
      bytesOf(open(bytes, "vg/base"))
        .subarray(0, EXTENT)
        .equals(extents(bytes, 10, 1)),
    ).toBe(true);
  });

  it("with a damaged text is refused, and one with a damaged label checked", async () => {
    const bytes = volume(groupText(base));
    bytes[4096 + 512 + 100] = 0;
    expect(() => open(bytes, "vg/base")).toThrow(/text with a wrong checksum/);
    const label = volume(groupText(base));
    label[512 + 400] = 1;
    const { worst } = await lvmFormat.check(deviceOf(label), {});
    expect(worst.unfixable).toBe(1);
  });
});

describe("a logical volume", () => {
  const bytes = volume(groupText(base + other + snap + everywhere + cached));

  it("of two segments is read in their order, from any offset", () => {
    const expected = Buffer.concat([extents(bytes, 10, 4), extents(bytes, 2, 2)]);
    const source = open(bytes, "vg/base");
    expect(bytesOf(source).equals(expected)).toBe(true);
    const next = random(1);
    for (let i = 0; i < 100; i++) {
      const at = Math.floor(next() * expected.length);
      const part = Buffer.alloc(Math.floor(next() * 3 * EXTENT));
      const got = source.read(part, at);
      expect(part.subarray(0, got).equals(expected.subarray(at, at + part.length))).toBe(true);
    }
  });

  it("in stripes is read in turns", () => {
    const turns: Buffer[] = [];
    for (let at = 0; at < 2 * EXTENT; at += 128 * 512) {
      turns.push(
        extents(bytes, 20, 2).subarray(at, at + 128 * 512),
        extents(bytes, 30, 2).subarray(at, at + 128 * 512),
      );
    }
    expect(bytesOf(open(bytes, "other")).equals(Buffer.concat(turns))).toBe(true);
  });

  it.each([
    ["vg/far", /another physical volume/],
    ["vg/cached", /of type cache/],
    ["vg/none", /no logical volume vg\/none/],
    ["gv/base", /no logical volume gv\/base/],
  ])("%s is refused", (lv, words) => {
    expect(() => open(bytes, lv)).toThrow(words);
  });

  it("has to be named", () => {
    expect(() => lvmFormat.openImage?.(deviceOf(bytes), { allowDirty: false })).toThrow(/has to be said/);
  });

  it("beyond the end of the file is refused", () => {
    expect(() => open(Buffer.from(bytes.subarray(0, START + 12 * EXTENT)), "vg/base")).toThrow(/ends before/);
  });
});

describe("a thick snapshot", () => {
  function withStore(key: string): { readonly bytes: Buffer; readonly view: Buffer; readonly origin: Buffer } {
    const text = groupText(base + snap + volumeText("snapshot0", [snapshotText(6, "base", "snap", key)]));
    const bytes = volume(text);
    const origin = Buffer.concat([extents(bytes, 10, 4), extents(bytes, 2, 2)]);
    const view = Buffer.from(origin);
    const cow = deviceOf(Buffer.from(extents(bytes, 22, 8)));
    createStore(cow, { chunkSectors: 8 });
    const store = new WritableStore(cow, { below: deviceOf(origin) });
    for (const old of [3, 4, 5, 200, 383]) {
      store.reserve(1);
      cow.write(noise(4096, old), store.nextFree * 4096);
      view.set(noise(4096, old), old * 4096);
      store.take(old, 1);
    }
    store.flush();
    extents(bytes, 22, 8).set(bytesOf(cow));
    return { bytes, view, origin };
  }

  it("is recognised, shows its view, and its parts can be had", async () => {
    const { bytes, view, origin } = withStore("cow_store");
    const { facts } = await lvmFormat.describe(deviceOf(bytes), {});
    expect(facts["snapshots"]).toEqual([
      { name: "snap", origin: "base", chunk_size: 4096, merging: false, kernel_status: "56/4096 16", exceptions: 5 },
    ]);
    expect(bytesOf(open(bytes, "vg/snap")).equals(view)).toBe(true);
    expect(bytesOf(open(bytes, "vg/base")).equals(origin)).toBe(true);
    expect(bytesOf(open(bytes, "vg/snap", "cow")).equals(extents(bytes, 22, 8))).toBe(true);
    const below = deviceOf(origin);
    const settings = new Map([["lv", "vg/snap"]]);
    const layer = lvmFormat.openLayer(deviceOf(bytes), { allowDirty: false, backing: below, settings });
    expect(viewOf(below, layer).equals(view)).toBe(true);
    const { worst } = await lvmFormat.check(deviceOf(bytes), { settings });
    expect(worst).toMatchObject({ fixable: 0, unfixable: 0 });
  });

  it("that is to be merged is told from others", async () => {
    const { bytes, view } = withStore("merging_store");
    const { facts } = await lvmFormat.describe(deviceOf(bytes), {});
    expect(facts["snapshots"]).toMatchObject([{ name: "snap", merging: true }]);
    expect(bytesOf(open(bytes, "vg/snap")).equals(view)).toBe(true);
    expect(open(bytes, "vg/base")).toMatchObject({ warnings: [expect.stringContaining("to be merged")] });
  });

  it("of something that is no snapshot is no layer", () => {
    const { bytes, origin } = withStore("cow_store");
    const settings = new Map([["lv", "vg/base"]]);
    const open = () => lvmFormat.openLayer(deviceOf(bytes), { allowDirty: false, backing: deviceOf(origin), settings });
    expect(open).toThrow(/is no snapshot/);
  });
});

describe("hostile text", () => {
  it.each([
    ["a { b = 1", /expects "}"/],
    ["a = [1, 2", /expects/],
    ["a = \u0001", /makes no sense/],
    ["a = 1 a = 2", /second time/],
    ["}", /expects a name/],
    [`${"a {".repeat(100)}`, /nested too deeply/],
    ['a = "no end', /makes no sense/],
  ])("%s", (text, words) => {
    expect(() => parseText(text, "f")).toThrow(words);
  });

  it.each([
    ["a string", `a = "${"x".repeat(9e6)}"`],
    ["a string without an end", `a = "${"\\\\".repeat(4e6)}`],
    ["a name", `${"x".repeat(9e6)} = 1`],
    ["a number", `a = ${"1".repeat(9e6)}`],
  ])("of megabytes in %s is refused", (_, text) => {
    expect(() => parseText(text, "f")).toThrow(/in one word|makes no sense/);
  });

  it("that a label names sixteen times is read twice at most", async () => {
    const bytes = volume(groupText(base));
    const label = bytes.subarray(512, 1024);
    for (let i = 1; i < 16; i++) label.copy(label, 104 + 16 * i, 104, 120);
    label.writeUInt32LE(lvmChecksum(label.subarray(20)), 16);
    const { facts, problems } = await lvmFormat.describe(deviceOf(bytes), {});
    expect(facts).toMatchObject({ volume_group: "vg" });
    expect([...problems].map(({ message }) => message)).toEqual([
      "the label at byte 512 (0x200) names 16 metadata areas: only the first 2 are read, as LVM makes no more",
    ]);
  });

  it("cannot make a volume larger than its physical volume, of the same extents again and again", () => {
    const segments = Array.from({ length: 60 }, (_, i) => stripedText(i, 1, [["pv0", 0]]));
    expect(() => open(volume(groupText(volumeText("o", segments))), "o")).toThrow(
      "the logical volume vg/o has 15728640 bytes, more than its physical volume: its segments overlap",
    );
  });

  it("of a great many snapshots does not keep a signal waiting, whatever their stores are", async () => {
    const many = Array.from({ length: 9 }, (_, i) => volumeText(`snapshot${i}`, [snapshotText(6, "base", "snap")]));
    const bytes = volume(groupText(base + snap + many.join("")));
    await expect(lvmFormat.describe(deviceOf(bytes), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "interrupted",
    });
  });

  it("of megabytes in spaces and comments is read", () => {
    const parsed = parseText(`${" \t\n".repeat(1e6)}# ${"x".repeat(3e6)}\na = 1 #`, "f");
    expect(parsed.get("a")).toBe(1);
  });

  it("is taken for what it is: names are no properties", () => {
    const parsed = parseText('__proto__ { x = 1 } toString = "a\\"b" big = 99999999999999999999 # end', "f");
    expect(parsed.get("toString")).toBe('a"b');
    expect(parsed.get("big")).toBe("99999999999999999999");
    expect((parsed.get("__proto__") as Map<string, unknown>).get("x")).toBe(1);
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  it.each([
    ["extent_size = 512", "extent_size = 0"],
    ["extent_size = 512", "extent_size = 9007199254740991"],
    ["extent_count = 4", "extent_count = 4000"],
    ["extent_count = 4", 'extent_count = "4"'],
    ["start_extent = 4", "start_extent = 3"],
    ["segment_count = 2", "segment_count = 3"],
    ["stripe_count = 1", "stripe_count = 1000000"],
    ["stripe_count = 1", "stripe_count = 0"],
    ['"pv0", 10', '"pv0", 9007199254740991'],
    ["pe_count = 40", "pe_count = 3"],
    [PV_UUID, PV_UUID.replace("5No7y0", "000000")],
    ["vg {", "vg = 1\nx {\nlogical_volumes = 5\n"],
  ])("%s as %s makes no volume", (from, to) => {
    const text = groupText(base).replace(from, to);
    expect(() => bytesOf(open(volume(text), "vg/base"))).toThrow(CowError);
  });

  it("never does more than fail, whatever bytes of label, area and text are changed", async () => {
    const whole = volume(groupText(base + other + snap + snapshot), 1044480 - 300);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 1100 }), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
        fc.boolean(),
        async (changes, fixChecksums) => {
          const bytes = Buffer.from(whole);
          for (const [at, value] of changes) bytes[at < 512 ? 512 + at : 4096 + at - 512] = value;
          if (fixChecksums) {
            bytes.writeUInt32LE(lvmChecksum(bytes.subarray(532, 1024)), 528);
            bytes.writeUInt32LE(lvmChecksum(bytes.subarray(4100, 4608)), 4096);
          }
          try {
            await lvmFormat.describe(deviceOf(bytes), {});
            await lvmFormat.check(deviceOf(bytes), {});
            open(bytes, "vg/base");
            open(bytes, "vg/snap", "force");
          } catch (error) {
            expect(error).toBeInstanceOf(CowError);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
