/**
 * Owns copies made by the kernel: copy_file_range between two files, FICLONE of a whole one. Portable way: report that
 * nothing was copied; the caller then copies. Also starts writeback.
 */
import { Errno, libc, libcError } from "./libc.ts";

const SYNC_FILE_RANGE_WRITE = 2;
const FICLONE = 0x40049409;

/**
 * Copies up to `length` bytes in the kernel.
 *
 * @returns the bytes copied; 0 at the end of the source, or if the kernel can't (then `unsupported` is true)
 */
export function copyFileRange(
  fdIn: number,
  offsetIn: number,
  fdOut: number,
  offsetOut: number,
  length: number,
  fileOut: string,
): { copied: number; unsupported: boolean } {
  const c = libc();
  if (!c) return { copied: 0, unsupported: true };
  const offIn = BigInt64Array.of(BigInt(offsetIn));
  const offOut = BigInt64Array.of(BigInt(offsetOut));
  for (;;) {
    const copied = c.copyFileRange(fdIn, offIn, fdOut, offOut, length);
    if (copied >= 0) return { copied, unsupported: false };
    const errno = c.errno();
    if (errno === Errno.EINTR) continue;
    // An error of either side: the plain way finds out which, and names the right file and offset.
    if (errno !== Errno.ENOSPC) return { copied: 0, unsupported: true };
    throw libcError(c, fileOut, `cannot write at byte ${offsetOut} (0x${offsetOut.toString(16)})`);
  }
}

/** Makes `fdOut` share all of `fdIn`'s blocks. Returns false if the file system can't. */
export function cloneFile(fdIn: number, fdOut: number): boolean {
  const c = libc();
  return c !== null && c.ioctlNumber(fdOut, FICLONE, fdIn) === 0;
}

/**
 * Asks the kernel to begin writing `[offset, offset + length)`, without waiting, so that a flush finds little left to do. A hint:
 * without it only time is lost.
 */
export function startWriteback(fd: number, offset: number, length: number): void {
  libc()?.syncFileRange(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}
