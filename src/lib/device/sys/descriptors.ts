/**
 * Owns the question whether this process can open more files, for code that cannot fail well.
 */
import * as fs from "node:fs";
import { errnoName } from "../../errors.ts";

const USED_UP = new Set(["EMFILE", "ENFILE"]);

/** Are this many descriptors available now? Tried out, because the system has limits of its own. */
export function canOpen(count: number): boolean {
  const fds: number[] = [];
  try {
    while (fds.length < count) fds.push(fs.openSync("/dev/null", fs.constants.O_RDONLY));
    return true;
  } catch (error) {
    // Other errors are not about limits.
    return !USED_UP.has(errnoName(error) ?? "");
  } finally {
    for (const fd of fds) fs.closeSync(fd);
  }
}
