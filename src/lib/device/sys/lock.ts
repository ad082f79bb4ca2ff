/**
 * Owns locking: one writer or many readers of an image, across processes, and against QEMU's tools, which lock single
 * bytes of the file: 100+p "I use permission p", 200+p "I don't share permission p" (QEMU's file-posix driver).
 * With open-file-description locks if native calls are available, with lock files beside the image otherwise; both
 * kinds look out for the other.
 */
import * as fs from "node:fs";
import { CowError } from "../../errors.ts";
import { Errno, type Libc, libc, libcError } from "./libc.ts";
import type { LockMode, Unlock } from "./lock-file.ts";
import { takeLockFile } from "./lock-file.ts";
import { describeProcess, lockHolders } from "./process-info.ts";
import { isWhole, placesOf } from "./underlying.ts";

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

const QEMU_USES = 100;
const QEMU_UNSHARED = 200;
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;
const LOCK_AREA_BYTES = 200;

function flock(type: number, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  view.setInt16(0, type, little);
  view.setBigInt64(8, BigInt(start), little);
  view.setBigInt64(16, BigInt(length), little);
  return bytes;
}

function set(c: Libc, fd: number, file: string, type: number, start: number, length: number): boolean {
  if (c.fcntlBuffer(fd, F_OFD_SETLK, flock(type, start, length)) === 0) return true;
  const errno = c.errno();
  if (errno === Errno.EAGAIN || errno === Errno.EACCES) return false;
  throw libcError(c, file, "cannot lock");
}

/** Does another process hold a lock on these bytes? */
function heldByOther(c: Libc, fd: number, start: number): boolean {
  const probe = flock(F_WRLCK, start, 1);
  if (c.fcntlBuffer(fd, F_OFD_GETLK, probe) !== 0) return false;
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  return new DataView(probe.buffer).getInt16(0, little) !== F_UNLCK;
}

function takeKernelLock(c: Libc, fd: number, file: string, mode: LockMode): boolean {
  // A write lock over all of QEMU's bytes conflicts with every use of the image by QEMU or by us.
  if (mode === "exclusive") return set(c, fd, file, F_WRLCK, QEMU_USES, LOCK_AREA_BYTES);
  for (const byte of [QEMU_USES + CONSISTENT_READ, QEMU_UNSHARED + WRITE, QEMU_UNSHARED + RESIZE]) {
    if (!set(c, fd, file, F_RDLCK, byte, 1)) return false;
  }
  return ![QEMU_USES + WRITE, QEMU_USES + RESIZE, QEMU_UNSHARED + CONSISTENT_READ].some((byte) =>
    heldByOther(c, fd, byte),
  );
}

/**
 * Locks an open file or device, and the file behind it if it is a loop device, without waiting. So a loop device is not
 * written while the file is read under its own name.
 *
 * @param isNew as in OpenOptions
 * @throws CowError `locked`
 */
export function lockThrough(fd: number, file: string, mode: LockMode, isNew = false): Unlock {
  const locks = [lockFile(fd, file, mode, isNew)];
  const unlock = (): void => {
    for (const each of locks.splice(0).reverse()) each();
  };
  try {
    for (const place of placesOf(fs.fstatSync(fd))) {
      const behind = place.path === undefined ? undefined : lockBehind(file, place.path, isWhole(place), mode);
      if (behind) locks.push(behind);
    }
    return unlock;
  } catch (error) {
    unlock();
    throw error;
  }
}

/** @param whole the device is all of the file, not a part of it */
function lockBehind(device: string, path: string, whole: boolean, mode: LockMode): Unlock | undefined {
  let fd: number;
  try {
    fd = fs.openSync(
      path,
      (mode === "exclusive" ? fs.constants.O_RDWR : fs.constants.O_RDONLY) | fs.constants.O_NONBLOCK,
    );
  } catch {
    // A user of the device may not be allowed to open the file; then other processes of that user are not, either.
    return undefined;
  }
  try {
    const unlock = lockFile(fd, path, mode);
    return () => {
      unlock();
      fs.closeSync(fd);
    };
  } catch (error) {
    fs.closeSync(fd);
    if (!(error instanceof CowError) || error.code !== "locked") throw error;
    // One command may use two parts of one disk.
    if (!whole && error.details["holder_pid"] === process.pid) return undefined;
    const { details, hints } = error;
    throw new CowError("locked", `is in use by way of the file behind it, ${path}, which is ${error.message}`, {
      file: device,
      details: { ...details, file: device, behind: path },
      hints,
    });
  }
}

/**
 * Locks an open file, without waiting. `exclusive` needs a descriptor open for writing.
 *
 * @throws CowError `locked`, naming the holder where /proc shows it
 */
function lockFile(fd: number, file: string, mode: LockMode, isNew = false): Unlock {
  const stat = fs.fstatSync(fd);
  const c = libc();
  if (c && !takeKernelLock(c, fd, file, mode)) {
    set(c, fd, file, F_UNLCK, QEMU_USES, LOCK_AREA_BYTES);
    throw lockedError(file, mode, lockHolders(stat.dev, stat.ino));
  }
  const conflict = takeLockFile(file, mode, stat, { own: c === null, isNew });
  if (typeof conflict === "function") {
    return () => {
      conflict();
      if (c) set(c, fd, file, F_UNLCK, QEMU_USES, LOCK_AREA_BYTES);
    };
  }
  if (c) set(c, fd, file, F_UNLCK, QEMU_USES, LOCK_AREA_BYTES);
  throw lockedError(file, mode, conflict.pids);
}

/**
 * Has an exclusive lock become a shared one. With native calls no other process can get in between.
 *
 * @param unlock of the exclusive lock
 * @returns releases the shared one
 * @throws CowError `locked`: the file is not locked any more then
 */
export function shareLock(fd: number, file: string, unlock: Unlock): Unlock {
  const c = libc();
  // Read locks over all bytes keep writers out, until those that say "shared" are all that is left.
  if (c) set(c, fd, file, F_RDLCK, QEMU_USES, LOCK_AREA_BYTES);
  else unlock();
  if (c) {
    const kept = [QEMU_USES + CONSISTENT_READ, QEMU_UNSHARED + WRITE, QEMU_UNSHARED + RESIZE];
    let from = QEMU_USES;
    for (const byte of [...kept, QEMU_USES + LOCK_AREA_BYTES]) {
      if (byte > from) set(c, fd, file, F_UNLCK, from, byte - from);
      from = byte + 1;
    }
    return unlock;
  }
  return lockThrough(fd, file, "shared");
}

/**
 * Locks a new file exclusively that will take the name of one that this process has locked. Where locks are files, the lock
 * of the name covers both. Closing the file releases it.
 */
export function lockBeforeName(fd: number, file: string): void {
  const c = libc();
  if (c && !takeKernelLock(c, fd, file, "exclusive")) throw lockedError(file, "exclusive", []);
}

function lockedError(file: string, mode: LockMode, holders: readonly number[]): CowError {
  const others = holders.filter((pid) => pid !== process.pid);
  const who =
    others.length > 0
      ? others.map(describeProcess).join(", ")
      : holders.length > 0
        ? "this very process"
        : "another process";
  const pid = others[0] ?? holders[0];
  return new CowError("locked", `${mode === "exclusive" ? "in use" : "being written"}, locked by ${who}`, {
    file,
    details: pid === undefined ? {} : { holder_pid: pid },
    hints: [
      others.length === 0 && holders.length > 0
        ? "the command names the same file twice, and one of the two is to be written"
        : "try again when it has ended; nothing was changed",
    ],
  });
}
