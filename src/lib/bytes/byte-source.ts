/**
 * Owns the narrowest view of storage that a format needs, so that formats know neither files nor devices.
 * src/lib/device extends these; tests implement them over an array.
 */
import type { Extent } from "./extent.ts";

/** Something with a size that can be read at any offset. All calls block. */
export interface ByteSource {
  /** The name used in messages: a path, or what the user called it. */
  readonly name: string;
  readonly sizeBytes: number;
  /** The granularity in which the storage allocates, in bytes: says how much a hole proves. */
  readonly allocationUnitBytes: number;
  /** Does dataExtents tell holes from data? If not, "allocated" proves nothing. */
  readonly seesHoles: boolean;
  /**
   * Fills `target` from `offsetBytes`.
   * @returns the bytes read: fewer than asked only where the source ends
   * @throws CowError `io`, naming the source and the offset
   */
  read(target: Uint8Array, offsetBytes: number): number;
  /** The parts of `[from, to)` that may hold something other than zeros, ascending and disjoint; the rest are holes. */
  dataExtents(from: number, to: number): Iterable<Extent>;
  /** Of a source composed of others: the parts of `[from, to)` that may hold something other than zeros, ascending. */
  places?(from: number, to: number): Iterable<Place>;
  /** Of a slow source: it prepares parts of itself on other threads. */
  readonly ahead?: ReadAhead | undefined;
}

/** A part of an image, and where its bytes are. */
export interface Place extends Extent {
  readonly source: ByteSource;
  /** Offset of its first byte in `source`. Bytes beyond the end of the source read as zeros. */
  readonly at: number;
  /** What the format's own tables say is there; undefined where only the holes of the source tell. */
  readonly kind?: "data" | "zero" | "compressed" | undefined;
}

export interface ReadAhead {
  /** How much can be prepared at a time. */
  readonly mostBytes: number;
  /** Prepares a part, as far as possible: reading it is then cheap. Never fails; reading reports errors. */
  prepare(offsetBytes: number, length: number): Promise<void>;
}

/** A source that can be changed. */
export interface ByteTarget extends ByteSource {
  /** Writes all of `source` at `offsetBytes`, or throws a CowError naming the target and the offset. */
  write(source: Uint8Array, offsetBytes: number): void;
  /** Sets the size; what is added reads as zeros. */
  resize(sizeBytes: number): void;
  /** Returns once everything written before is durable. After an error it may not be. */
  flush(): void;
}

/** Reads into `target`, zero-filling beyond the end. Returns the bytes that were there. */
export function readZeroFilled(source: ByteSource, target: Uint8Array, offsetBytes: number): number {
  const got = offsetBytes >= source.sizeBytes ? 0 : source.read(target, offsetBytes);
  if (got < target.length) target.fill(0, got);
  return got;
}
