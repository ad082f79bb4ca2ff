/**
 * Owns the head block's codec: detection of the ABI, decoding, encoding. Pure: bytes in, object out.
 * Validates nothing beyond what is needed to tell the ABI; geometry.ts judges the values.
 */
import { decodeStruct, encodeStruct } from "../../bytes/struct.ts";
import { CowError } from "../../errors.ts";
import {
  BLOCK_BYTES,
  COW_MAGIC,
  type CowAbi,
  FLAG_DIRTY,
  FLAG_PACKED,
  HEAD_BLOCK_BYTES,
  headLayout,
  isLongAbi,
} from "./layout.ts";

/** The head as it is on disk. Words are bigint: nothing is rounded, however hostile the file. */
export interface CowHead {
  readonly abi: CowAbi;
  readonly version: number;
  /** All 16 bits, known or not. */
  readonly flags: number;
  readonly mapUnit: bigint;
  readonly mapSize: bigint;
  readonly dataOffset: bigint;
  readonly rdoBlocks: bigint;
  /** As stored: 64-bit machines sign-extend the 32-bit value. */
  readonly fingerprint: bigint;
  readonly used: bigint;
}

const LITTLE_MAGIC = [0x7f, 0x43, 0x4f, 0x57] as const;
const BIG_MAGIC = [0x57, 0x4f, 0x43, 0x7f] as const;

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}

/** Do these first bytes have a cowfile's magic number, of either byte order? */
export function hasCowMagic(bytes: Uint8Array): boolean {
  return startsWith(bytes, LITTLE_MAGIC) || startsWith(bytes, BIG_MAGIC);
}

/**
 * Detects the ABI. The width follows from the place of the value 1024 of `mapunit`; the two tests exclude each other.
 *
 * @returns undefined if neither width fits
 */
export function detectAbi(bytes: Uint8Array): CowAbi | undefined {
  if (bytes.length < headLayout("le32").sizeBytes) return undefined;
  const little = startsWith(bytes, LITTLE_MAGIC);
  if (!little && !startsWith(bytes, BIG_MAGIC)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getBigUint64(8, little) === BigInt(BLOCK_BYTES)) return little ? "le64" : "be64";
  const mapSize = view.getUint32(12, little);
  if (view.getUint32(8, little) === BLOCK_BYTES && mapSize !== 0 && mapSize % BLOCK_BYTES === 0)
    return little ? "le32" : "be32";
  return undefined;
}

/**
 * Decodes the head at the start of `bytes`.
 *
 * @throws CowError `bad-head` (no magic, neither width, all zero) or `truncated` (not even a head), naming `file`
 */
export function decodeHead(bytes: Uint8Array, file: string): CowHead {
  const abi = detectAbi(bytes);
  if (!abi) throw headError(bytes, file);
  const layout = headLayout(abi);
  if (bytes.length < layout.sizeBytes) {
    throw new CowError(
      "truncated",
      `the file ends at byte ${bytes.length}, inside the head of ${layout.sizeBytes} bytes`,
      { file },
    );
  }
  const values = decodeStruct(layout, bytes);
  return {
    abi,
    version: Number(values.version),
    flags: Number(values.flags) & 0xffff,
    mapUnit: values.mapunit,
    mapSize: values.mapsize,
    dataOffset: values.doffset,
    rdoBlocks: values.rdoblocks,
    fingerprint: values.rdofingerprint,
    used: values.cowused,
  };
}

function headError(bytes: Uint8Array, file: string): CowError {
  if (bytes.length === 0) {
    return new CowError("bad-head", "is empty: not a cowfile yet", {
      file,
      hints: ["`cowtool create -f` makes a cowfile of it"],
    });
  }
  if (!hasCowMagic(bytes)) {
    if (bytes.every((byte) => byte === 0)) {
      return new CowError("bad-head", "the head at byte 0 is all zeros", {
        file,
        hints: ["if this was to be a cowfile, its creation was cut short before anything was stored in it"],
      });
    }
    return new CowError("bad-head", "is not a cowfile: no magic number at byte 0", { file });
  }
  if (bytes.length < headLayout("le32").sizeBytes) {
    return new CowError("truncated", `the file ends at byte ${bytes.length}, inside the head`, { file });
  }
  return new CowError(
    "bad-head",
    "the head is damaged: mapunit at byte 8 (0x8) is 1024 in neither the 64-bit nor the 32-bit layout",
    {
      file,
      details: { offset: 8 },
    },
  );
}

/**
 * Writes the struct into the first bytes of `headBlock`, leaving the rest unchanged.
 *
 * @returns how many bytes the struct takes
 */
export function encodeHead(head: CowHead, headBlock: Uint8Array): number {
  const layout = headLayout(head.abi);
  encodeStruct(
    layout,
    {
      magic: BigInt(COW_MAGIC),
      version: BigInt(head.version),
      flags: BigInt((head.flags << 16) >> 16),
      mapunit: head.mapUnit,
      mapsize: head.mapSize,
      doffset: head.dataOffset,
      rdoblocks: head.rdoBlocks,
      rdofingerprint: head.fingerprint,
      cowused: head.used,
    },
    headBlock,
  );
  return layout.sizeBytes;
}

/** The bytes of a head block with only the head. */
export function newHeadBlock(head: CowHead): Uint8Array {
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  encodeHead(head, block);
  return block;
}

export function isDirty(head: CowHead): boolean {
  return (head.flags & FLAG_DIRTY) !== 0;
}

export function isPacked(head: CowHead): boolean {
  return (head.flags & FLAG_PACKED) !== 0;
}

/** The fingerprint proper: the low 32 bits, the only ones that all ABIs agree on. */
export function fingerprint32(head: CowHead): number {
  return Number(head.fingerprint & 0xffff_ffffn);
}

/** The value that the driver of that ABI stores for a 32-bit fingerprint: an `int` made `unsigned long`. */
export function storedFingerprint(abi: CowAbi, fingerprint: number): bigint {
  const signed = BigInt(fingerprint | 0);
  return BigInt.asUintN(isLongAbi(abi) ? 64 : 32, signed);
}

/** `0x9c030201`: how a fingerprint is shown. */
export function formatFingerprint(fingerprint: number): string {
  return `0x${(fingerprint >>> 0).toString(16).padStart(8, "0")}`;
}
