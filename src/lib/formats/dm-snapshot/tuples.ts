/**
 * Owns writing tuples into a store's metadata areas: encoding, and their places; and zeroing parts of a
 * store without filling its holes. The caller decides when they may be written.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { writeZeros as fill } from "../../bytes/zero.ts";
import { areaChunk, type StoreGeometry, TUPLE_BYTES, tupleOffset } from "./layout.ts";

const PIECE_TUPLES = 4096;
const UINT32_VALUES = 2 ** 32;

/** A list of exceptions, as the caller has them. */
interface Exceptions {
  readonly length: number;
  oldAt(index: number): number;
  newAt(index: number): number;
}

/** Writes exceptions into the list from place `first` on, ascending; not durable before a flush. */
export function writeTuples(target: ByteTarget, geometry: StoreGeometry, first: number, exceptions: Exceptions): void {
  const bytes = new Uint8Array(Math.min(PIECE_TUPLES, exceptions.length) * TUPLE_BYTES);
  const view = new DataView(bytes.buffer);
  for (let done = 0; done < exceptions.length; ) {
    const place = first + done;
    const leftInArea = geometry.perArea - (place % geometry.perArea);
    const count = Math.min(PIECE_TUPLES, leftInArea, exceptions.length - done);
    for (let i = 0; i < count; i++) {
      setChunk(view, i * TUPLE_BYTES, exceptions.oldAt(done + i));
      setChunk(view, i * TUPLE_BYTES + 8, exceptions.newAt(done + i));
    }
    target.write(bytes.subarray(0, count * TUPLE_BYTES), tupleOffset(geometry, place));
    done += count;
  }
}

function setChunk(view: DataView, at: number, chunk: number): void {
  view.setUint32(at, chunk % UINT32_VALUES, true);
  view.setUint32(at + 4, Math.floor(chunk / UINT32_VALUES), true);
}

/** Zeroes the list from place `first` on, in all areas below `areas`; not durable before a flush. */
export function zeroTuples(target: ByteTarget, geometry: StoreGeometry, first: number, areas: number): void {
  for (let area = Math.floor(first / geometry.perArea); area < areas; area++) {
    const start = areaChunk(geometry, area) * geometry.chunkBytes;
    writeZeros(target, Math.max(start, tupleOffset(geometry, first)), start + geometry.chunkBytes);
  }
}

/** Makes `[from, to)` read as zeros; parts that are holes already stay so. Durable only after a flush. */
export function writeZeros(target: ByteTarget, from: number, to: number): void {
  const end = Math.min(to, target.sizeBytes);
  for (const { offset, length } of [...target.dataExtents(from, end)]) fill(target, offset, offset + length);
}
