/**
 * Owns the names of files until they are complete: each names the process that writes it, so that a killed process's
 * files are told from a living one's. Only those of this boot and these process numbers are ever judged: a file on a
 * network, or shared with a container, may be another machine's, whose processes are not visible here.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { namesBeginning } from "./sys/names.ts";
import { ORIGIN_DIGITS, ownStartTicks, processIdentity, processOrigin } from "./sys/process-info.ts";

/** With the addition never longer than the file system's limit of 255 bytes, however long the final name is. */
const MOST_BYTES_OF_NAME = 200;
const UNIQUE = new RegExp(`^([0-9a-z]+)-([0-9a-z]+)-([0-9a-f]{${ORIGIN_DIGITS}})-[0-9a-z]+\\.tmp$`);

let counter = 0;

function prefixOf(finalPath: string): string {
  const name = Buffer.from(path.basename(finalPath)).subarray(0, MOST_BYTES_OF_NAME).toString("latin1");
  return `.${name.replace(/[^\w.-]/g, "_")}.`;
}

/** A name beside `finalPath` that no other call gives. */
export function temporaryName(finalPath: string): string {
  const unique = [process.pid, ownStartTicks()].map((number) => number.toString(36));
  const rest = [processOrigin() || "0".repeat(ORIGIN_DIGITS), Date.now().toString(36) + (counter++).toString(36)];
  return path.join(path.dirname(finalPath), `${prefixOf(finalPath)}${[...unique, ...rest].join("-")}.tmp`);
}

/** Has the process that made this name ended? False unless that is certain. */
function isLeftOver(unique: string): boolean {
  const [, pid = "", startTicks = "", madeAt] = UNIQUE.exec(unique) ?? [];
  if (madeAt === undefined || madeAt !== processOrigin()) return false;
  const ticks = Number.parseInt(startTicks, 36);
  const living = processIdentity(Number.parseInt(pid, 36));
  if (!living) return true;
  // Another process has the number now, unless either start is unknown.
  return ticks !== 0 && living.startTicks !== 0 && living.startTicks !== ticks;
}

/** A directory with this many names is listed for left-over files at most this often. */
const LARGE_NAMES = 256;
const LIST_MS = 1000;

/** Temporary names in large directories, by directory. */
const listed = new Map<string, { readonly at: number; readonly names: readonly string[] }>();

/** The names of unfinished files in a directory; in a large one perhaps of a moment ago. */
function unfinishedIn(directory: string): readonly string[] {
  const now = performance.now();
  const known = listed.get(directory);
  if (known && now - known.at < LIST_MS) return known.names;
  listed.clear();
  let all: string[];
  try {
    all = fs.readdirSync(directory);
  } catch {
    return [];
  }
  const names = all.filter((name) => name.endsWith(".tmp"));
  if (all.length >= LARGE_NAMES) listed.set(directory, { at: now, names });
  return names;
}

/**
 * Removes what killed processes left of files that were to be called `finalPath`. Files that cannot be removed stay, and
 * others may until the next time.
 */
export function removeLeftOvers(finalPath: string): void {
  const directory = path.dirname(finalPath);
  const prefix = prefixOf(finalPath);
  for (const name of unfinishedIn(directory)) {
    if (!name.startsWith(prefix) || !isLeftOver(name.slice(prefix.length))) continue;
    const file = path.join(directory, name);
    try {
      const stat = fs.lstatSync(file);
      if (stat.isFile() && stat.uid === process.geteuid?.()) fs.unlinkSync(file);
    } catch {
      // Gone already, or another user's.
    }
  }
}

/**
 * Removes the temporary name of a file that has its final name, too: its process was killed between the two steps of
 * sys/free-name.ts. A file with any other second name, or a third, keeps them all. If a power cut brings the name back, it
 * is removed again.
 *
 * @param fd the file, open
 * @returns whether it has one name now
 */
export function removeSecondName(fd: number, finalPath: string): boolean {
  const { dev, ino, nlink } = fs.fstatSync(fd, { bigint: true });
  if (nlink !== 2n) return nlink === 1n;
  const directory = path.dirname(path.resolve(finalPath));
  const prefix = prefixOf(finalPath);
  try {
    for (const name of namesBeginning(directory, prefix)) {
      const file = path.join(directory, name);
      if (!UNIQUE.test(name.slice(prefix.length))) continue;
      const stat = fs.lstatSync(file, { bigint: true, throwIfNoEntry: false });
      if (stat?.ino === ino && stat.dev === dev) fs.rmSync(file, { force: true });
    }
  } catch {
    // A directory that one may not list or change: it keeps both.
  }
  return fs.fstatSync(fd).nlink === 1;
}
