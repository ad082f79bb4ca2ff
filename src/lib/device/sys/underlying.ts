/**
 * Owns what is below a block device, from sysfs: the disk of a partition, the file behind a loop device, the parts of
 * device-mapper and RAID. Finds out whether two names are the same bytes through any of these.
 */
import * as path from "node:path";
import { deviceOf, listSys, readSysText, statOf, sysfsFolder } from "./device-number.ts";

const SECTOR_BYTES = 512;
const MAX_DEPTH = 8;
const DELETED = " (deleted)";

/** A range of a file or device that contains something. */
export interface Place {
  /** As FileFacts.identity. */
  readonly identity: string;
  /** In bytes; undefined if only the kernel knows which part it is. */
  readonly range: { readonly from: number; readonly to: number } | undefined;
  /** The name of the file behind a loop device. */
  readonly path?: string;
}

interface Looked {
  readonly dev: number | bigint;
  readonly ino: number | bigint;
  readonly rdev: number | bigint;
  isBlockDevice(): boolean;
}

/** The identity of a file or device, whatever name it has. */
export function identityOf(stat: Looked): string {
  return stat.isBlockDevice() ? `block:${stat.rdev}` : `${stat.dev}:${stat.ino}`;
}

type Range = Place["range"];

/** `inner` is a range of something that begins at `offset` of the thing below, and has `length` bytes there. */
function shift(inner: Range, offset: number, length: number): Range {
  if (!inner) return undefined;
  return { from: inner.from + offset, to: Math.min(inner.to, length) + offset };
}

function* below(dev: number, range: Range, sysfs: string, depth: number): Generator<Place> {
  const folder = sysfsFolder(dev, sysfs);
  if (folder === undefined || depth > MAX_DEPTH) return;
  const number = (...names: readonly string[]): number => Number(readSysText(folder, ...names));
  if (readSysText(folder, "partition") !== "") {
    const disk = deviceOf(readSysText(path.dirname(folder), "dev"));
    const inDisk = shift(range, number("start") * SECTOR_BYTES, number("size") * SECTOR_BYTES);
    yield* placesAt(disk, inDisk, sysfs, depth + 1);
  }
  const backing = readSysText(folder, "loop/backing_file");
  const stat = backing === "" || backing.endsWith(DELETED) ? undefined : statOf(backing);
  if (stat) {
    const limit = number("loop/sizelimit") || Number.POSITIVE_INFINITY;
    const inFile = shift(range, number("loop/offset"), limit);
    if (stat.isBlockDevice()) yield* placesAt(stat.rdev, inFile, sysfs, depth + 1);
    else yield { identity: identityOf(stat), range: inFile, path: backing };
  }
  for (const slave of listSys(folder, "slaves")) {
    yield* placesAt(deviceOf(readSysText(folder, "slaves", slave, "dev")), undefined, sysfs, depth + 1);
  }
}

function* placesAt(dev: number, range: Range, sysfs: string, depth: number): Generator<Place> {
  yield { identity: `block:${dev}`, range };
  yield* below(dev, range, sysfs, depth);
}

export function isWhole({ range }: Place): boolean {
  return range?.from === 0 && range.to === Number.POSITIVE_INFINITY;
}

/** Where the bytes of a file or device are: itself first, then the things below. */
export function placesOf(stat: Looked, sysfs = "/sys"): readonly Place[] {
  const all = { from: 0, to: Number.POSITIVE_INFINITY };
  if (!stat.isBlockDevice()) return [{ identity: identityOf(stat), range: all }];
  return [...placesAt(Number(stat.rdev), all, sysfs, 0)];
}

/** Do they share bytes? Not assumed for two parts whose ranges only the kernel knows. */
export function overlap(some: readonly Place[], others: readonly Place[]): boolean {
  return some.some((a) =>
    others.some((b) => {
      if (a.identity !== b.identity || (!a.range && !b.range)) return false;
      return !a.range || !b.range || (a.range.from < b.range.to && b.range.from < a.range.to);
    }),
  );
}
