/**
 * Owns who may read and write a new file: a file made from an image is never open to more users than the image, and a
 * file that replaces another keeps its owner and mode, as far as that allows.
 */
import * as fs from "node:fs";
import { beside, noteAsMade } from "./own-file.ts";
import { statOf } from "./sys/device-number.ts";

const NEW_FILE_MODE = 0o666; // less what the umask takes
const READ_BITS = 0o444;
const OWNER_BITS = 0o600;

type Say = (message: string) => void;

/** The most permissive mode for a file of group `gid`: its owner may use it, others need a right to every input. */
function mostFor(inputs: readonly string[], gid: number | undefined): number {
  let most = NEW_FILE_MODE;
  for (const input of inputs) {
    const stat = statOf(input);
    if (!stat) continue;
    const [group, other] = [(stat.mode >> 3) & 7, stat.mode & 7];
    // Members of another group may not be in the input's group.
    const ofGroup = gid === undefined || stat.gid === gid ? group : group & other;
    most &= OWNER_BITS | (ofGroup << 3) | other;
  }
  return most;
}

/** Makes `temporary`, readable only by users who may read all inputs. */
export function openNew(temporary: string, inputs: readonly string[]): number {
  const fd = fs.openSync(temporary, "wx+", mostFor(inputs, undefined));
  const { mode, gid } = fs.fstatSync(fd);
  const allowed = mode & mostFor(inputs, gid);
  if (allowed !== (mode & 0o777)) fs.fchmodSync(fd, allowed);
  return fd;
}

/**
 * Makes a file of our own.
 * @param named the name that it has, or will have
 * @throws a system error, such as EEXIST
 */
export function openNewBeside(file: string, named: string, inputs: readonly string[] = []): number {
  const fd = openNew(file, [beside(named), ...inputs]);
  noteAsMade(fd);
  giveToOwner(fd, named);
  return fd;
}

/** A file that root makes beside a user's file is given to the user, who needs to resume with it. */
function giveToOwner(fd: number, file: string): void {
  const theirs = statOf(beside(file));
  if (process.geteuid?.() !== 0 || !theirs?.isFile()) return;
  try {
    fs.fchownSync(fd, theirs.uid, theirs.gid);
    fs.fchmodSync(fd, fs.fstatSync(fd).mode & mostFor([beside(file)], theirs.gid));
  } catch {
    // Some file systems have no owners.
  }
}

/** Gives a file that will replace another the other's owner and mode. `say` receives what could not be kept. */
export function keepOwnerAndMode(fd: number, replaced: string, inputs: readonly string[], say: Say): void {
  const old = statOf(replaced);
  const now = fs.fstatSync(fd);
  if (!old?.isFile()) return;
  if (old.uid !== now.uid || old.gid !== now.gid) {
    try {
      fs.fchownSync(fd, old.uid, old.gid);
    } catch {
      tryGroup(fd, old.gid);
    }
  }
  const { uid, gid } = fs.fstatSync(fd);
  const mode = old.mode & 0o777;
  const readable = mostFor([...inputs, ...(gid === old.gid ? [] : [replaced])], gid) & READ_BITS;
  const kept = mode & (readable | 0o333 | OWNER_BITS);
  try {
    if ((now.mode & 0o777) !== kept) fs.fchmodSync(fd, kept);
  } catch {
    // A file system without modes.
  }
  const octal = (bits: number): string => bits.toString(8).padStart(4, "0");
  if (uid !== old.uid || gid !== old.gid)
    say(`belonged to ${old.uid}:${old.gid} and belongs to ${uid}:${gid} now, as only root may give files away`);
  if (kept !== mode)
    say(
      `had mode ${octal(mode)} and has ${octal(kept)} now, as its data must not be readable by more users than its inputs`,
    );
}

function tryGroup(fd: number, gid: number): void {
  try {
    fs.fchownSync(fd, -1, gid);
  } catch {
    // The caller reports it when it looks afterwards.
  }
}
