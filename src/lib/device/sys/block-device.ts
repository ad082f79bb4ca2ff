/**
 * Owns the size of a block device: BLKGETSIZE64, or what sysfs says where native calls are not to be had.
 */
import * as fs from "node:fs";
import { CowError } from "../../errors.ts";
import { deviceNumber } from "./device-number.ts";
import { libc } from "./libc.ts";

const BLKGETSIZE64 = 0x80081272;
const SYSFS_SECTOR_BYTES = 512;

/** @throws CowError `io` where neither way works */
export function blockDeviceSize(fd: number, file: string): number {
  const c = libc();
  if (c) {
    const size = new Uint8Array(8);
    if (c.ioctlBuffer(fd, BLKGETSIZE64, size) === 0) {
      const bytes = new BigUint64Array(size.buffer)[0] ?? 0n;
      return Number(bytes);
    }
  }
  const { rdev } = fs.fstatSync(fd);
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${deviceNumber(rdev)}/size`, "utf8")) * SYSFS_SECTOR_BYTES;
  } catch (cause) {
    throw new CowError("io", "cannot find out the size of this block device", { file, cause });
  }
}
