/**
 * Owns layers of every format over a given image, made in memory: what each holds and what the stack then shows is known
 * beforehand.
 */

import { formatTable } from "../../../src/lib/formats/dm-cow/table.ts";
import { geometryOf } from "../../../src/lib/formats/snap/geometry.ts";
import { create, type Extent, type MemoryStorage } from "../../../src/lib/index.ts";
import { writeDmCow } from "./write-dm-cow.ts";
import { writeStore } from "./write-store.ts";

/** The formats that a test can make layers of. */
export const LAYER_KINDS = ["cowfile", "dm-snapshot", "dm-cow", "snap"] as const;
export type LayerKind = (typeof LAYER_KINDS)[number];

/** What a layer is to do to the image below it: sectors that get this byte. */
export interface LayerPlan {
  readonly kind: LayerKind;
  readonly sectors: readonly (readonly [sector: number, byte: number])[];
}

const SECTOR = 512;
const SNAP_BLOCK = 1024;

function extentsOf(plan: LayerPlan, unit: number, size: number): Extent[] {
  const units = new Set(plan.sectors.map(([sector]) => Math.floor((sector * SECTOR) / unit)));
  return [...units]
    .sort((a, b) => a - b)
    .map((index) => ({ offset: index * unit, length: Math.min(unit, size - index * unit) }));
}

/** The image that the layer makes of what is below it. */
export function appliedTo(below: Uint8Array, { sectors }: LayerPlan): Uint8Array {
  const image = below.slice();
  for (const [sector, byte] of sectors)
    image.fill(byte, sector * SECTOR, Math.min(image.length, (sector + 1) * SECTOR));
  return image;
}

function readerOf(image: Uint8Array): (target: Uint8Array, offset: number) => void {
  return (target, offset) => {
    target.fill(0);
    target.set(image.subarray(offset, Math.min(image.length, offset + target.length)));
  };
}

/**
 * Makes a layer over a stack.
 *
 * @param text the stack below, which shows `below`
 * @returns the part, as one writes it in a stack
 */
export async function makeLayer(
  storage: MemoryStorage,
  name: string,
  plan: LayerPlan,
  { text, below }: { readonly text: string; readonly below: Uint8Array },
): Promise<string> {
  const image = appliedTo(below, plan);
  const read = readerOf(image);
  const pending = storage.create(name);
  const { device } = pending;
  if (plan.kind === "cowfile") {
    pending.abandon();
    storage.put(`${name}.image`, image);
    await create(text, name, { from: `raw:${name}.image`, identity: "none" }, { storage });
    return name;
  }
  if (plan.kind === "dm-snapshot") {
    const content = { sizeBytes: image.length, extents: () => extentsOf(plan, 2 * SECTOR, image.length), read };
    await writeStore(device, content, { chunkSectors: 2 });
    pending.commit({ replace: false });
    return name;
  }
  if (plan.kind === "snap") {
    writeSnapLog(device, extentsOf(plan, SNAP_BLOCK, image.length), image);
    pending.commit({ replace: false });
    return `snap:block=${SNAP_BLOCK};word=8;endian=big;${name}`;
  }
  const sectors = image.length / SECTOR;
  const bitmap = storage.create(`${name}.bitmap`);
  const data = storage.create(`${name}.data`);
  const job = { bitmap: bitmap.device, data: data.device, sectors, mode: "linear" as const, read };
  for (const _ of writeDmCow({ ...job, extents: extentsOf(plan, SECTOR, image.length) }));
  for (const each of [bitmap, data]) each.commit({ replace: false });
  const layers = [{ bitmap: `${name}.bitmap`, data: `${name}.data`, offset: 0 }] as const;
  device.write(Buffer.from(formatTable({ sectors, base: { device: "nothing", offset: 0 }, layers })), 0);
  pending.commit({ replace: false });
  return `dm-cow:${name}`;
}

/** One log, as the driver would have filled it from the first block to the last. */
function writeSnapLog(
  device: { write(bytes: Uint8Array, offset: number): void; resize(size: number): void },
  extents: readonly Extent[],
  image: Uint8Array,
): void {
  const geometry = geometryOf({ blockBytes: SNAP_BLOCK, wordBytes: 8, littleEndian: false }, image.length / SNAP_BLOCK);
  const bitmap = new Uint8Array(geometry.bitmapBlocks * SNAP_BLOCK);
  device.resize((geometry.leastLogBlocks + extents.length + 1) * SNAP_BLOCK);
  for (const [i, { offset, length }] of extents.entries()) {
    const block = offset / SNAP_BLOCK;
    const place = geometry.dataBase + i;
    bitmap[block >> 3] = (bitmap[block >> 3] ?? 0) | (1 << (block & 7));
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64BE(BigInt(place));
    const { bitmapBlocks, entriesPerBlock } = geometry;
    const at = (bitmapBlocks + Math.floor(block / entriesPerBlock)) * SNAP_BLOCK + (block % entriesPerBlock) * 8;
    device.write(entry, at);
    device.write(image.subarray(offset, offset + length), place * SNAP_BLOCK);
  }
  device.write(bitmap, 0);
}
