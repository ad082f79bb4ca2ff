/**
 * Owns the interface to where files live: every open, rename and removal of an operation goes through it, so that tests
 * can put an operation on a storage that records, fails or loses power (see memory-storage.ts).
 */
import type { Notice } from "../context.ts";
import type { BlockDevice } from "./block-device.ts";
import type { DeviceKey } from "./sys/device-key.ts";
import type { LockMode } from "./sys/lock-file.ts";
import type { Place } from "./sys/underlying.ts";

/** `remote`: an export of an NBD server, named by its URI. */
export type FileKind = "file" | "block" | "remote" | "directory" | "other";

/** What a storage knows of a file without opening it. */
export interface FileFacts {
  readonly kind: FileKind;
  /** In bytes; for block devices, the device's; undefined where only opening it would tell. */
  readonly sizeBytes: number | undefined;
  /** Allocated space in bytes; undefined if unknown. */
  readonly allocatedBytes: number | undefined;
  /**
   * Device and inode (for a block device: the device, not its node): equal for two names of one file. For an export its
   * address, so two ways to one export differ.
   */
  readonly identity: string;
  /** When its content was last changed, in milliseconds since 1970; undefined if unknown. */
  readonly modifiedMs?: number;
  readonly stamp?: FileStamp;
  /** Where its bytes are, by way of partitions and loop devices; see sys/underlying.ts. */
  readonly places?: readonly Place[];
  /** For a file: the number of its names. */
  readonly linkCount?: number;
  /** For a block device: its identity. */
  readonly device?: DeviceKey;
}

/** Times of a regular file in nanoseconds since 1970, as decimal digits, and more. */
export interface FileStamp {
  readonly modifiedNs: string;
  /** Of a change to content, name or permissions: no program can set this one. */
  readonly changedNs: string;
  /** Tells it from a file that had its name before; the time is 0 where the file system does not keep it. */
  readonly inode: string;
  readonly bornNs: string;
}

/** How a file is opened: for what, and with which lock. */
export interface OpenOptions {
  readonly writable?: boolean;
  /** Opened for reading, but refused if it could not be opened for writing: for a question that a write will follow. */
  readonly willWrite?: boolean;
  readonly lock?: LockMode | "none";
  /** The name is one that cowtool gives to files of its own: see own-file.ts. */
  readonly own?: boolean;
  /** This process has just made it, so that no reader can have left a lock file for it. */
  readonly isNew?: boolean;
  /**
   * Whether a file or device may be mounted; default for writing: `refuse`. Swap, device-mapper and claims of the kernel are
   * refused in either case; if undefined, none is checked.
   */
  readonly mounted?: "refuse" | "allow";
}

/** How a new file is made. */
export interface CreateOptions {
  /** The name is one that cowtool gives to files of its own, and these begin like this; see own-file.ts. */
  readonly own?: string;
  /**
   * It replaces a file that this process has locked exclusively: locked as well before it gets the name, it keeps owner and
   * mode, and stays open after commit.
   */
  readonly held?: boolean;
  /** Its inputs: it is never open to more users than these. For a file of our own, the file beside it is added. */
  readonly inputs?: readonly string[];
  /** Receives warnings about owner and mode of a replaced file that could not be kept. */
  readonly onNotice?: ((notice: Notice) => void) | undefined;
}

/** What a rename may replace. */
export interface RenameOptions extends Pick<CreateOptions, "inputs" | "onNotice"> {
  readonly replace: boolean;
}

/** How a file is removed. */
export interface RemoveOptions extends Pick<CreateOptions, "own"> {
  /** May it be there again after a power cut? Default: no. */
  readonly mayReturn?: boolean;
}

/** An output that appears under its final name whole, or not at all. */
export interface PendingFile {
  readonly device: BlockDevice;
  /** Inode and times, as they stay when it gets its name; undefined where there are none. */
  readonly stamp?: FileStamp;
  /** prepare(), rename() and sync(). @throws CowError `exists` if the name is taken and `replace` is false */
  commit(options: { readonly replace: boolean }): void;
  /** Makes the content durable, with owner and mode. */
  prepare(options: { readonly replace: boolean }): void;
  /** Gives it its name, and waits for no disk. @throws CowError `exists` if the name is taken and `replace` is false */
  rename(options: { readonly replace: boolean }): void;
  /** Makes the name durable. */
  sync(): void;
  /** Removes it; after commit it only closes what stayed open. */
  abandon(): void;
}

/** Where files are: a file system, or memory. Operations open, make, rename and remove files only through it. */
export interface Storage {
  /** Directories for files of ours that are beside no other file, the best first. They need not exist. */
  readonly stateDirectories: readonly string[];
  /** The file at a path, or undefined. Symbolic links are followed; with `own` they are of the kind `other`. */
  facts(path: string, options?: { readonly own?: boolean }): FileFacts | undefined;
  /** The path behind every symbolic link, or the path itself where there is nothing yet. */
  realPath(path: string): string;
  /**
   * Opens a regular file, a block device, or for reading an export of an NBD server (without a lock).
   * @throws CowError `not-found`, `permission`, `locked` (by a process, or mounted), `usage` (a directory, an export for writing), `io`; `exists` for a
   *   file of our own that is not one
   */
  open(path: string, options?: OpenOptions): BlockDevice;
  /**
   * Makes a file of our own, which has its name at once and is exclusively locked. Nothing is durable yet: flush() makes the
   * content so, syncName() the name.
   * @throws CowError `exists`, `permission`, `no-space`, `io`
   */
  make(path: string): BlockDevice;
  /** Starts an output file in the directory of `path`. @throws CowError `exists` if it would replace what is not `own` */
  create(path: string, options?: CreateOptions): PendingFile;
  /**
   * Gives a file of our own another name in the same directory, durably; its content is the caller's business. What it
   * replaces leaves it owner and mode.
   * @throws CowError `exists` if the name is taken and `replace` is false
   */
  rename(from: string, to: string, options: RenameOptions): void;
  /** Makes a directory that all users may read, and those above it, unless they exist. */
  makeDirectory(path: string): void;
  /** A file without a name, gone when it is closed: for data that does not fit into memory. Messages call it `name`. */
  scratch(name: string): BlockDevice;
  /** Removes a file, if it exists. @throws CowError `exists` if it is not `own` */
  remove(path: string, options?: RemoveOptions): void;
  /**
   * The whole of a small file of our own, or undefined if there is none.
   * @throws CowError if it is larger than `limitBytes`; `exists` if it is no regular file
   */
  readSmall(path: string, limitBytes: number): Uint8Array | undefined;
  /** The names in a directory; none if it cannot be read. */
  list(directory: string): readonly string[];
  /** Bytes that an ordinary user may still write to the file system of `path`, or undefined where that is unknown. */
  freeBytes(path: string): number | undefined;
}
