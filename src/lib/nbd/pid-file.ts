/**
 * Owns the file that tells a server's process id: never written over anything that is not one.
 */
import * as fs from "node:fs";
import { CowError, systemError } from "../errors.ts";

const LOOKS_LIKE_A_PID = /^\s*\d{1,10}\s*$/;
const PID_FILE_BYTES_AT_MOST = 32;

export class PidFile {
  readonly #path: string;
  #isWritten = false;

  /** @throws CowError `exists` if there is something that is no pid file */
  constructor(path: string) {
    this.#path = path;
    const stat = fs.statSync(path, { throwIfNoEntry: false });
    if (!stat) return;
    const isPid =
      stat.isFile() &&
      stat.size <= PID_FILE_BYTES_AT_MOST &&
      (stat.size === 0 || LOOKS_LIKE_A_PID.test(fs.readFileSync(path, "utf8")));
    if (!isPid) throw new CowError("exists", "already exists, and is no file with a process id", { file: path });
  }

  write(): void {
    try {
      fs.writeFileSync(this.#path, `${process.pid}\n`);
      this.#isWritten = true;
    } catch (error) {
      throw systemError(error, this.#path, "cannot write the process id");
    }
  }

  /** Removes it, if it is still ours. */
  remove(): void {
    if (!this.#isWritten) return;
    try {
      if (Number(fs.readFileSync(this.#path, "utf8")) === process.pid) fs.rmSync(this.#path, { force: true });
    } catch {
      // Somebody else has removed it.
    }
  }
}
