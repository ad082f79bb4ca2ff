/**
 * Proves dm-cow layers that we write: read linear, or as the driver was coded where they are closed, they show the very image
 * they were made from, hold no more than they have to, and no bit that could not be set.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dmCowFormat } from "../../../src/lib/formats/dm-cow/index.ts";
import { formatTable } from "../../../src/lib/formats/dm-cow/table.ts";
import { type ByteSource, type Extent, MemoryDevice, SparseBytes } from "../../../src/lib/index.ts";
import { writeDmCow } from "../../support/images/write-dm-cow.ts";

const SECTOR = 512;

function memory(name: string, bytes: Uint8Array = new Uint8Array(0)): MemoryDevice {
  return new MemoryDevice(name, SparseBytes.from(bytes));
}

function imageOf(sectors: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sectors * SECTOR);
  for (let s = 0; s < sectors; s++) bytes.fill(((s * 7 + seed) % 255) + 1, s * SECTOR, (s + 1) * SECTOR);
  return bytes;
}

/** A base, and an image that differs from it in just these sectors. */
function pair(sectors: number, held: readonly number[]): { base: Uint8Array; image: Uint8Array } {
  const base = imageOf(sectors, 1);
  const image = base.slice();
  for (const s of held) image.fill(s % 3 === 0 ? 0 : 255 - (s % 100), s * SECTOR, (s + 1) * SECTOR);
  return { base, image };
}

function extentsOf(held: readonly number[]): Extent[] {
  return [...new Set(held)].sort((a, b) => a - b).map((s) => ({ offset: s * SECTOR, length: SECTOR }));
}

function devices(files: Readonly<Record<string, ByteSource>>): { open(name: string): ByteSource } {
  return {
    open(name) {
      const found = files[name];
      if (!found) throw new Error(`nobody knows ${name}`);
      return found;
    },
  };
}

describe("writing dm-cow", () => {
  const cases = fc.record({
    sectors: fc.integer({ min: 1, max: 9000 }),
    held: fc.array(fc.nat(8999), { maxLength: 40 }),
    offset: fc.constantFrom(0, 3),
    soft: fc.constantFrom(512, 1024, 2048, 4096),
    closed: fc.boolean(),
  });

  it("shows the image that it was made from", () => {
    fc.assert(
      fc.property(cases, ({ sectors, held: any, offset, soft, closed }) => {
        const held = any.map((s) => s % sectors);
        const { base, image } = pair(sectors, held);
        const bitmap = memory("bitmap");
        const data = memory("data");
        const read = (target: Uint8Array, at: number): void => {
          target.fill(0);
          target.set(image.subarray(at, Math.min(image.length, at + target.length)));
        };
        const mode = closed ? { closed: soft } : ("linear" as const);
        const job = { bitmap, data, sectors, dataOffset: offset, mode, extents: extentsOf(held), read };
        let last = 0;
        for (const done of writeDmCow(job)) {
          expect(done).toBeGreaterThanOrEqual(last);
          last = done;
        }
        const layers = [{ bitmap: "b", data: "d", offset }] as const;
        const line = formatTable({ sectors, base: { device: "o", offset: 0 }, layers });
        const companions = devices({ o: memory("o", base), b: bitmap, d: data });
        const ways = closed ? ["as-coded", `as-coded:${soft}`] : ["linear"];
        for (const way of ways) {
          const options = { allowDirty: false, companions, settings: new Map([["bitmap", way]]) };
          const table = memory("table", Buffer.from(`${line}\n`));
          const opened = dmCowFormat.openImage?.(table, options);
          const view = new Uint8Array(opened?.sizeBytes ?? 0);
          opened?.read(view, 0);
          expect(Buffer.compare(view, image)).toBe(0);
          const layer = dmCowFormat.openLayer(table, options);
          const shown = [...layer.extents(0, sectors * SECTOR)].reduce((sum, { length }) => sum + length, 0);
          const most = new Set(held).size * (closed ? 8 : 1) * SECTOR;
          expect(shown).toBeLessThanOrEqual(most);
        }
      }),
      { numRuns: 200 },
    );
  });
});
