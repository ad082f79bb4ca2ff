/**
 * Owns reading a physical volume's label and metadata areas, up to the text of the volume group. Verifies checksums; of
 * two areas, the newer intact text is used.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { decodeStruct } from "../../bytes/struct.ts";
import { atByte, CowError } from "../../errors.ts";
import type { Problem } from "../format.ts";
import {
  AREA_HEADER_BYTES,
  AREA_LAYOUT,
  AREA_MAGIC,
  LABEL_ID,
  LABEL_LAYOUT,
  LABEL_SECTORS,
  LABEL_TYPE,
  LOCATION_IGNORED,
  LOCATION_LAYOUT,
  lvmChecksum,
  RAW_LAYOUT,
  SECTOR_BYTES,
  UUID_BYTES,
} from "./layout.ts";
import { lvmProblem } from "./problems.ts";
import { parseText, type Section } from "./text.ts";

/** A larger text is not the volume group of one physical volume. */
const MAX_TEXT_BYTES = 16 << 20;
/** The start of the bytes that a label's checksum covers. */
const LABEL_CRC_FROM = 20;
/** Lists in the header end within its sector. */
const MAX_LOCATIONS = 16;
/** One at each end of the device. More could all claim the same megabytes of text. */
const MAX_AREAS = 2;

export interface PhysicalVolume {
  /** As in the text: in groups, with dashes. */
  readonly uuid: string;
  readonly deviceBytes: bigint;
  /** The parsed text; undefined if the volume belongs to no group. */
  readonly text: Section | undefined;
  readonly problems: readonly Problem[];
}

/** The sector with the label among the first bytes of a device, or undefined. */
function findLabel(head: Uint8Array): number | undefined {
  for (let sector = 0; sector < LABEL_SECTORS; sector++) {
    const bytes = head.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
    if (bytes.length < SECTOR_BYTES) return undefined;
    const { id, type } = decodeStruct(LABEL_LAYOUT, bytes);
    if (id === LABEL_ID && type === LABEL_TYPE) return sector;
  }
  return undefined;
}

export function hasLabel(head: Uint8Array): boolean {
  return findLabel(head) !== undefined;
}

/**
 * Reads a physical volume.
 *
 * @throws CowError `bad-head` without a label; `damaged` where neither area has a text that is whole
 */
export function readPhysicalVolume(source: ByteSource): PhysicalVolume {
  const head = new Uint8Array(LABEL_SECTORS * SECTOR_BYTES);
  readZeroFilled(source, head, 0);
  const sector = findLabel(head);
  if (sector === undefined) {
    throw new CowError("bad-head", "has no LVM label in its first four sectors", { file: source.name });
  }
  const problems: Problem[] = [];
  const at = sector * SECTOR_BYTES;
  const bytes = head.subarray(at, at + SECTOR_BYTES);
  const label = decodeStruct(LABEL_LAYOUT, bytes);
  if (BigInt(lvmChecksum(bytes.subarray(LABEL_CRC_FROM))) !== label.crc) {
    const message = `the label at ${atByte(at)} has a wrong checksum`;
    problems.push(lvmProblem("label-checksum", { offset: at, length: SECTOR_BYTES }, message));
  }
  const { uuid, deviceBytes, areas } = readHeader(bytes, Number(label.offset), source.name);
  const texts: Section[] = [];
  for (const area of areas.slice(0, MAX_AREAS)) {
    const found = readArea(source, area);
    if (found.problem) problems.push(found.problem);
    if (found.text) texts.push(found.text);
  }
  if (areas.length > MAX_AREAS) {
    const message = `the label at ${atByte(at)} names ${areas.length} metadata areas: only the first ${MAX_AREAS} are read, as LVM makes no more`;
    problems.push(lvmProblem("metadata-area", { offset: at, length: SECTOR_BYTES }, message));
  }
  if (texts.length === 0 && problems.some(({ id }) => id === "metadata-area")) {
    const problem = problems.find(({ id }) => id === "metadata-area");
    throw new CowError("damaged", problem?.message ?? "has no metadata", {
      file: source.name,
      details: { offset: problem?.offset ?? 0 },
    });
  }
  texts.sort((a, b) => seqno(b) - seqno(a));
  return { uuid, deviceBytes, text: texts[0], problems };
}

/** How often the group's text was written: the newer one is used. */
function seqno(text: Section): number {
  for (const value of text.values()) {
    if (!(value instanceof Map)) continue;
    const number = value.get("seqno");
    return typeof number === "number" ? number : 0;
  }
  return 0;
}

interface Area {
  readonly offset: bigint;
  readonly size: bigint;
}

/** The header after the label: id, size, data areas, metadata areas. */
function readHeader(
  label: Uint8Array,
  start: number,
  file: string,
): { readonly uuid: string; readonly deviceBytes: bigint; readonly areas: readonly Area[] } {
  let at = start + UUID_BYTES + 8;
  if (start < LABEL_LAYOUT.sizeBytes || at > label.length)
    throw new CowError("damaged", `the label says that the header begins at its byte ${start}`, { file });
  const letters = String.fromCharCode(...label.subarray(start, start + UUID_BYTES)).replace(/[^\x21-\x7e]/g, "?");
  const uuid = letters.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, "$1-$2-$3-$4-$5-$6-$7");
  const view = new DataView(label.buffer, label.byteOffset, label.byteLength);
  const list = (): Area[] => {
    const areas: Area[] = [];
    while (at + LOCATION_LAYOUT.sizeBytes <= label.length && areas.length < MAX_LOCATIONS) {
      const location = decodeStruct(LOCATION_LAYOUT, label.subarray(at));
      at += LOCATION_LAYOUT.sizeBytes;
      if (location.offset === 0n) break;
      areas.push(location);
    }
    return areas;
  };
  list();
  return { uuid, deviceBytes: view.getBigUint64(start + UUID_BYTES, true), areas: list() };
}

/** The text of one metadata area, if it exists and is intact. */
function readArea(source: ByteSource, area: Area): { readonly text?: Section; readonly problem?: Problem } {
  const bad = (what: string): { readonly problem: Problem } => {
    const offset = area.offset <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(area.offset) : 0;
    const message = `the metadata area at ${atByte(area.offset)} ${what}`;
    return { problem: lvmProblem("metadata-area", { offset, length: AREA_HEADER_BYTES }, message) };
  };
  if (area.offset + BigInt(AREA_HEADER_BYTES) > BigInt(source.sizeBytes)) return bad("is beyond the end of the file");
  const header = new Uint8Array(AREA_HEADER_BYTES);
  readZeroFilled(source, header, Number(area.offset));
  const fields = decodeStruct(AREA_LAYOUT, header);
  const magic = [fields.magic0, fields.magic1, fields.magic2, fields.magic3];
  if (magic.some((word, i) => word !== AREA_MAGIC[i])) return bad("has no header");
  if (BigInt(lvmChecksum(header.subarray(4))) !== fields.checksum) return bad("has a header with a wrong checksum");
  if (fields.version !== 1n || fields.start !== area.offset) return bad("has a header that contradicts the label");
  const raw = decodeStruct(RAW_LAYOUT, header.subarray(AREA_LAYOUT.sizeBytes));
  // Empty or not to be used, which is no damage.
  if (raw.offset === 0n || raw.size === 0n || (raw.flags & LOCATION_IGNORED) !== 0n) return {};
  const headerBytes = BigInt(AREA_HEADER_BYTES);
  const isInside = raw.offset >= headerBytes && raw.offset < fields.size && raw.size <= fields.size - headerBytes;
  if (!isInside || raw.size > BigInt(MAX_TEXT_BYTES)) return bad("says that its text is outside the area");
  if (fields.start + fields.size > BigInt(source.sizeBytes)) return bad("reaches beyond the end of the file");
  const text = new Uint8Array(Number(raw.size));
  const start = Number(fields.start);
  const first = Math.min(text.length, Number(fields.size - raw.offset));
  readZeroFilled(source, text.subarray(0, first), start + Number(raw.offset));
  // The area is a ring: the text continues after the header.
  if (first < text.length) readZeroFilled(source, text.subarray(first), start + AREA_HEADER_BYTES);
  if (BigInt(lvmChecksum(text)) !== raw.checksum) return bad("has a text with a wrong checksum");
  const end = text.indexOf(0);
  try {
    const words = new TextDecoder().decode(end < 0 ? text : text.subarray(0, end));
    return { text: parseText(words, source.name) };
  } catch (error) {
    if (error instanceof CowError) return bad(`can't be read: ${error.message}`);
    throw error;
  }
}
