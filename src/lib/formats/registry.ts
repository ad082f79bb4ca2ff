/**
 * Owns the lists of formats, read and written: a new one is a folder beside this file and a line here for each.
 */
import type { ByteSource } from "../bytes/byte-source.ts";
import { CowError } from "../errors.ts";
import { cowfileFormat } from "./cowfile/index.ts";
import { cowfileWritten } from "./cowfile/writer.ts";
import { dmCowFormat } from "./dm-cow/index.ts";
import { dmCowWritten } from "./dm-cow/writer.ts";
import { dmSnapshotFormat } from "./dm-snapshot/index.ts";
import { dmSnapshotWritten } from "./dm-snapshot/writer.ts";
import type { Layer, LayerFormat } from "./format.ts";
import type { WrittenFormat } from "./image-writer.ts";
import { lvmFormat } from "./lvm/index.ts";
import { qcow2Format } from "./qcow2/index.ts";
import { qcow2Written } from "./qcow2/writer.ts";
import { rawWritten } from "./raw/writer.ts";
import { snapFormat } from "./snap/index.ts";

const PROBE_BYTES = 4096;

/** The formats of layers that are read. */
export const layerFormats: readonly LayerFormat[] = [
  cowfileFormat,
  dmSnapshotFormat,
  dmCowFormat,
  qcow2Format,
  snapFormat,
  lvmFormat,
];

/** The formats that new images are written in. */
export const writtenFormats = [rawWritten, cowfileWritten, dmSnapshotWritten, dmCowWritten, qcow2Written] as const;

/** The id of a format in which new images are written. */
export type WrittenId = (typeof writtenFormats)[number]["id"];

export function writtenFormat(id: WrittenId): WrittenFormat {
  return writtenFormats.find((format) => format.id === id) as WrittenFormat;
}

/** The format with this id, or undefined. */
export function formatById(id: string): LayerFormat | undefined {
  return layerFormats.find((format) => format.id === id);
}

/** The bytes by which a format is recognised. */
export function headOf(source: ByteSource): Uint8Array {
  const head = new Uint8Array(PROBE_BYTES);
  return head.subarray(0, source.read(head, 0));
}

/** The format of a file by its first bytes, or undefined. */
export function detectFormat(source: ByteSource): LayerFormat | undefined {
  const head = headOf(source);
  return (
    layerFormats.find((format) => format.matches(head)) ?? layerFormats.find((format) => format.mayBePacked?.(head))
  );
}

/** The format of a layer. */
export function formatOf({ formatId }: Layer): LayerFormat | undefined {
  return formatById(formatId);
}

/** As detectFormat. For an unknown file the cowfile's codec makes the error, because its message is the best. */
export function requireFormat(source: ByteSource): LayerFormat {
  const format = detectFormat(source) ?? cowfileFormat;
  if (source.sizeBytes > Number.MAX_SAFE_INTEGER)
    throw new CowError("unsupported", "is larger than 2^53 bytes", { file: source.name });
  return format;
}
