/**
 * Owns the read-only layers of a served stack: bitmaps of cowfiles in memory, and how other threads get them.
 */
import type { Extent } from "../../bytes/extent.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowfileLayer, reachableBlocks } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { BlockRun } from "../../formats/cowfile/live/journal.ts";
import { extentsOfRuns } from "../../formats/cowfile/live/sweep.ts";
import type { Layer } from "../../formats/format.ts";
import type { OpenPart } from "../open-part.ts";
import { BlockMap } from "./block-map.ts";
import type { MappableLayer } from "./owner-map.ts";
import type { PassedFile, PassedLayer } from "./passed-image.ts";
import { loadBitmap, ResidentLayer } from "./resident-layer.ts";
import { newBitmap } from "./shared-state.ts";

export interface KeptLayer {
  readonly layer: Layer;
  /** The layer as one with its bitmap in memory, if it is. */
  readonly mappable?: MappableLayer;
  /** How another thread gets it; undefined if it can't. */
  readonly passed: PassedLayer | undefined;
  /** How much of its file to map for other threads; undefined for none. */
  readonly mappedBytes?: number;
  /** Counts its allocated blocks; undefined where that would need a walk of its file. */
  readonly countAllocated?: () => number;
}

/** Keeps the bitmap of a cowfile whose blocks are contiguous in one of the stack's files. */
export function keepInMemory(layer: Layer, part: OpenPart | undefined, files: readonly BlockDevice[]): KeptLayer {
  const reopened = { layer, passed: part && reopenable(layer, part) };
  if (!(layer instanceof CowfileLayer)) return reopened;
  const source = files.find((file) => file === layer.source);
  if (!source) return reopened;
  return keepMapped(source, layer);
}

/**
 * A cowfile's layer with a bitmap in memory. Blocks whose data would be beyond the end of the file count as not allocated.
 *
 * @param runs blocks that are allocated besides those of the bitmap
 */
export function keepMapped(source: BlockDevice, cowfile: CowfileLayer, runs: readonly BlockRun[] = []): KeptLayer {
  const { geometry } = cowfile.opened;
  const blockCount = geometry.rdoBlocks;
  const bitmap = newBitmap(geometry.mapSizeBytes);
  const map = new BlockMap(bitmap, blockCount);
  const marked: Extent[] = [];
  loadBitmap(source, blockCount, map.bytes, (from, to) => marked.push({ offset: from, length: to - from }));
  for (const { offset, length } of extentsOfRuns(runs, geometry))
    map.assign(offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES, true);
  map.assign(reachableBlocks(source, geometry), blockCount, false);
  const { base } = cowfile;
  const dataOffsetBytes = cowfile.locate(0);
  const layer = new ResidentLayer(source, map, dataOffsetBytes, base);
  const countAllocated = (): number => map.countIn(0, map.bytes.length);
  const mappable = { resident: layer, marked: runs.length === 0 ? marked : undefined };
  const kept = { layer, mappable, countAllocated };
  if (source.fd === undefined) return { ...kept, passed: undefined };
  const passed: PassedLayer = {
    kind: "resident",
    ...lend(source),
    dataOffsetBytes,
    blockCount,
    bitmap,
    base,
  };
  return { ...kept, passed, mappedBytes: source.sizeBytes };
}

/** How another thread opens a layer again: only if it is all in one file. */
function reopenable({ formatId }: Layer, { part, file, paths }: OpenPart): PassedLayer | undefined {
  if (file.fd === undefined || paths.length > 1) return undefined;
  return { kind: "reopen", ...lend(file), formatId, settings: [...part.settings] };
}

/** What another thread needs of a file. */
export function lend({ fd = -1, name, file }: BlockDevice): PassedFile {
  return { fd, name, length: file?.length.shared };
}
