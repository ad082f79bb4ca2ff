/**
 * Owns starting writeback early, so that a flush at the end finds little left to do. A hint: it promises nothing, and
 * without it only time is lost.
 */
import { libc } from "./libc.ts";

const SYNC_FILE_RANGE_WRITE = 2;

/** Asks the kernel to begin writing `[offset, offset + length)`, without waiting. */
export function startWriteback(fd: number, offset: number, length: number): void {
  libc()?.syncFileRange(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}
