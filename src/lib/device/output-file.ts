/**
 * Owns how an output appears on this machine's file system: written under a temporary name in the same directory, made
 * durable, then renamed, durably.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { decodeUtf8, showBytes } from "../bytes/utf8.ts";
import { CowError, errnoName, systemError } from "../errors.ts";
import { syncDirectory } from "./durable-name.ts";
import { FileDevice } from "./file-device.ts";
import { keepOwnerAndMode, openNew, openNewBeside } from "./file-modes.ts";
import { openOwn, requireOwn } from "./own-file.ts";
import type { CreateOptions, FileStamp, PendingFile, RenameOptions } from "./storage.ts";
import { renameToFreeName } from "./sys/free-name.ts";
import { lockBeforeName } from "./sys/lock.ts";
import { removeLeftOvers, temporaryName } from "./temporary-name.ts";

/**
 * The name behind every symbolic link, so that an output replaces the file and not the link. For a file that does not
 * exist yet, the name that it will have.
 */
export function resolveTarget(file: string): string {
  const directory = path.dirname(file);
  return realName(file) ?? path.join(realName(directory) ?? path.resolve(directory), path.basename(file));
}

/** @returns undefined if it does not exist @throws CowError `unsupported` for a name that a string cannot hold */
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

export function stampOf({ mtimeNs, ctimeNs, ino, birthtimeNs }: fs.BigIntStats): FileStamp {
  return {
    modifiedNs: mtimeNs.toString(),
    changedNs: ctimeNs.toString(),
    inode: ino.toString(),
    bornNs: birthtimeNs.toString(),
  };
}

export class OutputFile implements PendingFile {
  readonly device: FileDevice;
  readonly #finalPath: string;
  readonly #temporaryPath: string;
  readonly #options: CreateOptions;
  #settled = false;

  get stamp(): FileStamp {
    return stampOf(fs.fstatSync(this.device.fd, { bigint: true }));
  }

  constructor(finalPath: string, options: CreateOptions) {
    const { own, inputs = [] } = options;
    this.#options = options;
    // A link with the name of a file of ours is not followed.
    this.#finalPath = own === undefined ? resolveTarget(finalPath) : finalPath;
    if (own !== undefined) requireOwn(finalPath, own);
    removeLeftOvers(path.resolve(this.#finalPath));
    for (let attempt = 0; ; attempt++) {
      const temporary = temporaryName(path.resolve(this.#finalPath));
      try {
        const fd = own === undefined ? openNew(temporary, inputs) : openNewBeside(temporary, finalPath, inputs);
        this.#temporaryPath = temporary;
        this.device = FileDevice.fromDescriptor(fd, finalPath, true);
        if (options.held) lockBeforeName(fd, finalPath);
        return;
      } catch (error) {
        if (errnoName(error) !== "EEXIST" || attempt > 8) throw systemError(error, finalPath, "cannot create");
      }
    }
  }

  commit(options: { readonly replace: boolean }): void {
    this.prepare(options);
    this.rename(options);
    this.sync();
  }

  prepare({ replace }: { readonly replace: boolean }): void {
    this.device.flush();
    const { own, held = false } = this.#options;
    if (own !== undefined) requireOwn(this.#finalPath, own);
    if (replace && (own === undefined || held)) keep(this.device.fd, this.#finalPath, this.#options);
  }

  rename({ replace }: { readonly replace: boolean }): void {
    try {
      if (replace) fs.renameSync(this.#temporaryPath, this.#finalPath);
      else renameToFreeName(this.#temporaryPath, this.#finalPath);
    } catch (error) {
      throw systemError(error, this.#finalPath, "cannot create");
    }
    this.#settled = true;
    if (!this.#options.held) this.device.close();
  }

  sync(): void {
    syncDirectory(path.dirname(this.#finalPath));
  }

  abandon(): void {
    this.device.close();
    if (this.#settled) return;
    this.#settled = true;
    fs.rmSync(this.#temporaryPath, { force: true });
  }
}

function keep(fd: number, file: string, { inputs = [], onNotice }: Pick<CreateOptions, "inputs" | "onNotice">): void {
  keepOwnerAndMode(fd, file, inputs, (message) => onNotice?.({ severity: "warning", file, message }));
}

/** Gives a file of our own its name. @throws CowError `exists`, `io`, … */
export function renameOwn(from: string, to: string, { replace, ...options }: RenameOptions): void {
  const target = resolveTarget(to);
  try {
    if (replace) {
      const fd = openOwn(from, { writable: true });
      keep(fd, target, options);
      fs.closeSync(fd);
      fs.renameSync(from, target);
    } else renameToFreeName(from, target);
  } catch (error) {
    throw systemError(error, to, "cannot create");
  }
  syncDirectory(path.dirname(target));
}
