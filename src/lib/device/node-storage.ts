/**
 * Owns the Storage that is this machine's file system: atomic outputs, durable names, identity of files. Where a name is
 * an NBD URI, it is an export that can be read.
 */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { decodeUtf8, showBytes } from "../bytes/utf8.ts";
import { CowError, errnoName, systemError } from "../errors.ts";
import { formatNbdUri, isNbdUri, parseNbdUri } from "../protocol/uri.ts";
import type { BlockDevice } from "./block-device.ts";
import { FileDevice } from "./file-device.ts";
import { freeBytes } from "./free-space.ts";
import { RemoteDevice } from "./remote/remote-device.ts";
import { stateDirectories } from "./state-directories.ts";
import type { FileFacts, FileKind, FileStamp, OpenOptions, PendingFile, Storage } from "./storage.ts";
import { deviceKey } from "./sys/device-key.ts";
import { removeLeftOvers, temporaryName } from "./temporary-name.ts";

const SECTOR_BYTES = 512;
const NEW_FILE_MODE = 0o666; // less what the umask takes

function kindOf(stat: fs.BigIntStats): FileKind {
  if (stat.isFile()) return "file";
  if (stat.isBlockDevice()) return "block";
  return stat.isDirectory() ? "directory" : "other";
}

function stampOf({ mtimeNs, ctimeNs, ino, birthtimeNs }: fs.BigIntStats): FileStamp {
  return {
    modifiedNs: mtimeNs.toString(),
    changedNs: ctimeNs.toString(),
    inode: ino.toString(),
    bornNs: birthtimeNs.toString(),
  };
}

/** A rename, link or removal is durable once its directory is. */
function syncDirectory(directory: string): void {
  let fd: number;
  try {
    fd = fs.openSync(directory, fs.constants.O_RDONLY);
  } catch {
    return; // a directory one may write to but not read cannot be synced
  }
  try {
    fs.fsyncSync(fd);
  } catch (error) {
    // Some network file systems know no fsync of directories; a true I/O error is not to be hidden.
    if (errnoName(error) === "EIO") throw systemError(error, directory, "cannot make the directory durable (fsync)");
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * The name behind every symbolic link, so that an output replaces the file and not the link to it. Of a file that does not
 * exist yet it is the name that it will have.
 */
function resolveTarget(file: string): string {
  const directory = path.dirname(file);
  return realName(file) ?? path.join(realName(directory) ?? path.resolve(directory), path.basename(file));
}

/** @returns undefined for what is not there @throws CowError `unsupported` for a name that a string cannot hold */
function realName(file: string): string | undefined {
  let bytes: Buffer;
  try {
    bytes = fs.realpathSync.native(file, "buffer");
  } catch {
    return undefined;
  }
  const name = decodeUtf8(bytes);
  if (name !== undefined) return name;
  throw new CowError("unsupported", `its full name is not UTF-8: ${showBytes(bytes)}`, {
    file,
    hints: ["cowtool takes file names in UTF-8 only: rename the directory, or work in another one"],
  });
}

/** link(2) fails where rename(2) would replace a file that appeared meanwhile. */
function renameToFreeName(from: string, to: string): void {
  try {
    fs.linkSync(from, to);
  } catch (error) {
    if (errnoName(error) === "EEXIST") throw error;
    // A file system without hard links: the best there is.
    if (fs.existsSync(to)) throw new CowError("exists", "already exists", { file: to });
    fs.renameSync(from, to);
    return;
  }
  fs.unlinkSync(from);
}

class PendingNodeFile implements PendingFile {
  readonly device: FileDevice;
  readonly #finalPath: string;
  readonly #temporaryPath: string;
  #settled = false;

  constructor(finalPath: string) {
    this.#finalPath = resolveTarget(finalPath);
    removeLeftOvers(path.resolve(this.#finalPath));
    for (let attempt = 0; ; attempt++) {
      const temporary = temporaryName(path.resolve(this.#finalPath));
      try {
        const fd = fs.openSync(temporary, "wx+", NEW_FILE_MODE);
        this.#temporaryPath = temporary;
        this.device = FileDevice.fromDescriptor(fd, finalPath, true);
        return;
      } catch (error) {
        if (errnoName(error) !== "EEXIST" || attempt > 8) throw systemError(error, finalPath, "cannot create");
      }
    }
  }

  commit({ replace }: { readonly replace: boolean }): void {
    this.device.flush();
    try {
      if (replace) fs.renameSync(this.#temporaryPath, this.#finalPath);
      else renameToFreeName(this.#temporaryPath, this.#finalPath);
    } catch (error) {
      throw systemError(error, this.#finalPath, "cannot create");
    }
    this.#settled = true;
    this.device.close();
    syncDirectory(path.dirname(this.#finalPath));
  }

  abandon(): void {
    if (this.#settled) return;
    this.#settled = true;
    this.device.close();
    fs.rmSync(this.#temporaryPath, { force: true });
  }
}

/** What one knows of an export without asking its server. */
function remoteFacts(uri: string): FileFacts {
  // TLS is a way to it, not a part of what it is.
  const identity = formatNbdUri({ ...parseNbdUri(uri), tls: undefined });
  return { kind: "remote", sizeBytes: undefined, allocatedBytes: undefined, identity };
}

function refuseToWrite(uri: string): never {
  throw new CowError("usage", "is an export of an NBD server: it is read, and never written", { file: uri });
}

/** The file system of this machine, and what NBD servers export. */
export const nodeStorage: Storage = {
  get stateDirectories(): readonly string[] {
    return stateDirectories();
  },

  facts(file): FileFacts | undefined {
    if (isNbdUri(file)) return remoteFacts(file);
    let stat: fs.BigIntStats;
    try {
      stat = fs.statSync(file, { bigint: true });
    } catch (error) {
      const errno = errnoName(error);
      if (errno === "ENOENT" || errno === "ENOTDIR") return undefined;
      throw systemError(error, file, "cannot look at it");
    }
    const kind = kindOf(stat);
    return {
      kind,
      sizeBytes: Number(stat.size),
      allocatedBytes: Number(stat.blocks) * SECTOR_BYTES,
      identity: kind === "block" ? `block:${stat.rdev}` : `${stat.dev}:${stat.ino}`,
      modifiedMs: Number(stat.mtimeNs) / 1e6,
      ...(kind === "file" ? { stamp: stampOf(stat) } : {}),
      ...(kind === "block" ? { device: deviceKey(Number(stat.rdev)) } : {}),
    };
  },

  realPath(file: string): string {
    return isNbdUri(file) ? file : resolveTarget(file);
  },

  open(file: string, options?: OpenOptions): BlockDevice {
    if (isNbdUri(file)) return options?.writable ? refuseToWrite(file) : RemoteDevice.open(file);
    return FileDevice.open(file, options);
  },

  create(file: string): PendingFile {
    if (isNbdUri(file)) refuseToWrite(file);
    return new PendingNodeFile(file);
  },

  scratch(name: string): BlockDevice {
    const directory = fs.mkdtempSync(path.join(tmpdir(), "cowtool-"));
    const file = path.join(directory, "scratch");
    try {
      return FileDevice.fromDescriptor(fs.openSync(file, "wx+", 0o600), name, true);
    } catch (error) {
      throw systemError(error, file, "cannot create");
    } finally {
      // The open descriptor keeps it alive: whatever happens to us, nothing is left behind.
      fs.rmSync(directory, { recursive: true, force: true });
    }
  },

  remove(file: string): void {
    try {
      fs.unlinkSync(file);
    } catch (error) {
      if (errnoName(error) === "ENOENT") return;
      throw systemError(error, file, "cannot remove");
    }
    syncDirectory(path.dirname(path.resolve(file)));
  },

  rename(from: string, to: string, { replace }: { readonly replace: boolean }): void {
    const target = resolveTarget(to);
    try {
      if (replace) fs.renameSync(from, target);
      else renameToFreeName(from, target);
    } catch (error) {
      throw systemError(error, to, "cannot create");
    }
    syncDirectory(path.dirname(target));
  },

  readSmall(file: string, limitBytes: number): Uint8Array | undefined {
    let fd: number;
    try {
      fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    } catch (error) {
      if (errnoName(error) === "ENOENT") return undefined;
      throw systemError(error, file, "cannot open");
    }
    try {
      const size = fs.fstatSync(fd).size;
      if (size > limitBytes)
        throw new CowError("unsuitable", `is ${size} bytes long, more than the ${limitBytes} expected of it`, { file });
      return fs.readFileSync(fd);
    } catch (error) {
      throw systemError(error, file, "cannot read");
    } finally {
      fs.closeSync(fd);
    }
  },

  makeDirectory(directory: string): void {
    try {
      fs.mkdirSync(directory, { recursive: true, mode: 0o755 });
    } catch (error) {
      throw systemError(error, directory, "cannot create this directory");
    }
  },

  list(directory: string): readonly string[] {
    try {
      // Names that are not UTF-8 are no names of ours, and could not be opened.
      return fs.readdirSync(directory, "buffer").flatMap((name) => decodeUtf8(name) ?? []);
    } catch {
      return [];
    }
  },

  freeBytes,
};
