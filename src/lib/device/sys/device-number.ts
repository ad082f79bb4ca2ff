/**
 * Owns the numbers of devices: as stat(2) gives them, as the kernel writes them (`8:1`), and a block device's folder in sysfs.
 * Also looks at files that may be missing.
 */
import * as fs from "node:fs";
import * as path from "node:path";

/** `8:1`, from what stat(2) says. */
export function deviceNumber(dev: number): string {
  const { major, minor } = majorMinor(dev);
  return `${major}:${minor}`;
}

export function majorMinor(dev: number): { readonly major: number; readonly minor: number } {
  const high = Math.floor(dev / 2 ** 32);
  return {
    major: ((dev >>> 8) & 0xfff) | (high & ~0xfff),
    minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00),
  };
}

/** The reverse: what stat(2) would say of `8:1`. */
export function deviceOf(number: string): number {
  const [major = 0, minor = 0] = number.trim().split(":").map(Number);
  const low = (((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12)) >>> 0;
  return (major >>> 12) * 2 ** 44 + low;
}

/** The folder of a block device in sysfs, or undefined. */
export function sysfsFolder(dev: number, sysfs = "/sys"): string | undefined {
  try {
    return fs.realpathSync(path.join(sysfs, "dev/block", deviceNumber(dev)));
  } catch {
    return undefined;
  }
}

/** The contents of a small file of /sys or /proc, without the line's end; empty if there is none. */
export function readSysText(...parts: readonly string[]): string {
  try {
    return fs.readFileSync(path.join(...parts), "utf8").replace(/\n$/, "");
  } catch {
    return "";
  }
}

/** The names in a folder of /sys or /proc; none if it cannot be read. */
export function listSys(...parts: readonly string[]): readonly string[] {
  try {
    return fs.readdirSync(path.join(...parts));
  } catch {
    return [];
  }
}

/** A file as stat(2) shows it; undefined if there is none, or it cannot be looked at. */
export function statOf(file: string): fs.Stats | undefined {
  try {
    return fs.statSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
