/**
 * Owns what the kernel's NBD devices are at this moment: sysfs says which are attached to what, a note in the run directory
 * which process of cowtool remakes their connections, and /proc who uses them. Changes nothing but that note.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { nodeStorage } from "../../device/node-storage.ts";
import { deviceOf, listSys, readSysText } from "../../device/sys/device-number.ts";
import { usesOf } from "../../device/sys/in-use.ts";
import { describeProcess, processIdentity } from "../../device/sys/process-info.ts";
import { CowError } from "../../errors.ts";
import { writeNote } from "../../notes/note.ts";

const DEVICE = /^(?:\/dev\/)?nbd(\d{1,6})$/;
const SECTOR_BYTES = 512;
const NOTE = { suffix: ".json", beginning: '{"cowtool_attach":' };
const NOTE_BYTES_AT_MOST = 16 * 1024;

/** Where to look; tests have trees of their own. */
export interface DeviceRoots {
  readonly proc: string;
  readonly sys: string;
  readonly run: string;
}

/** An attached device. */
export interface AttachedDevice {
  readonly device: string;
  /** What it is attached to, as noted by the kernel; null if another program did not say. */
  readonly uri: string | null;
  readonly virtual_size: number;
  readonly read_only: boolean;
  /** `orphan`: no process of cowtool remakes its connection when the server restarts. */
  readonly state: "attached" | "orphan";
  /** The process that does. */
  readonly pid: number | null;
  /** A verb phrase, such as `is mounted at /mnt`; null if nothing uses it. */
  readonly in_use: string | null;
}

/** @throws CowError `usage` unless it is the name of a device of the kernel's NBD client */
export function indexOf(device: string): number {
  const [, digits] = DEVICE.exec(device) ?? [];
  if (digits !== undefined) return Number(digits);
  throw new CowError("usage", "is no device of the kernel's NBD client: expected /dev/nbdN", { file: device });
}

export function isDevice(text: string): boolean {
  return DEVICE.test(text);
}

export function isAttached({ sys }: Pick<DeviceRoots, "sys">, index: number): boolean {
  return readSysText(sys, "block", `nbd${index}`, "pid") !== "";
}

/** One device, or undefined if it is not attached. */
export function attachedDevice(roots: DeviceRoots, index: number): AttachedDevice | undefined {
  if (!isAttached(roots, index)) return undefined;
  const folder = path.join(roots.sys, "block", `nbd${index}`);
  const keeper = keeperOf(roots, index);
  return {
    device: `/dev/nbd${index}`,
    uri: readSysText(folder, "backend") || null,
    virtual_size: Number(readSysText(folder, "size")) * SECTOR_BYTES,
    read_only: readSysText(folder, "ro") === "1",
    state: keeper === undefined ? "orphan" : "attached",
    pid: keeper ?? null,
    in_use: useOf(roots, index) ?? null,
  };
}

/** All that are attached, by number. */
export function attachedDevices(roots: DeviceRoots): readonly AttachedDevice[] {
  const indices = listSys(roots.sys, "block").flatMap((name) => (isDevice(name) ? [indexOf(name)] : []));
  return indices.sort((a, b) => a - b).flatMap((index) => attachedDevice(roots, index) ?? []);
}

/** Mounts, swap, holders, of it and its partitions; else a process that has it open. */
function useOf(roots: DeviceRoots, index: number): string | undefined {
  const number = readSysText(roots.sys, "block", `nbd${index}`, "dev");
  const rdev = deviceOf(number);
  const [use] = number === "" ? [] : usesOf({ isBlockDevice: () => true, rdev } as fs.Stats, roots);
  if (use) return use.what;
  const opener = openerOf(roots, index);
  return opener === undefined ? undefined : `is open in ${describeProcess(opener)}`;
}

function openerOf({ proc }: DeviceRoots, index: number): number | undefined {
  const isOurs = new RegExp(`^/dev/nbd${index}(?:p\\d+)?$`);
  const opener = listSys(proc).find((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    const folder = path.join(proc, pid, "fd");
    return listSys(folder).some((fd) => isOurs.test(linkAt(path.join(folder, fd))));
  });
  return opener === undefined ? undefined : Number(opener);
}

function linkAt(file: string): string {
  try {
    return fs.readlinkSync(file);
  } catch {
    return "";
  }
}

function notePathOf({ run }: DeviceRoots, index: number): string {
  return path.join(run, `nbd${index}${NOTE.suffix}`);
}

/** The process that remakes the connection of a device, if it lives. */
function keeperOf(roots: DeviceRoots, index: number): number | undefined {
  try {
    const bytes = nodeStorage.readSmall(notePathOf(roots, index), NOTE_BYTES_AT_MOST);
    const { pid, start_ticks } = JSON.parse(Buffer.from(bytes ?? "{}").toString()) as Record<string, unknown>;
    if (typeof pid !== "number") return undefined;
    return processIdentity(pid)?.startTicks === start_ticks ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Notes that this process remakes the connection of a device. @throws CowError `permission`, … */
export function noteKeeper(roots: DeviceRoots, index: number): void {
  nodeStorage.makeDirectory(roots.run);
  const start_ticks = processIdentity(process.pid)?.startTicks ?? 0;
  writeNote(nodeStorage, NOTE, notePathOf(roots, index), { cowtool_attach: 1, pid: process.pid, start_ticks });
}

export function forgetKeeper(roots: DeviceRoots, index: number): void {
  if (keeperOf(roots, index) === process.pid) nodeStorage.remove(notePathOf(roots, index), { own: NOTE.beginning });
}
