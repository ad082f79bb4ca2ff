/**
 * Owns the portable lock: files beside the image, `NAME.cowtool-lock` for a writer, `NAME.cowtool-lock.PID` for a reader,
 * each naming the process that holds it. A lock whose process has gone is void. Processes with kernel locks make none,
 * but look for them; processes without look into /proc/locks for kernel locks.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { errnoName, systemError } from "../../errors.ts";
import type { LockMode, Unlock } from "./lock-mode.ts";
import { hasKernelLock, lockHolders, processIdentity } from "./process-info.ts";

const SUFFIX = ".cowtool-lock";

/** Readers of this process by lock file: the file goes with the last of them. */
const readers = new Map<string, number>();

interface Conflict {
  readonly pids: readonly number[];
}

/**
 * Looks for lock files of others, and where `own` is set leaves one of ours.
 *
 * @returns what releases the lock, or who stands in the way
 */
export function takeLockFile(file: string, mode: LockMode, stat: fs.Stats, own: boolean): Unlock | Conflict {
  if (stat.isBlockDevice()) return () => undefined;
  let real: string;
  try {
    real = fs.realpathSync(file);
  } catch {
    return () => undefined;
  }
  const writerLock = real + SUFFIX;
  const writer = livingHolder(writerLock);
  if (writer !== undefined) return { pids: [writer] };
  if (mode === "exclusive") {
    const pids = livingReaders(real);
    if (pids.length > 0) return { pids };
  }
  if (!own) return () => undefined;
  if (hasKernelLock(stat.dev, stat.ino, mode === "exclusive" ? ["READ", "WRITE"] : ["WRITE"])) {
    return { pids: lockHolders(stat.dev, stat.ino) };
  }
  return mode === "exclusive" ? lockAsWriter(file, writerLock) : lockAsReader(`${writerLock}.${process.pid}`);
}

function holderText(): string {
  return `${process.pid} ${processIdentity(process.pid)?.startTicks ?? 0}\n`;
}

function lockAsWriter(file: string, lock: string): Unlock | Conflict {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      fs.writeFileSync(lock, holderText(), { flag: "wx" });
      return () => fs.rmSync(lock, { force: true });
    } catch (error) {
      if (errnoName(error) !== "EEXIST") throw systemError(error, lock, `cannot lock ${path.basename(file)}`);
      const holder = livingHolder(lock);
      if (holder !== undefined) return { pids: [holder] };
    }
  }
  return { pids: [] };
}

function lockAsReader(lock: string): Unlock {
  try {
    if ((readers.get(lock) ?? 0) === 0) fs.writeFileSync(lock, holderText());
  } catch {
    // A reader of an image on read-only storage cannot leave a note, and no writer could disturb it there.
    return () => undefined;
  }
  readers.set(lock, (readers.get(lock) ?? 0) + 1);
  return () => {
    const left = (readers.get(lock) ?? 1) - 1;
    readers.set(lock, left);
    if (left === 0) fs.rmSync(lock, { force: true });
  };
}

/** The pid in a lock file whose process still lives; a void lock is removed on the way. */
function livingHolder(lock: string): number | undefined {
  let text: string;
  try {
    text = fs.readFileSync(lock, "utf8");
  } catch {
    return undefined;
  }
  const [pid, startTicks] = text.trim().split(" ").map(Number);
  if (pid && Number.isInteger(pid)) {
    const now = processIdentity(pid);
    if (now && (now.startTicks === startTicks || now.startTicks === 0 || startTicks === 0)) return pid;
  } else if (Date.now() - fs.statSync(lock).mtimeMs < 2000) {
    return 0; // just being written
  }
  fs.rmSync(lock, { force: true });
  return undefined;
}

function livingReaders(real: string): number[] {
  const prefix = `${path.basename(real)}${SUFFIX}.`;
  const found: number[] = [];
  for (const entry of fs.readdirSync(path.dirname(real))) {
    if (!entry.startsWith(prefix)) continue;
    const pid = livingHolder(path.join(path.dirname(real), entry));
    if (pid !== undefined) found.push(pid);
  }
  return found;
}
