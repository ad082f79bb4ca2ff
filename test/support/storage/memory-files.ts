/**
 * Owns small files in memory for tests of formats: devices over given bytes, and reading through a layer.
 */
import { readFileSync } from "node:fs";
import { readZeroFilled } from "../../../src/lib/bytes/byte-source.ts";
import type { BlockDevice } from "../../../src/lib/device/block-device.ts";
import { MemoryDevice, SparseBytes } from "../../../src/lib/device/memory-device.ts";
import type { Layer } from "../../../src/lib/formats/format.ts";
import { Overlay } from "../../../src/lib/stack/overlay.ts";

/** A device that holds these bytes; writable. */
export function deviceOf(bytes: Uint8Array | number, name = "memory"): MemoryDevice {
  const content = typeof bytes === "number" ? new SparseBytes() : SparseBytes.from(bytes);
  if (typeof bytes === "number") content.sizeBytes = bytes;
  return new MemoryDevice(name, content);
}

/** A device with the content of a file. */
export function deviceOfFile(path: string): MemoryDevice {
  return deviceOf(readFileSync(path), path);
}

/** Everything that is in a source. */
export function bytesOf(source: { readonly sizeBytes: number } & Parameters<typeof readZeroFilled>[0]): Buffer {
  const bytes = Buffer.alloc(source.sizeBytes);
  readZeroFilled(source, bytes, 0);
  return bytes;
}

/** The image that a layer shows over its base. */
export function viewOf(base: BlockDevice, ...layers: Layer[]): Buffer {
  return bytesOf(new Overlay("view", base, layers));
}
