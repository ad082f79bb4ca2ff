/**
 * Owns the portable lock: files beside the image, `NAME.cowtool-lock` for a writer, `NAME.cowtool-lock.PID-ORIGIN` for
 * a reader, each naming the process that holds it, and where that runs. Processes with kernel locks make none, but look
 * for them; processes without look into /proc/locks for kernel locks. A lock is void, and removed, if its process has
 * certainly ended, which is only known for the same origin (boot and numbering of processes). Locks of another machine
 * or container, and files that are not ours, stay, and the image is refused.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { hostname } from "node:os";
import * as path from "node:path";
import { CowError, shellWord, systemError } from "../../errors.ts";
import { makeOwn, OWN, openOwn } from "../own-file.ts";
import { namesBeginning } from "./names.ts";
import { hasKernelLock, lockHolders, ownStartTicks, processIdentity, processOrigin } from "./process-info.ts";

/** `shared`: others may read, not write; `exclusive`: others may neither read nor write. */
export type LockMode = "shared" | "exclusive";

/** Releases a lock. Closing the file releases a kernel lock too. */
export type Unlock = () => void;

/** The end of the name of a reader's lock; earlier versions wrote only the pid. */
const READER = /^\.\d+(-[0-9a-f]+)?$/;
/** PID, clock ticks at its start, origin, host; earlier versions wrote only the first two. */
const TEXT = /^(\d+) (\d+)(?: ([0-9a-f]+|-) (\S+))?\n$/;
const LOCK_BYTES_AT_MOST = 1024;
const LOCK_MODE = 0o644;
const NO_ORIGIN = "-";

/** Readers of this process by lock file: the last of them removes the file. */
const readers = new Map<string, { count: number; readonly unlock: Unlock }>();
/** In place of an origin that cannot be told. Made when it is first needed: to load node:crypto takes milliseconds. */
let unknownOrigin: string | undefined;

interface Conflict {
  readonly pids: readonly number[];
}

/**
 * Looks for lock files of others, and with `own` makes one of ours.
 *
 * @param how.isNew as in OpenOptions: to look for readers takes as long as the directory is large
 * @returns a function that releases the lock, or who holds it
 * @throws CowError `locked` if that cannot be told
 */
export function takeLockFile(
  file: string,
  mode: LockMode,
  stat: fs.Stats,
  { own, isNew = false }: { readonly own: boolean; readonly isNew?: boolean },
): Unlock | Conflict {
  const others = (): Conflict | undefined =>
    own && hasKernelLock(stat.dev, stat.ino, mode === "exclusive" ? ["READ", "WRITE"] : ["WRITE"])
      ? { pids: lockHolders(stat.dev, stat.ino) }
      : undefined;
  // There is no place for a lock file beside a device's node.
  if (stat.isBlockDevice()) return others() ?? (() => undefined);
  let real: string;
  try {
    real = fs.realpathSync.native(file);
  } catch {
    return () => undefined;
  }
  const writerLock = real + OWN.lock.suffix;
  const writer = livingHolder(file, writerLock);
  if (writer !== undefined) return { pids: [writer] };
  if (mode === "exclusive" && !isNew) {
    const pids = livingReaders(file, real);
    if (pids.length > 0) return { pids };
  }
  if (!own) return () => undefined;
  return others() ?? (mode === "exclusive" ? lockAsWriter(file, writerLock) : lockAsReader(writerLock));
}

function holderText(): string {
  const host = hostname().replaceAll(/\s/g, "_") || NO_ORIGIN;
  return `${process.pid} ${ownStartTicks()} ${processOrigin() || NO_ORIGIN} ${host}\n`;
}

function make(lock: string): Unlock {
  const text = holderText();
  const fd = makeOwn(lock, LOCK_MODE);
  try {
    fs.writeSync(fd, text);
  } finally {
    fs.closeSync(fd);
  }
  return () => removeIf(lock, text);
}

/** Removes a lock if it is still the one that was judged. */
function removeIf(lock: string, text: string): void {
  try {
    if (readText(lock) === text) fs.rmSync(lock, { force: true });
  } catch {
    // It was replaced, or the directory is read-only now: both stay.
  }
}

function lockAsWriter(file: string, lock: string): Unlock | Conflict {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      return make(lock);
    } catch (error) {
      if (!(error instanceof CowError) || error.code !== "exists")
        throw systemError(error, lock, `cannot lock ${path.basename(file)}`);
      const holder = livingHolder(file, lock);
      if (holder !== undefined) return { pids: [holder] };
    }
  }
  return { pids: [] };
}

function lockAsReader(writerLock: string): Unlock {
  unknownOrigin ??= processOrigin() === "" ? randomBytes(6).toString("hex") : undefined;
  const lock = `${writerLock}.${process.pid}-${processOrigin() || unknownOrigin}`;
  let held = readers.get(lock);
  if (!held) {
    try {
      // An existing one is of an earlier process with our number.
      const old = readText(lock);
      if (old !== undefined && TEXT.test(old)) removeIf(lock, old);
      held = { count: 0, unlock: make(lock) };
    } catch (error) {
      // On read-only storage a reader cannot make a lock file, and no writer could disturb it there.
      if (error instanceof CowError && ["permission", "no-space"].includes(error.code)) return () => undefined;
      throw error;
    }
    readers.set(lock, held);
  }
  const own = held;
  own.count++;
  return () => {
    if (--own.count > 0) return;
    readers.delete(lock);
    own.unlock();
  };
}

/** The contents of a lock file, or undefined if there is none. @throws CowError `exists` if it is not a regular file */
function readText(lock: string): string | undefined {
  let fd: number;
  try {
    // The usual case, for which an error would have to be made.
    if (!fs.lstatSync(lock, { throwIfNoEntry: false })) return undefined;
    fd = openOwn(lock, { writable: false });
  } catch (error) {
    if (error instanceof CowError && error.code === "not-found") return undefined;
    throw error;
  }
  try {
    const bytes = Buffer.alloc(LOCK_BYTES_AT_MOST);
    return bytes.toString("utf8", 0, fs.readSync(fd, bytes, 0, bytes.length, 0));
  } catch (error) {
    throw systemError(error, lock, "cannot read");
  } finally {
    fs.closeSync(fd);
  }
}

/** The pid in a lock file whose process still lives; removes a void lock. @throws CowError `locked` */
function livingHolder(file: string, lock: string): number | undefined {
  let text: string | undefined;
  try {
    text = readText(lock);
  } catch (error) {
    if (error instanceof CowError && error.code === "exists") throw doubt(file, lock, error.message);
    throw error;
  }
  if (text === undefined) return undefined;
  const [, pidText, ticks, origin, host] = TEXT.exec(text) ?? [];
  const pid = Number(pidText);
  if (pidText === undefined) throw doubt(file, lock, text === "" ? "is empty" : "is not a lock file of cowtool");
  const now = processIdentity(pid);
  const lives = now && (now.startTicks === Number(ticks) || now.startTicks === 0 || Number(ticks) === 0);
  const isHere = origin !== undefined && origin !== NO_ORIGIN && origin === processOrigin();
  if (lives && (isHere || origin === undefined)) return pid;
  if (!isHere) {
    const where = host === undefined || host === hostname() ? "" : ` on ${host}`;
    throw doubt(
      file,
      lock,
      `is of pid ${pid}${where}, in another container, on another machine or before a reboot`,
      pid,
    );
  }
  removeIf(lock, text);
  return undefined;
}

/** For a lock that cannot be judged, and is not removed. */
function doubt(file: string, lock: string, what: string, pid?: number): CowError {
  return new CowError(
    "locked",
    `may be in use: ${lock} ${what}, so cowtool cannot tell whether its owner still works`,
    {
      file,
      details: { lock, ...(pid === undefined ? {} : { holder_pid: pid }) },
      hints: [
        `if nothing uses the image, remove the lock with \`rm ${shellWord(lock)}\` and run the same command again`,
      ],
    },
  );
}

function livingReaders(file: string, real: string): number[] {
  const prefix = path.basename(real) + OWN.lock.suffix;
  return namesBeginning(path.dirname(real), prefix).flatMap((entry) => {
    if (!READER.test(entry.slice(prefix.length))) return [];
    const pid = livingHolder(file, path.join(path.dirname(real), entry));
    return pid === undefined ? [] : [pid];
  });
}
