/**
 * Owns giving a file a name that nothing has: in one step with renameat2(2), so that a kill leaves it with one name. The
 * portable way takes two steps: a kill between them leaves the file with both names (see removeSecondName()).
 */
import * as fs from "node:fs";
import { CowError, errnoName } from "../../errors.ts";
import { libc } from "./libc.ts";

/** @throws CowError `exists`, or a system error such as EEXIST, if the name is taken */
export function renameToFreeName(from: string, to: string): void {
  if (!to.includes("\0") && libc()?.renameNoReplace(from, to) === 0) return;
  // Some file systems have no such call. Where it failed for another reason, these fail with the same one.
  try {
    fs.linkSync(from, to);
  } catch (error) {
    if (errnoName(error) === "EEXIST") throw error;
    // A file system without hard links: this is the best possible.
    if (fs.existsSync(to)) throw new CowError("exists", "already exists", { file: to });
    fs.renameSync(from, to);
    return;
  }
  // Another process that opens the file may have removed it already.
  fs.rmSync(from, { force: true });
}
