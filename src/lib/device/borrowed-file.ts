/**
 * Owns a device over a descriptor that somebody else opened, locks and closes: what each thread of a server has of a file
 * that other threads read and write, too. Its size is asked for when it is needed, as others may have changed it.
 */
import * as fs from "node:fs";
import { systemError } from "../errors.ts";
import type { BlockDevice, OnMiss } from "./block-device.ts";
import { FileDevice } from "./file-device.ts";
import { FileMapping, type MappingHandover } from "./sys/file-mapping.ts";
import { readNow } from "./sys/nowait.ts";
import { readAt, writeAt } from "./sys/positioned.ts";

/** A file that others write, too, as it is at each moment: `device` itself knows only of its own writes. */
export function asItIs(device: BlockDevice): BlockDevice {
  return device.fd === undefined ? device : BorrowedFile.borrow(device.fd, device.name, device.writable);
}

export class BorrowedFile extends FileDevice {
  #isSettled = false;
  #mapping: FileMapping | undefined;

  /** @param mapping of the same file, if there is one; the lender closes it, too */
  static borrow(fd: number, name: string, writable: boolean, mapping?: MappingHandover): BorrowedFile {
    const file = new BorrowedFile(fd, name, writable);
    file.#mapping = mapping && FileMapping.receive(mapping);
    return file;
  }

  /** One that nobody changes while it is borrowed, such as a base: to ask for its size would cost each read a call. */
  static borrowSettled(fd: number, name: string, mapping?: MappingHandover): BorrowedFile {
    const file = BorrowedFile.borrow(fd, name, false, mapping);
    file.#isSettled = true;
    return file;
  }

  addressOf(offsetBytes: number, lengthBytes: number): number {
    return this.#mapping?.locate(offsetBytes, lengthBytes) ?? 0;
  }

  distrustAddresses(): void {
    this.#mapping?.distrust();
  }

  override get sizeBytes(): number {
    if (this.#isSettled || this.isBlockDevice) return super.sizeBytes;
    try {
      return fs.fstatSync(this.fd).size;
    } catch (error) {
      throw systemError(error, this.name, "cannot find out its size");
    }
  }

  override read(target: Uint8Array, offsetBytes: number): number {
    const got = readAt(this.fd, target, offsetBytes);
    if (got === target.length || target.length === 0) return target.length;
    const done = Math.max(0, got);
    return done + super.read(target.subarray(done), offsetBytes + done);
  }

  override write(source: Uint8Array, offsetBytes: number): void {
    const put = writeAt(this.fd, source, offsetBytes);
    if (put === source.length) return;
    const done = Math.max(0, put);
    super.write(source.subarray(done), offsetBytes + done);
  }

  readNow(target: Uint8Array, offsetBytes: number, onMiss: OnMiss): boolean {
    if (readNow(this.fd, target, offsetBytes) === target.length) return true;
    onMiss(this.fd, offsetBytes, target.length);
    return false;
  }

  /** A server's clients say when something is to be durable; writing it out early would only be in their way. */
  override noteWritten(): void {
    // Nothing to note: the size is asked for when it is needed.
  }

  override close(): void {
    // The lender closes it.
  }
}
