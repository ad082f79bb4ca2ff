/**
 * Owns one open regular file or block device as a BlockDevice. Turns every system error into one that names file and offset.
 * A file that another program cuts short while it is open is an error, and does not read as zeros: see known-length.ts.
 */
import * as fs from "node:fs";
import { promisify } from "node:util";
import type { Extent } from "../bytes/extent.ts";
import { atByte, CowError, errnoName, systemError } from "../errors.ts";
import type { BlockDevice, LocalFile } from "./block-device.ts";
import { syncName } from "./durable-name.ts";
import { openNewBeside } from "./file-modes.ts";
import { KnownLength } from "./known-length.ts";
import { openOwn } from "./own-file.ts";
import type { OpenOptions } from "./storage.ts";
import { blockDeviceSize, isWriteProtected } from "./sys/block-device.ts";
import { knowsHoles, punchHole, seekDataExtents } from "./sys/holes.ts";
import { inUse, requireFree } from "./sys/in-use.ts";
import { startWriteback } from "./sys/kernel-copy.ts";
import { lockThrough, shareLock } from "./sys/lock.ts";
import type { Unlock } from "./sys/lock-file.ts";

/** One system call moves at most 2^31-4096 bytes; smaller pieces keep a single call short. */
const MAX_IO_BYTES = 1 << 30;
/** After this many written bytes, the kernel is asked to begin writing them out. */
const WRITEBACK_BYTES = 8 << 20;

function openImage(path: string, { writable = false, mounted = writable ? "refuse" : undefined }: OpenOptions): number {
  const exclusive = mounted === undefined ? 0 : requireFree(path, mounted);
  const claim = writable ? exclusive : 0;
  try {
    // O_NONBLOCK: opening a FIFO must not hang; it means nothing for files and disks.
    return fs.openSync(
      path,
      (writable ? fs.constants.O_RDWR : fs.constants.O_RDONLY) | claim | fs.constants.O_NONBLOCK,
    );
  } catch (error) {
    if (errnoName(error) === "EBUSY") throw inUse(path);
    if (errnoName(error) === "EISDIR")
      throw new CowError("usage", "is a directory, not an image", { file: path, cause: error });
    throw systemError(error, path, writable ? "cannot open for writing" : "cannot open");
  }
}

export class FileDevice implements BlockDevice, LocalFile {
  readonly name: string;
  readonly writable: boolean;
  readonly allocationUnitBytes: number;
  readonly isBlockDevice: boolean;
  readonly seesHoles: boolean;
  /** Device and inode (for a block device, the device itself), as in Storage.facts(). */
  readonly identity: string;
  readonly length: KnownLength;
  #fd: number | undefined;
  #unlock: Unlock | undefined;
  #pendingFrom = Number.POSITIVE_INFINITY;
  #pendingTo = 0;
  #pendingBytes = 0;

  /** @param length the known length of the same file, if another device has it */
  protected constructor(fd: number, name: string, writable: boolean, length?: KnownLength) {
    const stat = fs.fstatSync(fd);
    this.#fd = fd;
    this.name = name;
    this.writable = writable;
    this.isBlockDevice = stat.isBlockDevice();
    this.seesHoles = !this.isBlockDevice && knowsHoles();
    this.allocationUnitBytes = this.isBlockDevice ? 512 : stat.blksize || 4096;
    this.identity = this.isBlockDevice ? `block:${stat.rdev}` : `${stat.dev}:${stat.ino}`;
    this.length = length ?? KnownLength.of(this.isBlockDevice ? blockDeviceSize(fd, name) : stat.size);
  }

  /** Makes a file of our own, with its name at once, exclusively locked. @throws CowError `exists`, `permission`, … */
  static make(path: string): FileDevice {
    try {
      const device = new FileDevice(openNewBeside(path, path), path, true);
      device.#unlock = lockThrough(device.fd, path, "exclusive", true);
      return device;
    } catch (error) {
      throw systemError(error, path, "cannot create");
    }
  }

  /** Takes ownership of an open descriptor; it is closed with the device. */
  static fromDescriptor(fd: number, name: string, writable: boolean): FileDevice {
    return new FileDevice(fd, name, writable);
  }

  /** @throws CowError as Storage.open */
  static open(path: string, options: OpenOptions = {}): FileDevice {
    const writable = options.writable ?? false;
    const fd = options.own ? openOwn(path, { writable }) : openImage(path, options);
    try {
      const stat = fs.fstatSync(fd);
      if (!stat.isFile() && !stat.isBlockDevice()) {
        throw new CowError(
          "usage",
          `is ${stat.isDirectory() ? "a directory" : "neither a regular file nor a block device"}`,
          { file: path },
        );
      }
      if (writable || options.willWrite) requireWritable(fd, path, writable);
      const device = new FileDevice(fd, path, writable);
      if (options.lock && options.lock !== "none") device.#unlock = lockThrough(fd, path, options.lock, options.isNew);
      return device;
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  get fd(): number {
    if (this.#fd === undefined) throw new Error(`${this.name} is closed`);
    return this.#fd;
  }

  get file(): LocalFile {
    return this;
  }

  get sizeBytes(): number {
    return this.length.bytes;
  }

  /** The actual length at this moment. */
  measure(): number {
    try {
      return this.isBlockDevice ? blockDeviceSize(this.fd, this.name) : fs.fstatSync(this.fd).size;
    } catch (error) {
      throw systemError(error, this.name, "cannot find out its size");
    }
  }

  /**
   * Is the file still as long as it was? If it was cut short, nothing of the file can be read or written any more.
   * @throws CowError `io` where that can't be told
   */
  isWhole(): boolean {
    // In this order, because another thread may be making it longer.
    const known = this.length.bytes;
    const size = this.measure();
    if (size < known) this.length.cutTo(size);
    return !this.length.isCut;
  }

  /** Has it no name any more? Then it is gone when it is closed. */
  isUnlinked(): boolean {
    return fs.fstatSync(this.fd).nlink === 0;
  }

  /** @throws CowError `io` if it was found to be cut */
  #requireUncut(): void {
    if (!this.length.isCut) return;
    const { foundBytes, bytes } = this.length;
    throw new CowError(
      "io",
      `was cut short by another program while it was open: it ended at ${atByte(foundBytes)}, but must be ${bytes} bytes long`,
      { file: this.name, details: { offset: foundBytes, size_expected: bytes } },
    );
  }

  read(target: Uint8Array, offsetBytes: number): number {
    this.#requireUncut();
    let done = 0;
    let endedAt = -1;
    while (done < target.length) {
      let got: number;
      try {
        got = fs.readSync(this.fd, target, done, Math.min(target.length - done, MAX_IO_BYTES), offsetBytes + done);
      } catch (error) {
        throw systemError(error, this.name, `cannot read at ${atByte(offsetBytes + done)}`, {
          offset: offsetBytes + done,
        });
      }
      if (got === 0) {
        const at = offsetBytes + done;
        if (this.#endsAt(at, endedAt === at)) break;
        endedAt = at;
      }
      done += got;
    }
    return done;
  }

  /**
   * Does the file end at this offset?
   * @param again it was read once more, because another thread might have made it longer just then
   * @throws CowError `io` if it should not end here
   */
  #endsAt(offset: number, again: boolean): boolean {
    if (offset >= this.length.bytes) return true;
    if (this.isWhole() && again) this.length.cutTo(offset);
    this.#requireUncut();
    return false;
  }

  write(source: Uint8Array, offsetBytes: number): void {
    this.#requireUncut();
    let done = 0;
    while (done < source.length) {
      try {
        done += fs.writeSync(this.fd, source, done, Math.min(source.length - done, MAX_IO_BYTES), offsetBytes + done);
      } catch (error) {
        // Part of it may be in the file, and must be seen by the sweep.
        if (done > 0) this.noteWritten(offsetBytes, done);
        throw systemError(error, this.name, `cannot write at ${atByte(offsetBytes + done)}`, {
          offset: offsetBytes + done,
        });
      }
    }
    this.noteWritten(offsetBytes, source.length);
  }

  /** Starts writeback; see sys/kernel-copy.ts. */
  #noteForWriteback(offset: number, length: number): void {
    this.#pendingFrom = Math.min(this.#pendingFrom, offset);
    this.#pendingTo = Math.max(this.#pendingTo, offset + length);
    this.#pendingBytes += length;
    if (this.#pendingBytes < WRITEBACK_BYTES) return;
    startWriteback(this.fd, this.#pendingFrom, this.#pendingTo - this.#pendingFrom);
    this.#pendingFrom = Number.POSITIVE_INFINITY;
    this.#pendingTo = 0;
    this.#pendingBytes = 0;
  }

  /** Must also be called for writes that bypass the device (copy_file_range): size and writeback depend on it. */
  noteWritten(offset: number, length: number): void {
    if (!this.isBlockDevice) this.length.reach(offset + length);
    this.#noteForWriteback(offset, length);
  }

  resize(sizeBytes: number): void {
    this.#requireUncut();
    try {
      fs.ftruncateSync(this.fd, sizeBytes);
    } catch (error) {
      throw systemError(error, this.name, `cannot set the size to ${sizeBytes} bytes`);
    }
    this.length.set(sizeBytes);
  }

  flush(): void {
    // Data beyond the cut can no longer be made durable.
    this.#requireUncut();
    try {
      // Content and length suffice; the modification time may reach the disk later.
      fs.fdatasyncSync(this.fd);
    } catch (error) {
      throw systemError(error, this.name, "cannot make what was written durable (fdatasync)");
    }
  }

  syncName(): void {
    syncName(this.fd, this.name);
  }

  async flushAside(): Promise<void> {
    try {
      await promisify(fs.fdatasync)(this.fd);
    } catch (error) {
      throw systemError(error, this.name, "cannot make what was written durable (fdatasync)");
    }
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    this.#requireUncut();
    const end = Math.min(to, this.sizeBytes);
    if (this.isBlockDevice) {
      if (from < end) yield { offset: from, length: end - from };
      return;
    }
    // Beyond the end of a file that was cut, everything would look like a hole.
    const hasEnded = yield* seekDataExtents(this.fd, this.name, from, end);
    if (hasEnded && !this.isWhole()) this.#requireUncut();
  }

  punchHole(offset: number, length: number): boolean {
    this.#requireUncut();
    return punchHole(this.fd, this.name, offset, length);
  }

  shareLock(): void {
    if (this.#unlock) this.#unlock = shareLock(this.fd, this.name, this.#unlock);
  }

  close(): void {
    if (this.#fd === undefined) return;
    this.#unlock?.();
    fs.closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** @throws CowError `permission`, `io` for a file that may not be written, and a device that is write-protected */
function requireWritable(fd: number, path: string, isOpenForIt: boolean): void {
  try {
    if (!isOpenForIt) fs.accessSync(path, fs.constants.W_OK);
  } catch (error) {
    throw systemError(error, path, "cannot open for writing");
  }
  if (fs.fstatSync(fd).isBlockDevice() && isWriteProtected(fd))
    throw new CowError("permission", "is a write-protected block device", { file: path });
}
