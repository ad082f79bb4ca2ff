/**
 * Owns the question whether this process may open as many more files as something is about to need that cannot fail well.
 */
import * as fs from "node:fs";
import { errnoName } from "../../errors.ts";

const USED_UP = new Set(["EMFILE", "ENFILE"]);

/** Are so many descriptors to be had at this moment? Tried out, as the system has limits of its own. */
export function canOpen(count: number): boolean {
  const fds: number[] = [];
  try {
    while (fds.length < count) fds.push(fs.openSync("/dev/null", fs.constants.O_RDONLY));
    return true;
  } catch (error) {
    // Anything else is none of a limit.
    return !USED_UP.has(errnoName(error) ?? "");
  } finally {
    for (const fd of fds) fs.closeSync(fd);
  }
}
