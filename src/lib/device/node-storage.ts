/**
 * Owns the Storage of this machine's file system: atomic outputs, durable names, identity of files. A name that is an
 * NBD URI is an export that can be read.
 */
import * as fs from "node:fs";
import { homedir, tmpdir } from "node:os";
import * as path from "node:path";
import { decodeUtf8 } from "../bytes/utf8.ts";
import { CowError, errnoName, systemError } from "../errors.ts";
import { formatNbdUri, isNbdUri, parseNbdUri } from "../protocol/uri.ts";
import type { BlockDevice } from "./block-device.ts";
import { syncDirectory } from "./durable-name.ts";
import { FileDevice } from "./file-device.ts";
import { freeBytes } from "./free-space.ts";
import { OutputFile, renameOwn, resolveTarget, stampOf } from "./output-file.ts";
import { openOwn, requireOwn } from "./own-file.ts";
import { RemoteDevice } from "./remote/remote-device.ts";
import type {
  CreateOptions,
  FileFacts,
  FileKind,
  OpenOptions,
  PendingFile,
  RemoveOptions,
  Storage,
} from "./storage.ts";
import { deviceKey } from "./sys/device-key.ts";
import { identityOf, placesOf } from "./sys/underlying.ts";

const SECTOR_BYTES = 512;
/** Of files of ours that outlive a process and are beside no other file; used if it is writable. */
const STATE_FOR_ALL = "/var/lib/cowtool";

function kindOf(stat: fs.BigIntStats): FileKind {
  if (stat.isFile()) return "file";
  if (stat.isBlockDevice()) return "block";
  return stat.isDirectory() ? "directory" : "other";
}

/** The facts about an export that need no connection. */
function remoteFacts(uri: string): FileFacts {
  // TLS is how the export is reached, not what it is.
  const identity = formatNbdUri({ ...parseNbdUri(uri), tls: undefined });
  return { kind: "remote", sizeBytes: undefined, allocatedBytes: undefined, identity };
}

function refuseToWrite(uri: string): never {
  throw new CowError("usage", "is an export of an NBD server, which cowtool never writes", { file: uri });
}

/** The file system of this machine, and what NBD servers export. */
export const nodeStorage: Storage = {
  get stateDirectories(): readonly string[] {
    const chosen = process.env["COWTOOL_STATE_DIR"];
    if (chosen) return [path.resolve(chosen)];
    const state = process.env["XDG_STATE_HOME"] || path.join(homedir(), ".local/state");
    return [STATE_FOR_ALL, path.join(state, "cowtool")];
  },

  facts(file, options): FileFacts | undefined {
    if (isNbdUri(file)) return remoteFacts(file);
    let stat: fs.BigIntStats;
    try {
      stat = (options?.own ? fs.lstatSync : fs.statSync)(file, { bigint: true });
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
      identity: identityOf(stat),
      modifiedMs: Number(stat.mtimeNs) / 1e6,
      ...(kind === "file" ? { stamp: stampOf(stat), linkCount: Number(stat.nlink) } : {}),
      ...(kind === "block" ? { device: deviceKey(Number(stat.rdev)), places: placesOf(stat) } : {}),
    };
  },

  realPath(file: string): string {
    return isNbdUri(file) ? file : resolveTarget(file);
  },

  open(file: string, options?: OpenOptions): BlockDevice {
    if (isNbdUri(file)) return options?.writable ? refuseToWrite(file) : RemoteDevice.open(file);
    return FileDevice.open(file, options);
  },

  make: FileDevice.make,

  create(file: string, options: CreateOptions = {}): PendingFile {
    if (isNbdUri(file)) refuseToWrite(file);
    return new OutputFile(file, options);
  },

  scratch(name: string): BlockDevice {
    const directory = fs.mkdtempSync(path.join(tmpdir(), "cowtool-"));
    const file = path.join(directory, "scratch");
    try {
      return FileDevice.fromDescriptor(fs.openSync(file, "wx+", 0o600), name, true);
    } catch (error) {
      throw systemError(error, file, "cannot create");
    } finally {
      // The open descriptor keeps it alive: nothing is left behind even if this process is killed.
      fs.rmSync(directory, { recursive: true, force: true });
    }
  },

  remove(file: string, { own, mayReturn = false }: RemoveOptions = {}): void {
    if (own !== undefined) requireOwn(file, own);
    try {
      fs.unlinkSync(file);
    } catch (error) {
      if (errnoName(error) === "ENOENT") return;
      throw systemError(error, file, "cannot remove");
    }
    if (!mayReturn) syncDirectory(path.dirname(path.resolve(file)));
  },

  rename: renameOwn,

  readSmall(file: string, limitBytes: number): Uint8Array | undefined {
    let fd: number;
    try {
      fd = openOwn(file, { writable: false });
    } catch (error) {
      if (error instanceof CowError && error.code === "not-found") return undefined;
      throw error;
    }
    try {
      const size = fs.fstatSync(fd).size;
      if (size > limitBytes)
        throw new CowError("unsuitable", `is ${size} bytes long, more than the ${limitBytes} expected`, { file });
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
      // Names that are not UTF-8 are not ours, and could not be opened.
      return fs.readdirSync(directory, "buffer").flatMap((name) => decodeUtf8(name) ?? []);
    } catch {
      return [];
    }
  },

  freeBytes,
};
