/**
 * Owns the pid file of a server: never written over anything else, nor through a link.
 */
import * as fs from "node:fs";
import { makeOwn, openOwn } from "../../device/own-file.ts";
import { CowError, systemError } from "../../errors.ts";

const LOOKS_LIKE_A_PID = /^\s*\d{1,10}\s*$/;
const PID_FILE_BYTES_AT_MOST = 32;
const NEW_FILE_MODE = 0o644;

export class PidFile {
  readonly #path: string;
  #isWritten = false;

  /** @throws CowError `exists` if something else has that name; `permission`, … if it cannot be written */
  constructor(path: string) {
    this.#path = path;
    const old = this.#openOld();
    if (old !== undefined) fs.closeSync(old);
  }

  write(): void {
    const fd = this.#openOld() ?? makeOwn(this.#path, NEW_FILE_MODE);
    try {
      fs.ftruncateSync(fd);
      fs.writeSync(fd, `${process.pid}\n`, 0);
      this.#isWritten = true;
    } catch (error) {
      throw systemError(error, this.#path, "cannot write the process id");
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Removes it, if it is still ours. */
  remove(): void {
    if (!this.#isWritten) return;
    try {
      const fd = openOwn(this.#path, { writable: false });
      const isOurs = Number(fs.readFileSync(fd, "utf8")) === process.pid;
      fs.closeSync(fd);
      if (isOurs) fs.rmSync(this.#path, { force: true });
    } catch {
      // It was removed or replaced meanwhile.
    }
  }

  /** The pid file of an earlier server. */
  #openOld(): number | undefined {
    if (!fs.lstatSync(this.#path, { throwIfNoEntry: false })) return undefined;
    const fd = openOwn(this.#path, { writable: true });
    const { size } = fs.fstatSync(fd);
    if (size === 0 || (size <= PID_FILE_BYTES_AT_MOST && LOOKS_LIKE_A_PID.test(fs.readFileSync(fd, "utf8")))) return fd;
    fs.closeSync(fd);
    throw new CowError("exists", "already exists, and is not a pid file", { file: this.#path });
  }
}
