/**
 * Owns the identity of block devices, also after a number or name has changed: from sysfs. A device without an identity
 * there is keyed by its number, which is valid only until the next boot.
 */
import * as path from "node:path";
import { deviceNumber, readSysText, sysfsFolder } from "./device-number.ts";

/** What tells a block device from others, over restarts of the machine. */
export interface DeviceKey {
  readonly key: string;
  /** The boot in which the key is valid; null for a lasting key. */
  readonly boot: string | null;
}

/** Files in the device's folder of sysfs, best first. Serial numbers come last: some are not unique. */
const IDENTITIES = ["dm/uuid", "md/uuid", "wwid", "device/wwid", "nguid", "uuid", "serial", "device/serial"] as const;

function read(...parts: readonly string[]): string {
  return readSysText(...parts).trim();
}

/** A key that lasts. A partition has the key of its disk and its own number. */
function lastingKey(folder: string): string | undefined {
  const partition = read(folder, "partition");
  if (partition !== "") {
    const disk = lastingKey(path.dirname(folder));
    return disk === undefined ? undefined : `${disk} partition ${partition} at ${read(folder, "start")}`;
  }
  const backing = read(folder, "loop/backing_file");
  // A file without a name has no lasting identity.
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
