/**
 * Owns the interface to where files live: every open, rename and removal of an operation goes through it, so that tests
 * can put an operation on a storage that records, fails or loses power (see memory-storage.ts).
 */
import type { Notice } from "../context.ts";
import type { BlockDevice } from "./block-device.ts";
import type { DeviceKey } from "./sys/device-key.ts";
import type { LockMode } from "./sys/lock-mode.ts";
import type { Place } from "./sys/underlying.ts";

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
  /** Where its bytes are, by way of partitions and loop devices; see sys/underlying.ts. */
  readonly places?: readonly Place[];
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
  /** The name is one that cowtool gives to files of its own: see own-file.ts. */
  readonly own?: boolean;
  /**
   * Whether a file or device may be mounted; default for writing: `refuse`. Swap, device-mapper and claims of the kernel are
   * refused in either case; with neither, nothing of it is looked at.
   */
  readonly mounted?: "refuse" | "allow";
}

export interface CreateOptions {
  /** The name is one that cowtool gives to files of its own, and these begin like this; see own-file.ts. */
  readonly own?: string;
  /** What it is made of: it is never open to more users than these. A file of our own has the one beside it by itself. */
  readonly inputs?: readonly string[];
  /** Is told what of the owner and mode of the file that is replaced cannot be kept. */
  readonly onNotice?: ((notice: Notice) => void) | undefined;
}

export interface RenameOptions extends Pick<CreateOptions, "inputs" | "onNotice"> {
  readonly replace: boolean;
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
  /** What is at a path, or undefined. Symbolic links are followed; with `own` they are of the kind `other`. */
  facts(path: string, options?: { readonly own?: boolean }): FileFacts | undefined;
  /** The path behind every symbolic link, or the path itself where there is nothing yet. */
  realPath(path: string): string;
  /**
   * Opens a regular file, a block device, or for reading an export of an NBD server (nobody locks that).
   * @throws CowError `not-found`, `permission`, `locked` (by a process, or mounted), `usage` (a directory, an export for writing), `io`; `exists` for a
   *   file of our own that is not one
   */
  open(path: string, options?: OpenOptions): BlockDevice;
  /** Starts an output file in the directory of `path`. @throws CowError `exists` if it would replace what is not `own` */
  create(path: string, options?: CreateOptions): PendingFile;
  /**
   * Gives a file of our own another name in the same directory, durably; its content is the caller's business. What it
   * replaces leaves it owner and mode.
   * @throws CowError `exists` if the name is taken and `replace` is false
   */
  rename(from: string, to: string, options: RenameOptions): void;
  /** Makes a directory that all may look into, and those above it, unless they are there. */
  makeDirectory(path: string): void;
  /** A file without a name of its own, gone when it is closed: for what does not fit into memory. Messages call it `name`. */
  scratch(name: string): BlockDevice;
  /** Removes a file durably; it is no error if there is none. @throws CowError `exists` if it is not `own` */
  remove(path: string, options?: CreateOptions): void;
  /**
   * The whole of a small file of our own, or undefined if there is none.
   * @throws CowError if it is larger than `limitBytes`; `exists` if it is no regular file
   */
  readSmall(path: string, limitBytes: number): Uint8Array | undefined;
  /** The names in a directory; none where it cannot be looked into. */
  list(directory: string): readonly string[];
  /** Bytes that an ordinary user may still write to the file system of `path`, or undefined where that is unknown. */
  freeBytes(path: string): number | undefined;
}
