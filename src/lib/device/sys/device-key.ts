/**
 * Owns telling one block device from another, also after its number or name has changed: what sysfs knows of the disk
 * behind it. Where that is nothing, its number has to do, which means the same device only until the next boot.
 */
import * as fs from "node:fs";
import * as path from "node:path";

export interface DeviceKey {
  readonly key: string;
  /** The boot for which the key holds; null for one that lasts. */
  readonly boot: string | null;
}

/** Below the device's folder in sysfs, the lasting one first. Serial numbers are the last resort: some say little. */
const IDENTITIES = ["dm/uuid", "md/uuid", "wwid", "device/wwid", "nguid", "uuid", "serial", "device/serial"] as const;

function read(...parts: readonly string[]): string {
  try {
    return fs.readFileSync(path.join(...parts), "utf8").trim();
  } catch {
    return "";
  }
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
export function deviceKey(rdev: number, sysfs = "/sys/dev/block"): DeviceKey {
  const major = ((rdev >>> 8) & 0xfff) | (Math.floor(rdev / 2 ** 32) & ~0xfff);
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  try {
    const lasting = lastingKey(fs.realpathSync(path.join(sysfs, `${major}:${minor}`)));
    if (lasting !== undefined) return { key: lasting, boot: null };
  } catch {
    // No sysfs, or not of this kind.
  }
  const boot = read("/proc/sys/kernel/random/boot_id");
  return { key: `${boot} ${major}:${minor}`, boot };
}
