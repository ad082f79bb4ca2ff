/**
 * Owns the interface to where files live: every open, rename and removal of an operation goes through it, so that tests
 * can put an operation on a storage that records, fails or loses power (see memory-storage.ts).
 */
import type { BlockDevice } from "./block-device.ts";
import type { DeviceKey } from "./sys/device-key.ts";
import type { LockMode } from "./sys/lock-mode.ts";

/** `remote`: an export of an NBD server, named by its URI. */
export type FileKind = "file" | "block" | "remote" | "directory" | "other";

export interface FileFacts {
  readonly kind: FileKind;
  /** As the file system says; for block devices, the device's; undefined where only opening it would tell. */
  readonly sizeBytes: number | undefined;
  /** Space really taken, in bytes; undefined where nobody says. */
  readonly allocatedBytes: number | undefined;
  /**
   * Device and inode (for a block device: what it is, not where its node lies): equal for two names of one file. Of an
   * export it is where it is found, so that two ways to it are two.
   */
  readonly identity: string;
  /** When its content was last changed, in milliseconds since 1970; undefined where nobody says. */
  readonly modifiedMs?: number;
  readonly stamp?: FileStamp;
  /** Of a file: how many names it has. */
  readonly linkCount?: number;
  /** Of a block device: what tells it from others. */
  readonly device?: DeviceKey;
}

/** What the file system says of a regular file besides its size; times in nanoseconds since 1970, as decimal digits. */
export interface FileStamp {
  readonly modifiedNs: string;
  /** Of its content, name or permissions: nobody can set this one. */
  readonly changedNs: string;
  /** What tells it from a file that had its name before; the time is 0 where the file system does not keep it. */
  readonly inode: string;
  readonly bornNs: string;
}

export interface OpenOptions {
  readonly writable?: boolean;
  /** Opened for reading, but refused where it could not be opened for writing: for what tells of a later write. */
  readonly willWrite?: boolean;
  readonly lock?: LockMode | "none";
}

/** An output that appears under its final name whole, or not at all. */
export interface PendingFile {
  readonly device: BlockDevice;
  /**
   * Makes the content durable, then the name.
   * @throws CowError `exists` if the name is taken and `replace` is false
   */
  commit(options: { readonly replace: boolean }): void;
  /** Removes what is there of it; does nothing after commit. */
  abandon(): void;
}

export interface Storage {
  /** Where notes go that have no file to lie beside, the best first. They need not exist. */
  readonly stateDirectories: readonly string[];
  /** What is at a path (symbolic links followed), or undefined. */
  facts(path: string): FileFacts | undefined;
  /** The path behind every symbolic link, or the path itself where there is nothing yet. */
  realPath(path: string): string;
  /**
   * Opens a regular file, a block device, or for reading an export of an NBD server (nobody locks that).
   * @throws CowError `not-found`, `permission`, `locked`, `usage` (a directory, an export for writing), `io`
   */
  open(path: string, options?: OpenOptions): BlockDevice;
  /** Starts an output file in the directory of `path`. */
  create(path: string): PendingFile;
  /**
   * Gives a file another name in the same directory, durably; its content is the caller's business.
   * @throws CowError `exists` if the name is taken and `replace` is false
   */
  rename(from: string, to: string, options: { readonly replace: boolean }): void;
  /** Makes a directory that all may look into, and those above it, unless they are there. */
  makeDirectory(path: string): void;
  /** A file without a name of its own, gone when it is closed: for what does not fit into memory. Messages call it `name`. */
  scratch(name: string): BlockDevice;
  /** Removes a file durably; it is no error if there is none. */
  remove(path: string): void;
  /** The whole of a small file, or undefined if there is none. @throws CowError if it is larger than `limitBytes` */
  readSmall(path: string, limitBytes: number): Uint8Array | undefined;
  /** The names in a directory; none where it cannot be looked into. */
  list(directory: string): readonly string[];
  /** Bytes that an ordinary user may still write to the file system of `path`, or undefined where that is unknown. */
  freeBytes(path: string): number | undefined;
}
