/**
 * Owns making names durable: a rename, link, new name or removal is on disk once its directory is.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { errnoName, systemError } from "../errors.ts";

/** @throws CowError `io` */
export function syncDirectory(directory: string): void {
  let fd: number;
  try {
    fd = fs.openSync(directory, fs.constants.O_RDONLY);
  } catch {
    return; // a directory one may write to but not read cannot be synced
  }
  try {
    fs.fsyncSync(fd);
  } catch (error) {
    // Some network file systems have no fsync of directories; a real I/O error must not be hidden.
    if (errnoName(error) === "EIO") throw systemError(error, directory, "cannot make the directory durable (fsync)");
  } finally {
    fs.closeSync(fd);
  }
}

/** Makes the name of an open file durable, wherever its directory is by now. @throws CowError `io` */
export function syncName(fd: number, name: string): void {
  let file = name;
  try {
    file = fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // No /proc: it is where it was.
  }
  syncDirectory(path.dirname(path.resolve(file)));
}
