/**
 * Owns the store's header: reading, checking and writing its 16 bytes. It only accepts a chunk size that the kernel
 * would take.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { decodeStruct, encodeStruct } from "../../bytes/struct.ts";
import { atByte, CowError } from "../../errors.ts";
import type { Problem } from "../format.ts";
import {
  HEADER_LAYOUT,
  isChunkSectors,
  MAX_CHUNK_SECTORS,
  STORE_MAGIC,
  STORE_VERSION,
  type StoreGeometry,
  storeGeometry,
} from "./layout.ts";
import { storeProblem } from "./problems.ts";

export interface StoreHeader {
  readonly valid: number;
  readonly chunkSectors: number;
}

const MAGIC_BYTES = 4;
const VALID_OFFSET = 4;
const VERSION_OFFSET = 8;
const CHUNK_SIZE_OFFSET = 12;

export function hasStoreMagic(head: Uint8Array): boolean {
  if (head.length < MAGIC_BYTES) return false;
  return new DataView(head.buffer, head.byteOffset, head.byteLength).getUint32(0, true) === STORE_MAGIC;
}

/**
 * Reads the header.
 *
 * @throws CowError `truncated`; `bad-head` for another magic; `unsupported` for another version
 */
export function readHeader(source: ByteSource): StoreHeader {
  const bytes = new Uint8Array(HEADER_LAYOUT.sizeBytes);
  const got = readZeroFilled(source, bytes, 0);
  if (got < bytes.length) {
    throw new CowError(
      "truncated",
      `is ${got} bytes long: a dm-snapshot store begins with a header of ${bytes.length}`,
      {
        file: source.name,
      },
    );
  }
  const fields = decodeStruct(HEADER_LAYOUT, bytes);
  if (fields.magic === 0n) {
    throw new CowError("bad-head", "has no dm-snapshot header: the magic number at byte 0 (0x0) is zero", {
      file: source.name,
      hints: [
        "a kernel takes it for a new store: attaching it would wipe its header and its first metadata area",
        "a transient store (type N) has no header, and cannot be read from the disk alone",
      ],
    });
  }
  if (fields.magic !== BigInt(STORE_MAGIC)) {
    throw new CowError(
      "bad-head",
      `has no dm-snapshot header: 0x${fields.magic.toString(16)} is at byte 0 (0x0), not 0x${STORE_MAGIC.toString(16)}`,
      {
        file: source.name,
        hints: ["a transient store (type N) has no header, and cannot be read from the disk alone"],
      },
    );
  }
  if (fields.version !== BigInt(STORE_VERSION)) {
    throw new CowError(
      "unsupported",
      `is a dm-snapshot store of version ${fields.version} at ${atByte(VERSION_OFFSET)}; only version ${STORE_VERSION} is known`,
      { file: source.name },
    );
  }
  return { valid: Number(fields.valid), chunkSectors: Number(fields.chunk_size) };
}

/** The header's problems, and the geometry unless it is unusable. */
export function judgeHeader(header: StoreHeader): {
  readonly problems: readonly Problem[];
  readonly geometry: StoreGeometry | undefined;
} {
  const problems: Problem[] = [];
  if (header.valid === 0) {
    problems.push(
      storeProblem(
        "invalid",
        { offset: VALID_OFFSET, length: 4 },
        `is marked invalid at ${atByte(VALID_OFFSET)}: a kernel gave the snapshot up`,
      ),
    );
  } else if (header.valid !== 1) {
    problems.push(
      storeProblem(
        "valid-value",
        { offset: VALID_OFFSET, length: 4 },
        `${header.valid} is at ${atByte(VALID_OFFSET)}, where a kernel writes 1 for a valid store`,
      ),
    );
  }
  if (!isChunkSectors(header.chunkSectors)) {
    problems.push(
      storeProblem(
        "chunk-size",
        { offset: CHUNK_SIZE_OFFSET, length: 4 },
        `the chunk size at ${atByte(CHUNK_SIZE_OFFSET)} is ${header.chunkSectors} sectors, not a power of two up to ${MAX_CHUNK_SECTORS}`,
      ),
    );
    return { problems, geometry: undefined };
  }
  return { problems, geometry: storeGeometry(header.chunkSectors) };
}

/** The bytes of a header; in a kernel's store, zeros follow up to the end of the chunk. */
export function encodeHeader({ valid, chunkSectors }: StoreHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_LAYOUT.sizeBytes);
  encodeStruct(
    HEADER_LAYOUT,
    {
      magic: BigInt(STORE_MAGIC),
      valid: BigInt(valid),
      version: BigInt(STORE_VERSION),
      chunk_size: BigInt(chunkSectors),
    },
    bytes,
  );
  return bytes;
}
