/**
 * Owns holes: finding data (SEEK_DATA, SEEK_HOLE) and freeing space (PUNCH_HOLE). Portable way: everything is data, and
 * no space can be freed.
 */
import type { Extent } from "../../bytes/extent.ts";
import { Errno, libc, libcError } from "./libc.ts";

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;

/** Can holes be told from data at all? */
export function knowsHoles(): boolean {
  return libc() !== null;
}

/**
 * The data extents of an open file within `[from, to)`; `to` must not exceed its size. Uses the file's own position.
 *
 * @returns true where there is no data up to the end of the file, wherever that is
 */
export function* seekDataExtents(fd: number, file: string, from: number, to: number): Generator<Extent, boolean> {
  const c = libc();
  let at = from;
  while (at < to) {
    if (!c) {
      yield { offset: at, length: to - at };
      return false;
    }
    const data = c.lseek(fd, at, SEEK_DATA);
    if (data < 0) {
      const errno = c.errno();
      if (errno === Errno.ENXIO) return true;
      // A file system or device without holes: all of it is data.
      if (errno === Errno.EINVAL || errno === Errno.EOPNOTSUPP) {
        yield { offset: at, length: to - at };
        return false;
      }
      throw libcError(c, file, "cannot look for data");
    }
    if (data >= to) return false;
    const hole = c.lseek(fd, data, SEEK_HOLE);
    const end = hole < 0 ? to : Math.min(hole, to);
    if (end <= data) return true; // the file shrank under us
    yield { offset: data, length: end - data };
    at = end;
  }
  return false;
}

/** Punches a hole. Returns false if impossible: the caller then writes zeros. */
export function punchHole(fd: number, file: string, offset: number, length: number): boolean {
  const c = libc();
  if (!c) return false;
  if (c.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length) === 0) return true;
  const errno = c.errno();
  if (errno === Errno.EOPNOTSUPP || errno === Errno.ENOSYS || errno === Errno.EINVAL) return false;
  throw libcError(c, file, "cannot punch a hole");
}
