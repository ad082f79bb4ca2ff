/**
 * Owns starting to write out what is only in memory yet, so that a flush at the end finds little left to do. A hint: it
 * promises nothing, and where it can't be given nothing is lost but time.
 */
import { libc } from "./libc.ts";

const SYNC_FILE_RANGE_WRITE = 2;

/** Asks the kernel to begin writing `[offset, offset + length)`, and does not wait for it. */
export function startWriteback(fd: number, offset: number, length: number): void {
  libc()?.syncFileRange(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}
