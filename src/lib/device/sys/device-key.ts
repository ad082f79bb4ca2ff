/**
 * Owns telling one block device from another, also after its number or name has changed: what sysfs knows of the disk
 * behind it. Where that is nothing, its number has to do, which means the same device only until the next boot.
 */
import * as path from "node:path";
import { deviceNumber, readSysText, sysfsFolder } from "./device-number.ts";

export interface DeviceKey {
  readonly key: string;
  /** The boot for which the key holds; null for one that lasts. */
  readonly boot: string | null;
}

/** Below the device's folder in sysfs, the lasting one first. Serial numbers are the last resort: some say little. */
const IDENTITIES = ["dm/uuid", "md/uuid", "wwid", "device/wwid", "nguid", "uuid", "serial", "device/serial"] as const;

function read(...parts: readonly string[]): string {
  return readSysText(...parts).trim();
}

/** Of a disk; a partition has the key of its disk and its own number. */
function lastingKey(folder: string): string | undefined {
  const partition = read(folder, "partition");
  if (partition !== "") {
    const disk = lastingKey(path.dirname(folder));
    return disk === undefined ? undefined : `${disk} partition ${partition} at ${read(folder, "start")}`;
  }
  const backing = read(folder, "loop/backing_file");
  // Of a file without a name nothing lasts.
  if (backing.endsWith(" (deleted)")) return undefined;
  if (backing !== "") return `loop ${read(folder, "loop/offset")} ${read(folder, "loop/sizelimit")} ${backing}`;
  for (const name of IDENTITIES) {
    const value = read(folder, name);
    if (value !== "") return `${name} ${value}`;
  }
  return undefined;
}

/** @param rdev the device's number, as stat(2) gives it */
export function deviceKey(rdev: number, sysfs = "/sys"): DeviceKey {
  const folder = sysfsFolder(rdev, sysfs);
  const lasting = folder === undefined ? undefined : lastingKey(folder);
  if (lasting !== undefined) return { key: lasting, boot: null };
  const boot = read("/proc/sys/kernel/random/boot_id");
  return { key: `${boot} ${deviceNumber(rdev)}`, boot };
}
