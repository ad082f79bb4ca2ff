/**
 * Owns a device over a descriptor that another thread opens, locks and closes: each thread of a server has one for a
 * file that other threads also use. They share the known length.
 */
import type { BlockDevice, OnCacheMiss } from "./block-device.ts";
import { FileDevice } from "./file-device.ts";
import { KnownLength } from "./known-length.ts";
import { FileMapping, type PassedMapping } from "./sys/file-mapping.ts";
import { tryRead } from "./sys/nowait.ts";
import { readAt, writeAt } from "./sys/positioned.ts";

/** A file for other threads, in the form in which they have it. */
export function asLent(device: BlockDevice): BlockDevice {
  const { file, name, writable } = device;
  return file ? BorrowedFile.borrow(file.fd, name, writable, { length: file.length.shared }) : device;
}

/** Sent with a descriptor. */
export interface Lent {
  /** The shared known length; without it, the length now. */
  readonly length?: SharedArrayBuffer | undefined;
  /** A mapping of the same file, if there is one; the lender closes it. */
  readonly mapping?: PassedMapping | undefined;
}

export class BorrowedFile extends FileDevice {
  #mapping: FileMapping | undefined;

  static borrow(fd: number, name: string, writable: boolean, { length, mapping }: Lent = {}): BorrowedFile {
    const file = new BorrowedFile(fd, name, writable, length && KnownLength.sharing(length));
    file.#mapping = mapping && FileMapping.receive(mapping);
    return file;
  }

  addressOf(offsetBytes: number, lengthBytes: number): number {
    return this.#mapping?.locate(offsetBytes, lengthBytes) ?? 0;
  }

  /** A cut file is no longer sent from memory. Each thread checks for itself: asking on each read would cost more. */
  override isWhole(): boolean {
    const isWhole = super.isWhole();
    if (!isWhole) this.#mapping = undefined;
    return isWhole;
  }

  invalidateMappings(): void {
    this.#mapping?.invalidate();
  }

  override read(target: Uint8Array, offsetBytes: number): number {
    const got = this.length.isCut ? 0 : readAt(this.fd, target, offsetBytes);
    if (got === target.length || target.length === 0) return target.length;
    const done = Math.max(0, got);
    return done + super.read(target.subarray(done), offsetBytes + done);
  }

  override write(source: Uint8Array, offsetBytes: number): void {
    const put = this.length.isCut ? 0 : writeAt(this.fd, source, offsetBytes);
    if (put === source.length) {
      this.noteWritten(offsetBytes, put);
      return;
    }
    const done = Math.max(0, put);
    if (done > 0) this.noteWritten(offsetBytes, done);
    super.write(source.subarray(done), offsetBytes + done);
  }

  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    if (!this.length.isCut && tryRead(this.fd, target, offsetBytes) === target.length) return true;
    onCacheMiss(this.fd, offsetBytes, target.length);
    return false;
  }

  /** A server's clients decide when data becomes durable; early writeback would only slow them down. */
  override noteWritten(offset: number, length: number): void {
    if (!this.isBlockDevice) this.length.reach(offset + length);
  }

  override close(): void {
    // The lender closes it.
  }
}
