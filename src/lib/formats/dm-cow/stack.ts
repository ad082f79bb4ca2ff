/**
 * Owns a dm-cow stack as its table describes it: opens the named devices, compares them with the table, and makes
 * layers. They are opened only if the user named the format.
 */
import type { ByteSource, Place } from "../../bytes/byte-source.ts";
import { atByte, CowError } from "../../errors.ts";
import type {
  Companions,
  Layer,
  OpenLayerOptions,
  PartOptions,
  PlacedSource,
  Problem,
  Remarks,
  Setting,
} from "../format.ts";
import { allocatedBy, dataPlaces, LayeredImage, shown } from "../layered-image.ts";
import { type AddressingChoice, addressingFor, isLossy, parseAddressing, SectorBitmap } from "./addressing.ts";
import { DmCowLayer } from "./layer.ts";
import { bitmapSectors, decodeMark, MAGIC, MARK_BYTES, markOffsetBytes, SECTOR_BYTES } from "./layout.ts";
import { type DmCowProblemId, dmCowProblem } from "./problems.ts";
import { type DmCowTable, readTable, type TableLayer } from "./table.ts";

export const dmCowSettings: readonly Setting[] = [
  { name: "bitmap", value: "linear|as-coded[:BYTES]", meaning: "how its bitmaps were written; default linear" },
  { name: "layer", value: "N", meaning: "only this one of its layers, from 1 for the lowest" },
  {
    name: "recover",
    value: undefined,
    meaning: "as coded: sectors that share a bit and are zero count as not written",
  },
];

/** A finding, with its device: opening throws it, check lists it. */
export interface Finding {
  readonly device: string;
  readonly problem: Problem;
}

/** The devices of one layer. */
export interface LayerDevices {
  readonly spec: TableLayer;
  readonly bitmapDevice: ByteSource;
  readonly data: ByteSource;
  readonly bitmap: SectorBitmap;
  /** Has the driver written its magic number? */
  readonly isAttached: boolean;
}

/** A table with its user's settings. */
export interface DmCowPart {
  readonly table: DmCowTable;
  readonly companions: Companions;
  readonly choice: AddressingChoice;
  readonly recover: boolean;
  /** The number of the only layer wanted, from 1. */
  readonly only: number | undefined;
}

/** @throws CowError `bad-head` if it is not a table; `usage` */
export function openTable(source: ByteSource, { companions, settings }: PartOptions): DmCowPart {
  const table = readTable(source);
  if (!companions)
    throw new CowError("usage", "names other files, and nothing says how to open them", { file: source.name });
  const only = settings?.get("layer");
  if (only !== undefined && !(/^[1-9]$/.test(only) && Number(only) <= table.layers.length))
    throw new CowError("usage", `has layers 1 to ${table.layers.length}, and no "${only}"`, { file: source.name });
  return {
    table,
    companions,
    choice: parseAddressing(settings?.get("bitmap")),
    recover: settings?.has("recover") ?? false,
    only: only === undefined ? undefined : Number(only),
  };
}

/** Opens the devices of one layer. If the bitmap cannot be used at all, there is only a finding. */
export function openDevices(
  { table, companions, choice }: DmCowPart,
  spec: TableLayer,
): { readonly devices: LayerDevices | undefined; readonly findings: readonly Finding[] } {
  const bitmapDevice = companions.open(spec.bitmap);
  const data = companions.open(spec.data);
  const findings: Finding[] = [];
  const report = (id: DmCowProblemId, device: ByteSource, offset: number, length: number, message: string): void => {
    findings.push({ device: device.name, problem: dmCowProblem(id, { offset, length }, message) });
  };
  const length = bitmapSectors(table.sectors);
  const markAt = markOffsetBytes(length);
  const needed = (spec.offset + table.sectors) * SECTOR_BYTES;
  if (data.sizeBytes < needed)
    report("device-short", data, data.sizeBytes, needed - data.sizeBytes, shortMessage(data, needed));
  if (bitmapDevice.sizeBytes < markAt + SECTOR_BYTES) {
    const missing = markAt + SECTOR_BYTES - bitmapDevice.sizeBytes;
    const message = `ends at ${atByte(bitmapDevice.sizeBytes)}, before its magic number at ${atByte(markAt)}`;
    report("bitmap-short", bitmapDevice, bitmapDevice.sizeBytes, missing, message);
    return { devices: undefined, findings };
  }
  const bytes = new Uint8Array(MARK_BYTES);
  bytes.fill(0, bitmapDevice.read(bytes, markAt));
  const mark = decodeMark(bytes);
  if (mark.magic !== 0n && mark.magic !== MAGIC) {
    const message = `has 0x${mark.magic.toString(16)} where its magic number should be, at ${atByte(markAt)}`;
    report("foreign-magic", bitmapDevice, markAt, 8, message);
    return { devices: undefined, findings };
  }
  const isAttached = mark.magic !== 0n;
  if (isAttached && mark.length !== BigInt(length)) {
    const message = `was made with ${mark.length} sectors of bitmap, but ${table.sectors} sectors need ${length}, at ${atByte(markAt + 8)}`;
    report("length-mismatch", bitmapDevice, markAt + 8, 8, message);
    return { devices: undefined, findings };
  }
  const bitmap = new SectorBitmap(bitmapDevice, table.sectors, addressingFor(choice, bitmapDevice.sizeBytes));
  const impossible = bitmap.firstImpossible();
  if (impossible !== undefined) {
    const message = `has a bit that belongs to no sector if it is read ${bitmap.addressing.name}, at ${atByte(impossible)}`;
    report("impossible-bit", bitmapDevice, impossible, 1, message);
  }
  return { devices: { spec, bitmapDevice, data, bitmap, isAttached }, findings };
}

/** The base that the table names; a finding if it is too short. */
export function openTableBase({ table, companions }: DmCowPart): {
  readonly base: ByteSource;
  readonly findings: readonly Finding[];
} {
  const base = companions.open(table.base.device);
  const needed = (table.base.offset + table.sectors) * SECTOR_BYTES;
  if (base.sizeBytes >= needed) return { base, findings: [] };
  const where = { offset: base.sizeBytes, length: needed - base.sizeBytes };
  return {
    base,
    findings: [{ device: base.name, problem: dmCowProblem("device-short", where, shortMessage(base, needed)) }],
  };
}

function shortMessage(device: ByteSource, needed: number): string {
  return `ends at ${atByte(device.sizeBytes)}, but the table needs it to reach ${atByte(needed)}`;
}

/** All layers of a table as one, or the one that the user chose. @throws CowError `truncated`, `damaged`, … */
export function openDmCowLayer(source: ByteSource, options: OpenLayerOptions): Layer {
  const part = openTable(source, options);
  const wanted = part.table.layers.filter((_, i) => part.only === undefined || part.only === i + 1);
  const warnings: string[] = [];
  const layers = wanted.map((spec) => {
    const { devices, findings } = openDevices(part, spec);
    refuse(findings);
    if (!devices) throw new CowError("damaged", "has a bitmap that cannot be used", { file: source.name });
    const { bitmap, data } = devices;
    if (isLossy(bitmap.addressing, part.table.sectors)) warnings.push(lossyWarning(devices, part.recover));
    const dataOffsetBytes = spec.offset * SECTOR_BYTES;
    const { sectors } = part.table;
    return new DmCowLayer({ name: source.name, sectors, bitmap, data, dataOffsetBytes, recover: part.recover });
  });
  const [first] = layers;
  if (!first) throw new CowError("bad-head", "has no layer", { file: source.name });
  const { formatId, granularityBytes, virtualSizeBytes, base } = first;
  return {
    ...{ name: source.name, formatId, granularityBytes, virtualSizeBytes, base },
    warnings: warnings.length > 0 ? warnings : undefined,
    extents: (from, to) => allocatedBy(layers, from, Math.min(to, virtualSizeBytes)),
    places: (from, to) => shown(undefined, layers, from, to),
  };
}

/** The whole stack, its base included. @throws CowError as openDmCowLayer */
export function openDmCowImage(source: ByteSource, options: OpenLayerOptions): PlacedSource & Remarks {
  const part = openTable(source, options);
  if (part.only !== undefined)
    throw new CowError("usage", "layer=N is one layer of a stack: name its backing before it", {
      file: source.name,
      hints: [`for instance BASE,dm-cow:layer=${part.only};${source.name}`],
    });
  const { base, findings } = openTableBase(part);
  refuse(findings);
  const layer = openDmCowLayer(source, options);
  return new LayeredImage(layer.name, startingAt(base, part.table.base.offset * SECTOR_BYTES), [layer]);
}

/** A source from an offset on. */
function startingAt(source: ByteSource, start: number): PlacedSource {
  const { name, allocationUnitBytes, seesHoles } = source;
  const sizeBytes = Math.max(0, source.sizeBytes - start);
  const placesOf = (from: number, to: number): Place[] =>
    from < to ? [{ offset: from, length: to - from, source, at: start + from }] : [];
  return {
    name,
    allocationUnitBytes,
    seesHoles,
    sizeBytes,
    read: (target, offsetBytes) => source.read(target, start + offsetBytes),
    places: (from, to) => placesOf(from, Math.min(to, sizeBytes)),
    dataExtents: (from, to) => dataPlaces(placesOf(from, Math.min(to, sizeBytes))),
  };
}

function lossyWarning({ spec, bitmap: { addressing } }: LayerDevices, recover: boolean): string {
  const span = addressing.bits * SECTOR_BYTES;
  const guess = recover ? "; those that are zero are taken for not written" : "";
  return `its bitmap ${spec.bitmap} is read ${addressing.name}, which loses: sectors ${span} bytes apart share a bit${guess}`;
}

/** @throws CowError for the first error among the findings */
function refuse(findings: readonly Finding[]): void {
  const found = findings.find(({ problem }) => problem.severity === "error");
  if (!found) return;
  const { id, message, offset, length } = found.problem;
  throw new CowError(id.endsWith("-short") ? "truncated" : id === "foreign-magic" ? "bad-head" : "damaged", message, {
    file: found.device,
    details: { problem: id, offset, length },
    hints: id === "impossible-bit" ? ["`bitmap=` says in which way it was written; info tells which ways fit"] : [],
  });
}
