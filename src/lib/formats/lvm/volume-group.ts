/**
 * Owns parsing LVM's text into a volume group: its logical volumes, where their extents are on this physical volume,
 * and which are thick snapshots. Every number is checked here.
 */
import { CowError } from "../../errors.ts";
import type { PhysicalVolume } from "./physical-volume.ts";
import type { Section, TextValue } from "./text.ts";

const MAX_STRIPES = 128;

/** A part of a logical volume. All in sectors. */
export interface Segment {
  readonly start: number;
  readonly length: number;
  /** Contiguous sectors on one stripe; the whole segment if there is only one. */
  readonly stripeLength: number;
  /** Where each stripe begins on the physical volume. */
  readonly stripes: readonly number[];
}

/** A logical volume. */
export interface LogicalVolume {
  readonly name: string;
  readonly sectors: number;
  /** Undefined if it can't be addressed; `reason` says why. */
  readonly segments: readonly Segment[] | undefined;
  readonly reason: string | undefined;
}

/** A thick snapshot: what LVM writes as a logical volume `snapshotN`. */
export interface ThickSnapshot {
  readonly origin: string;
  /** The logical volume that is the store. */
  readonly store: string;
  readonly chunkSectors: number;
  /** It will be merged into its origin when that is activated next. */
  readonly isMerging: boolean;
}

export interface VolumeGroup {
  readonly name: string;
  readonly uuid: string;
  readonly extentSectors: number;
  readonly physicalVolumes: number;
  readonly volumes: ReadonlyMap<string, LogicalVolume>;
  readonly snapshots: readonly ThickSnapshot[];
}

/** Where extents of this physical volume are. */
interface PvPlace {
  readonly key: string;
  readonly peStart: number;
  readonly peCount: number;
}

function asSection(value: TextValue | undefined): Section | undefined {
  return value instanceof Map ? value : undefined;
}

class Reader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  error(words: string): CowError {
    return new CowError("damaged", `the text of the volume group ${words}`, { file: this.#file });
  }

  count(section: Section, key: string, where: string): number {
    const value = section.get(key);
    if (typeof value !== "number") throw this.error(`has no number ${key} of ${where}`);
    return value;
  }

  word(section: Section, key: string): string {
    const value = section.get(key);
    return typeof value === "string" ? value : "";
  }

  /** An exact product. */
  product(a: number, b: number, what: string): number {
    const value = a * b;
    if (!Number.isSafeInteger(value * 512)) throw this.error(`says that ${what} is larger than 2^53 bytes`);
    return value;
  }
}

/**
 * Checks the text of a physical volume's group.
 *
 * @returns undefined where the volume belongs to no group
 * @throws CowError `damaged`
 */
export function volumeGroupOf(volume: PhysicalVolume, file: string): VolumeGroup | undefined {
  if (!volume.text) return undefined;
  const reader = new Reader(file);
  const named = [...volume.text].find(([, value]) => asSection(value)?.has("extent_size"));
  const group = asSection(named?.[1]);
  if (!named || !group) throw reader.error("names no group");
  const extentSectors = reader.count(group, "extent_size", "the group");
  if (extentSectors === 0) throw reader.error("has extents of no size");
  const pvs = asSection(group.get("physical_volumes")) ?? new Map();
  const here = pvPlace(reader, pvs, volume.uuid);
  const volumes = new Map<string, LogicalVolume>();
  const snapshots: ThickSnapshot[] = [];
  for (const [name, value] of asSection(group.get("logical_volumes")) ?? []) {
    const section = asSection(value);
    if (!section) continue;
    const snapshot = snapshotOf(reader, section);
    if (snapshot) snapshots.push(snapshot);
    else volumes.set(name, logicalVolume(reader, name, section, extentSectors, here));
  }
  return {
    name: named[0],
    uuid: reader.word(group, "id"),
    extentSectors,
    physicalVolumes: pvs.size,
    volumes,
    snapshots,
  };
}

function pvPlace(reader: Reader, pvs: Section, uuid: string): PvPlace {
  for (const [key, value] of pvs) {
    const section = asSection(value);
    if (!section || reader.word(section, "id") !== uuid) continue;
    return { key, peStart: reader.count(section, "pe_start", key), peCount: reader.count(section, "pe_count", key) };
  }
  throw reader.error(`does not name this physical volume, ${uuid}`);
}

function segmentSections(section: Section): Section[] {
  return [...section].flatMap(([key, value]) => (/^segment\d+$/.test(key) && asSection(value)) || []);
}

function snapshotOf(reader: Reader, section: Section): ThickSnapshot | undefined {
  const [segment] = segmentSections(section);
  if (segment?.get("type") !== "snapshot") return undefined;
  const merging = reader.word(segment, "merging_store");
  return {
    origin: reader.word(segment, "origin"),
    store: merging || reader.word(segment, "cow_store"),
    chunkSectors: reader.count(segment, "chunk_size", "a snapshot"),
    isMerging: merging !== "",
  };
}

function logicalVolume(
  reader: Reader,
  name: string,
  section: Section,
  extentSectors: number,
  here: PvPlace,
): LogicalVolume {
  const segments: Segment[] = [];
  let extents = 0;
  let reason: string | undefined;
  const parts = segmentSections(section)
    .map((each) => ({ each, start: reader.count(each, "start_extent", name) }))
    .sort((a, b) => a.start - b.start);
  for (const { each, start } of parts) {
    if (start !== extents)
      throw reader.error(`has a gap or an overlap in ${name} at extent ${Math.min(start, extents)}`);
    const count = reader.count(each, "extent_count", name);
    extents += count;
    const sectors = reader.product(extents, extentSectors, name);
    const length = reader.product(count, extentSectors, name);
    const placed = reason ?? stripesOf(reader, each, name, count, extentSectors, here);
    if (typeof placed === "string") reason = placed;
    else segments.push({ start: sectors - length, length, ...placed });
  }
  if (parts.length !== section.get("segment_count"))
    throw reader.error(`has not as many segments of ${name} as it says`);
  const sectors = reader.product(extents, extentSectors, name);
  return { name, sectors, segments: reason === undefined ? segments : undefined, reason };
}

/** Where the stripes of a segment are, or why that is unknown. */
function stripesOf(
  reader: Reader,
  segment: Section,
  name: string,
  extentCount: number,
  extentSectors: number,
  here: PvPlace,
): Pick<Segment, "stripes" | "stripeLength"> | string {
  const type = reader.word(segment, "type");
  if (type !== "striped" && type !== "linear") return `is of type ${type || "unknown"}`;
  const count = reader.count(segment, "stripe_count", name);
  const list = segment.get("stripes");
  if (
    !Array.isArray(list) ||
    count < 1 ||
    count > MAX_STRIPES ||
    list.length !== 2 * count ||
    extentCount % count !== 0
  )
    throw reader.error(`has stripes of ${name} that make no sense`);
  const perStripe = extentCount / count;
  const stripes: number[] = [];
  for (let i = 0; i < count; i++) {
    const [pv, extent] = [list[2 * i], list[2 * i + 1]];
    if (pv !== here.key) return `is also on another physical volume (${pv})`;
    if (typeof extent !== "number" || extent + perStripe > here.peCount)
      throw reader.error(`puts ${name} beyond the end of its physical volume`);
    stripes.push(here.peStart + reader.product(extent, extentSectors, name));
  }
  const stripeLength =
    count === 1 ? reader.product(extentCount, extentSectors, name) : reader.count(segment, "stripe_size", name);
  const whole = perStripe * extentSectors;
  if (count > 1 && (stripeLength === 0 || whole % stripeLength !== 0))
    throw reader.error(`has stripes of ${stripeLength} sectors in ${name}, which don't fit`);
  return { stripes, stripeLength };
}
