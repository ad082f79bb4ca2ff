/**
 * Proves that whatever stands in a qcow2 file, reading, describing and checking it end soon, take little memory, and fail
 * with a CowError if they fail.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { qcow2Format } from "../../../src/lib/formats/qcow2/index.ts";
import { zstdFrameBytes } from "../../../src/lib/formats/qcow2/zstd-frame.ts";
import { CowError, convert, MemoryDevice, MemoryStorage, SparseBytes } from "../../../src/lib/index.ts";
import { paint } from "../../support/images/random-stacks.ts";

const PATCHES = [
  { start: 0, length: 3, seed: 1 },
  { start: 0.4, length: 100, seed: 2 },
];

async function sample(clusterBytes: number, withBacking: boolean): Promise<Uint8Array> {
  const storage = new MemoryStorage();
  const base = new Uint8Array(200 * 1024);
  storage.put("base.img", base);
  storage.put("a.img", paint(base, PATCHES));
  await convert(
    "a.img",
    "a.qcow2",
    { to: "qcow2", clusterBytes, ...(withBacking ? { base: "base.img" } : {}) },
    { storage },
  );
  return storage.content("a.qcow2")?.toBytes() ?? new Uint8Array();
}

/** Does everything that is done with a file; only CowErrors are let pass. */
async function useAll(bytes: Uint8Array): Promise<void> {
  const source = new MemoryDevice("x.qcow2", SparseBytes.from(bytes));
  const attempts = [
    () => qcow2Format.describe(source, {}),
    async () => [...(await qcow2Format.check(source, {})).problems].length,
    () => {
      const layer = qcow2Format.openLayer(source, { allowDirty: false });
      const end = Math.min(layer.virtualSizeBytes, 1 << 24);
      const buffer = new Uint8Array(1 << 16);
      let left = 64;
      for (const { source: from, at, length } of layer.places(0, end)) {
        from.read(buffer.subarray(0, Math.min(length, buffer.length)), at);
        if (--left === 0) break;
      }
    },
  ];
  for (const attempt of attempts) {
    try {
      await attempt();
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
      if (!["bad-head", "unsupported", "truncated", "damaged"].includes(error.code)) throw error;
    }
  }
}

describe("hostile qcow2 files", () => {
  test.each([
    [512, false],
    [512, true],
    [4096, true],
  ])("clusters of %i bytes, with a backing file: %s", async (clusterBytes, withBacking) => {
    const good = await sample(clusterBytes, withBacking);
    await useAll(good);
    const change = fc.record({
      // Mostly where the tables are: in the first clusters, and in the last.
      at: fc.oneof(
        fc.nat(120),
        fc.nat(clusterBytes * 4),
        fc.nat(good.length - 1),
        fc.nat(2000).map((n) => Math.max(0, good.length - 1 - n)),
      ),
      bytes: fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 8 }),
        fc.constantFrom(
          new Uint8Array(8).fill(255),
          new Uint8Array(8),
          Uint8Array.of(0x7f, 255, 255, 255, 255, 255, 255, 255),
        ),
      ),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 5 }),
        fc.option(fc.nat(good.length)),
        async (changes, cut) => {
          const bytes = Uint8Array.from(good);
          for (const { at, bytes: by } of changes) bytes.set(by.subarray(0, bytes.length - at), at);
          await useAll(cut === null ? bytes : bytes.subarray(0, cut));
        },
      ),
      { numRuns: 1500 },
    );
  });

  test("every single bit of the header", async () => {
    const good = await sample(512, true);
    for (let bit = 0; bit < 160 * 8; bit++) {
      const bytes = Uint8Array.from(good);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      await useAll(bytes);
    }
  });

  test("every truncation", async () => {
    const good = await sample(512, false);
    for (let length = 0; length < good.length; length += length < 2048 ? 1 : 128)
      await useAll(good.subarray(0, length));
  });

  test("unknown features are refused by number, or by the name the file gives them", async () => {
    const good = await sample(4096, false);
    good[78] = 0x40;
    const open = (): unknown =>
      qcow2Format.openLayer(new MemoryDevice("x", SparseBytes.from(good)), { allowDirty: false });
    expect(open).toThrow("has an incompatible feature that cowtool does not know: bit 14");
    const name = Buffer.from("time travel");
    const view = new DataView(good.buffer);
    view.setUint32(112, 0x6803f857);
    view.setUint32(116, 48);
    good.set([0, 14, ...name], 120);
    expect(open).toThrow('does not know: "time travel" (bit 14)');
  });

  test("a file marked corrupt is read by force only; one that is dirty is read", async () => {
    const good = await sample(4096, false);
    const device = (): MemoryDevice => new MemoryDevice("x", SparseBytes.from(good));
    good[79] = 2;
    expect(() => qcow2Format.openLayer(device(), { allowDirty: false })).toThrow(/marked corrupt/);
    qcow2Format.openLayer(device(), { allowDirty: false, settings: new Map([["force", ""]]) });
    expect([...(await qcow2Format.check(device(), {})).problems].map(({ id }) => id)).toEqual(["corrupt"]);
    good[79] = 1;
    qcow2Format.openLayer(device(), { allowDirty: false });
    expect([...(await qcow2Format.check(device(), {})).problems].map(({ id }) => id)).toEqual(["dirty"]);
  });

  test("a table that overlaps another, or points beyond the end, is found", async () => {
    const good = await sample(512, false);
    const view = new DataView(good.buffer);
    const check = async (): Promise<string[]> => {
      const report = await qcow2Format.check(new MemoryDevice("x", SparseBytes.from(good)), {});
      return [...new Set([...report.problems].map(({ id }) => id))].sort();
    };
    expect(await check()).toEqual([]);
    const old = view.getUint32(512 + 4);
    view.setUint32(512 + 4, 512);
    expect(await check()).toContain("overlap");
    view.setUint32(512 + 4, 0x1000_0000);
    expect(await check()).toEqual(["beyond-end", "leak"]);
    view.setUint32(512 + 4, old);
    const table = view.getUint32(48 + 4);
    const block = view.getUint32(table + 4);
    view.setUint16(block, 2);
    view.setUint16(block + 2, 0);
    expect(await check()).toEqual(["refcount-high", "refcount-low"]);
  });

  test("where a zstd frame ends is found, or that it does not", () => {
    expect(zstdFrameBytes(new Uint8Array(0))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const framed = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, ...bytes);
        const end = zstdFrameBytes(framed);
        expect(end === undefined || (end > 0 && end <= framed.length)).toBe(true);
      }),
    );
  });

  test("repair is left to QEMU", async () => {
    const target = new MemoryDevice("x.qcow2", SparseBytes.from(await sample(512, false)));
    const options = { dryRun: true, force: false, dropLost: false };
    await expect(qcow2Format.repair(target, options)).rejects.toMatchObject({ code: "unsupported" });
  });
});
