/**
 * Owns random images and the stacks that show them, for properties of conversions: what is to be seen is kept beside.
 */
import fc from "fast-check";
import { readZeroFilled } from "../../../src/lib/bytes/byte-source.ts";
import type { ConvertFormat } from "../../../src/lib/index.ts";
import { convert, type MemoryStorage, openStack } from "../../../src/lib/index.ts";
import { random } from "../random.ts";

/** A part that is written: in units of 512 bytes, as a share of the image. */
export interface Patch {
  readonly start: number;
  readonly length: number;
  /** 0 for zeros; otherwise what the bytes are drawn from. */
  readonly seed: number;
}

export interface Drawing {
  /** In KiB. */
  readonly size: number;
  readonly base: readonly Patch[];
  readonly layers: readonly {
    readonly patches: readonly Patch[];
    readonly format: ConvertFormat;
    readonly unit: number;
  }[];
}

const patch = fc.record({
  start: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 200 })),
  seed: fc.integer({ min: 0, max: 1000 }),
});
const patches = fc.array(patch, { maxLength: 6 });
export const layerFormat = fc.constantFrom<ConvertFormat>("cowfile", "dm-snapshot", "dm-cow", "qcow2");
/** 2 to the power of it are the bytes of chunks and clusters. */
export const unitBits = fc.integer({ min: 9, max: 17 });

export const drawing: fc.Arbitrary<Drawing> = fc.record({
  size: fc.integer({ min: 1, max: 600 }),
  base: patches,
  layers: fc.array(fc.record({ patches, format: layerFormat, unit: unitBits }), { maxLength: 3 }),
});

const SECTOR = 512;

export function paint(image: Uint8Array, parts: readonly Patch[]): Uint8Array {
  const painted = Uint8Array.from(image);
  for (const { start, length, seed } of parts) {
    const at = Math.floor((start * image.length) / SECTOR) * SECTOR;
    const part = painted.subarray(at, at + length * SECTOR);
    const next = random(seed);
    for (let i = 0; i < part.length; i++) part[i] = seed === 0 ? 0 : 1 + next() * 255;
  }
  return painted;
}

/** How an output is written as the top of a stack. */
export function layerText(format: ConvertFormat, name: string): string {
  return format === "dm-cow" ? `dm-cow:${name}` : name;
}

/** What goes with a format, of that many bytes. */
export function unitOf(format: ConvertFormat, unitBytes: number): { chunkBytes?: number; clusterBytes?: number } {
  if (format === "dm-snapshot") return { chunkBytes: unitBytes };
  return format === "qcow2" ? { clusterBytes: unitBytes } : {};
}

/** Puts base and layers there. @returns the stack, and what it shows */
export async function putStack(storage: MemoryStorage, { size, base, layers }: Drawing) {
  let image = paint(new Uint8Array(size * 1024), base);
  storage.put("base.img", image);
  let stack = "base.img";
  for (const [i, { patches: changes, format, unit }] of layers.entries()) {
    const next = paint(image, changes);
    const [changed, layer] = [`changed${i}.img`, `layer${i}`];
    storage.put(changed, next);
    // A dm-cow stack names one base, and a backing file is one: what lies below has to be flat.
    const needsFlat = i > 0 && (format === "dm-cow" || format === "qcow2");
    if (needsFlat) storage.put(`flat${i}.img`, image);
    await convert(
      changed,
      layer,
      { to: format, base: needsFlat ? `flat${i}.img` : stack, ...unitOf(format, 2 ** unit) },
      { storage },
    );
    stack = `${stack},${layerText(format, layer)}`;
    image = next;
  }
  return { stack, image };
}

/** What a stack shows. */
export async function viewOf(storage: MemoryStorage, stack: string): Promise<Uint8Array> {
  const opened = await openStack(storage, stack);
  try {
    const bytes = new Uint8Array(opened.device.sizeBytes);
    readZeroFilled(opened.device, bytes, 0);
    return bytes;
  } finally {
    opened.close();
  }
}
