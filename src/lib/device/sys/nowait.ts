/**
 * Owns reading from the page cache without waiting, and asking the kernel to fetch the rest meanwhile. There is no
 * portable way: without native calls every read waits.
 */
import { libc } from "./libc.ts";
import { addressOf } from "./positioned.ts";
import { isLittleEndian, put64 } from "./words.ts";

const RWF_NOWAIT = 8;
const POSIX_FADV_WILLNEED = 3;

/** One struct iovec: an address and a length, 64 bits each. Little-endian halves; big-endian machines take the plain way. */
const iovec = new Uint32Array(4);
let iovecAddress: number | undefined;

/**
 * Reads what is in the page cache.
 * @returns the bytes read; fewer than asked where the rest would have to be waited for, or the file ends
 */
export function tryRead(fd: number, target: Uint8Array, offset: number): number {
  const c = isLittleEndian ? libc() : null;
  const start = addressOf(target);
  if (!c || start === undefined) return 0;
  iovecAddress ??= Number(c.addressOf(iovec.buffer));
  put64(iovec, 0, start);
  put64(iovec, 2, target.length);
  return Math.max(0, c.preadv2(fd, iovecAddress, 1, offset, RWF_NOWAIT));
}

/** Has the kernel begin to read a part of a file. */
export function willNeed(fd: number, offset: number, length: number): void {
  libc()?.posixFadvise(fd, offset, length, POSIX_FADV_WILLNEED);
}
