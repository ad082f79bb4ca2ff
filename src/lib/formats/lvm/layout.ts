/**
 * Owns the on-disk structs of an LVM2 physical volume as declarative tables, and its checksum. Source: the LVM2 on-disk
 * format as `lvm` 2.03 writes it; all numbers are little-endian on every machine.
 */
import { crc32 } from "node:zlib";
import { type MachineModel, placeFields } from "../../bytes/struct.ts";

export const SECTOR_BYTES = 512;
/** The label is in one of the first four sectors; pvcreate takes the second. */
export const LABEL_SECTORS = 4;
/** "LABELONE" as a little-endian word. */
export const LABEL_ID = 0x454e4f4c4542414cn;
/** "LVM2 001" as a little-endian word. */
export const LABEL_TYPE = 0x31303020324d564cn;
/** The header of a metadata area: its first sector. */
export const AREA_HEADER_BYTES = 512;
/** " LVM2 x[5A%r0N*>" as four little-endian words of 4 bytes. */
export const AREA_MAGIC = [0x4d564c20n, 0x5b782032n, 0x72254135n, 0x3e2a4e30n] as const;
/** Set in a location whose metadata is not to be used. */
export const LOCATION_IGNORED = 1n;

const MODEL: MachineModel = { endian: "little", wordBytes: 8 };

export const LABEL_LAYOUT = placeFields(
  [
    { name: "id", kind: "word", meaning: "LABELONE" },
    { name: "sector", kind: "word", meaning: "the sector that it is in" },
    { name: "crc", kind: "u32", meaning: "checksum of the sector from byte 20 on" },
    { name: "offset", kind: "u32", meaning: "where the physical volume's header begins, in bytes of the sector" },
    { name: "type", kind: "word", meaning: "LVM2 001" },
  ],
  MODEL,
);
export const LOCATION_LAYOUT = placeFields(
  [
    { name: "offset", kind: "word", meaning: "bytes from the start of the volume" },
    { name: "size", kind: "word", meaning: "bytes; 0 up to the end" },
  ],
  MODEL,
);
export const AREA_LAYOUT = placeFields(
  [
    { name: "checksum", kind: "u32", meaning: "checksum of the sector from byte 4 on" },
    { name: "magic0", kind: "u32", meaning: "space, LVM" },
    { name: "magic1", kind: "u32", meaning: "2 x[" },
    { name: "magic2", kind: "u32", meaning: "5A%r" },
    { name: "magic3", kind: "u32", meaning: "0N*>" },
    { name: "version", kind: "u32", meaning: "1" },
    { name: "start", kind: "word", meaning: "where the area begins, in bytes of the volume" },
    { name: "size", kind: "word", meaning: "bytes of the area, this sector included" },
  ],
  MODEL,
);
export const RAW_LAYOUT = placeFields(
  [
    { name: "offset", kind: "word", meaning: "where the text begins, in bytes of the area" },
    { name: "size", kind: "word", meaning: "bytes of the text; at the end of the area it continues after the header" },
    { name: "checksum", kind: "u32", meaning: "checksum of the text" },
    { name: "flags", kind: "u32", meaning: "1: not to be used" },
  ],
  MODEL,
);

/** Of the volume's header: 32 characters of its id, then its size; lists of locations follow. */
export const UUID_BYTES = 32;

const FIRST_CRC = 0xf597a6cf;

/** LVM's checksum: CRC-32 with its own start value, and nothing inverted. */
export function lvmChecksum(...parts: readonly Uint8Array[]): number {
  let crc = ~FIRST_CRC >>> 0;
  for (const part of parts) crc = crc32(part, crc);
  return ~crc >>> 0;
}
