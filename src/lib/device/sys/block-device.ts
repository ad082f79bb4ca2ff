/**
 * Owns a block device's size and whether it may be written: by ioctl, or from sysfs without native calls.
 */
import * as fs from "node:fs";
import { CowError } from "../../errors.ts";
import { deviceNumber } from "./device-number.ts";
import { libc } from "./libc.ts";

const BLKGETSIZE64 = 0x80081272;
const BLKROGET = 0x125e;
const SYSFS_SECTOR_BYTES = 512;

/** @throws CowError `io` if neither way works */
export function blockDeviceSize(fd: number, file: string): number {
  const c = libc();
  if (c) {
    const size = new Uint8Array(8);
    if (c.ioctlBuffer(fd, BLKGETSIZE64, size) === 0) {
      const bytes = new BigUint64Array(size.buffer)[0] ?? 0n;
      return Number(bytes);
    }
  }
  try {
    return Number(fromSysfs(fd, "size")) * SYSFS_SECTOR_BYTES;
  } catch (cause) {
    throw new CowError("io", "cannot find out the size of this block device", { file, cause });
  }
}

/** A write-protected device can still be opened for writing, but the writes fail. */
export function isWriteProtected(fd: number): boolean {
  const answer = new Int32Array(1);
  if (libc()?.ioctlBuffer(fd, BLKROGET, new Uint8Array(answer.buffer)) === 0) return answer[0] !== 0;
  try {
    return Number(fromSysfs(fd, "ro")) !== 0;
  } catch {
    return false;
  }
}

function fromSysfs(fd: number, name: string): string {
  return fs.readFileSync(`/sys/dev/block/${deviceNumber(fs.fstatSync(fd).rdev)}/${name}`, "utf8");
}
