/**
 * Owns facts about other processes from /proc: who they are, whether they live, which file locks they hold. Without
 * /proc the answers are "unknown", never wrong.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { majorMinor } from "./device-number.ts";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from boot to its start, which distinguish it from a later process with the same pid; 0 if unknown. */
  readonly startTicks: number;
}

function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** The identity of a living process, or undefined when there is none of that pid. */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  if (stat !== undefined) {
    // The command may hold spaces and parentheses: fields are counted from the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie: it holds nothing any more.
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    const startTicks = Number(fields[19]);
    return { pid, startTicks: Number.isFinite(startTicks) ? startTicks : 0 };
  }
  try {
    process.kill(pid, 0);
    return { pid, startTicks: 0 };
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? { pid, startTicks: 0 } : undefined;
  }
}

let ownStart: number | undefined;

/** When this process began, as in ProcessIdentity. */
export function ownStartTicks(): number {
  ownStart ??= processIdentity(process.pid)?.startTicks ?? 0;
  return ownStart;
}

export const ORIGIN_DIGITS = 12;
let origin: string | undefined;

/**
 * This boot of this machine, and its numbering of processes: whether a process lives can only be told for the same
 * origin. Empty if unknown.
 */
export function processOrigin(): string {
  if (origin !== undefined) return origin;
  try {
    // A /proc of another pid namespace says nothing about others.
    if (fs.readlinkSync("/proc/self") !== String(process.pid)) throw new Error("not our /proc");
    const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8");
    const numbering = fs.readlinkSync("/proc/self/ns/pid");
    origin = createHash("sha256").update(`${boot}${numbering}`).digest("hex").slice(0, ORIGIN_DIGITS);
  } catch {
    origin = "";
  }
  return origin;
}

/** `pid 4711 (qemu-nbd -k /run/x)`, shortened. */
export function describeProcess(pid: number): string {
  const command = readText(`/proc/${pid}/cmdline`)?.split("\0").filter(Boolean).join(" ");
  const shown = command && (command.length > 100 ? `${command.slice(0, 97)}...` : command);
  // A command line is foreign text: its control characters must not reach a terminal.
  return shown ? `pid ${pid} (${shown.replace(/\p{Cc}/gu, "?")})` : `pid ${pid}`;
}

export interface LockUse {
  readonly pid: number;
  /** Which of the files that were asked for, by its index. */
  readonly file: number;
  readonly writes: boolean;
}

/** QEMU's byte for "I write", which its tools lock for reading. */
const QEMU_WRITES = 101;

/**
 * The processes that hold open-file-description locks on these files, this one included. The kernel shows pid -1 for these in
 * /proc/locks, so the holder is found by the `lock:` lines of its file descriptors.
 */
export function lockUses(files: readonly { readonly device: number; readonly inode: number | bigint }[]): LockUse[] {
  const keys = files.map(({ device, inode }) => {
    const { major, minor } = majorMinor(device);
    return `${major.toString(16).padStart(2, "0")}:${minor.toString(16).padStart(2, "0")}:${inode} `;
  });
  return list("/proc").flatMap((entry) => {
    const lines = /^\d+$/.test(entry) ? lockLines(entry) : [];
    return keys.flatMap((key, file) => {
      const held = lines.filter((line) => line.includes(key));
      return held.length === 0 ? [] : [{ pid: Number(entry), file, writes: held.some((line) => isWriter(line, key)) }];
    });
  });
}

function lockLines(pid: string): string[] {
  return list(`/proc/${pid}/fdinfo`).flatMap((fd) => {
    const info = readText(`/proc/${pid}/fdinfo/${fd}`);
    return info?.includes("lock:") ? info.split("\n").filter((line) => line.startsWith("lock:")) : [];
  });
}

function isWriter(line: string, key: string): boolean {
  const [from = 0, to = 0] = line
    .slice(line.indexOf(key) + key.length)
    .split(" ")
    .map(Number);
  return line.includes(" WRITE ") || (from <= QEMU_WRITES && to >= QEMU_WRITES);
}

/** The processes that hold such a lock on one file. */
export function lockHolders(device: number, inode: number): number[] {
  return lockUses([{ device, inode }]).map(({ pid }) => pid);
}

/**
 * Does a process hold such an open-file-description lock on the inode? For processes that cannot ask the kernel itself.
 */
export function hasKernelLock(device: number, inode: number, kinds: readonly ("READ" | "WRITE")[]): boolean {
  const { major, minor } = majorMinor(device);
  const key = ` ${major.toString(16).padStart(2, "0")}:${minor.toString(16).padStart(2, "0")}:${inode} `;
  const locks = readText("/proc/locks") ?? "";
  return locks
    .split("\n")
    .some((line) => line.includes("OFDLCK") && line.includes(key) && kinds.some((kind) => line.includes(` ${kind} `)));
}

function list(path: string): string[] {
  try {
    return fs.readdirSync(path);
  } catch {
    return [];
  }
}
