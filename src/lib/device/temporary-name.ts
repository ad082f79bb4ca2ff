/**
 * Owns the names of files until they are complete: each names the process that writes it, so that a killed process's
 * files are told from a living one's. Only those of this boot and these process numbers are ever judged: a file on a
 * network, or shared with a container, may be another machine's, whose processes are not visible here.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { ORIGIN_DIGITS, processIdentity, processOrigin } from "./sys/process-info.ts";

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
  const startTicks = processIdentity(process.pid)?.startTicks ?? 0;
  const unique = [process.pid, startTicks].map((number) => number.toString(36));
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

/** Removes what killed processes left of files that were to be called `finalPath`. Files that cannot be removed stay. */
export function removeLeftOvers(finalPath: string): void {
  const directory = path.dirname(finalPath);
  const prefix = prefixOf(finalPath);
  let names: string[];
  try {
    names = fs.readdirSync(directory);
  } catch {
    return;
  }
  for (const name of names) {
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
