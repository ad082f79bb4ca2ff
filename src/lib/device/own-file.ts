/**
 * Owns the one rule for files that cowtool makes beside a user's (journals, unfinished outputs, records, lock files, pid
 * files), so that nothing else that has such a name is ever read, written, replaced or removed:
 * - the name is not a link, and what it names is a regular file. It is looked at before it is opened, as opening a device or
 *   a FIFO may already do something;
 * - it is made with O_EXCL, under this name or a temporary one. One that is there already counts as cowtool's if it belongs
 *   to this user, to root, or to the owner of its directory or of the file beside, who could exchange that anyway; and, before
 *   it is replaced or removed, if it is empty, holds nothing but zeros (a power cut can leave that of a file whose length was
 *   durable), or begins as cowtool's files of that kind do;
 * - it is opened for writing only if it has no second name: a hard link may be a copy that the user keeps. Only its own
 *   temporary name, which a kill can leave, is removed.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { isZero } from "../bytes/zero.ts";
import { CowError, errnoName, systemError } from "../errors.ts";
import { JOURNAL_BEGINNING, JOURNAL_SUFFIX } from "../formats/cowfile/live/journal.ts";
import { seekDataExtents } from "./sys/holes.ts";
import { removeSecondName } from "./temporary-name.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants;

const PIECE_BYTES = 64 << 10;

/** The end of the name of every file that cowtool makes beside a user's file. */
const SUFFIX = /\.cowtool-[^/]*$/;

/** A kind of file that cowtool makes beside a user's. */
export interface OwnKind {
  /** What follows the name of the file that it is beside. */
  readonly suffix: string;
  /** How it begins, a byte a character. */
  readonly beginning: string;
}

/** Every kind. No output may have such a name. Blocks set aside after a crash are a cowfile like any other. */
export const OWN = {
  /** What the base of a cowfile was: notes/sidecar.ts. */
  baseRecord: { suffix: ".cowtool-base", beginning: '{"cowtool_base":' },
  liveJournal: { suffix: JOURNAL_SUFFIX, beginning: JOURNAL_BEGINNING },
  /** Of a writer; a reader's has more after the suffix: sys/lock-file.ts. */
  lock: { suffix: ".cowtool-lock", beginning: "" },
  /** Of an interrupted merge in place: notes/merge-journal.ts. */
  mergeJournal: { suffix: ".cowtool-merge", beginning: "{" },
  /** An unfinished output, and the note beside it that tells that it is ours: output/partial.ts. */
  partial: { suffix: ".cowtool-partial", beginning: "" },
  partialNote: { suffix: ".cowtool-partial-note", beginning: '{"cowtool_convert":' },
} as const satisfies Readonly<Record<string, OwnKind>>;

const ENDINGS = Object.values(OWN).map((kind) => kind.suffix.slice(1) + (kind === OWN.lock ? "[^/]*" : ""));
const RESERVED = new RegExp(`\\.(?:${ENDINGS.join("|")})$`);

/** @throws CowError `usage` for an output that would be taken for a file of ours */
export function refuseOwnName(path: string): void {
  const [suffix] = RESERVED.exec(path) ?? [];
  if (suffix === undefined) return;
  throw new CowError("usage", `is a name that cowtool uses for files of its own: no output may end in ${suffix}`, {
    file: path,
  });
}

/** The file that one of ours is beside, by its name. */
export function beside(file: string): string {
  return file.replace(SUFFIX, "");
}

/** The users that own files made by this process: some network file systems give them to another user. */
const ourUids = new Set<number | undefined>([0, process.geteuid?.()]);

export function noteAsMade(fd: number): void {
  ourUids.add(fs.fstatSync(fd).uid);
}

function kindOf(stat: fs.Stats): string {
  if (stat.isSymbolicLink()) return "a symbolic link";
  if (stat.isDirectory()) return "a directory";
  if (stat.isFIFO()) return "a FIFO";
  return stat.isSocket() ? "a socket" : "a device";
}

function stranger(file: string, what: string): CowError {
  return new CowError("exists", `${what}, under a name that cowtool uses for a file of its own; left unchanged`, {
    file,
    hints: ["look at what it is, move or remove it, and run the same command again"],
  });
}

function requireOwner(file: string, stat: fs.Stats): void {
  if (ourUids.has(stat.uid)) return;
  const around = [path.dirname(path.resolve(file)), ...(SUFFIX.test(file) ? [beside(file)] : [])];
  if (around.some((each) => fs.statSync(each, { throwIfNoEntry: false })?.uid === stat.uid)) return;
  throw stranger(file, `belongs to another user (uid ${stat.uid})`);
}

function requireRegular(file: string, stat: fs.Stats): void {
  if (!stat.isFile()) throw stranger(file, `is ${kindOf(stat)}`);
}

/** The file with a name of ours, or undefined. @throws CowError `exists` if it is not a regular file, `io` */
function lookAt(file: string): fs.Stats | undefined {
  let stat: fs.Stats | undefined;
  try {
    stat = fs.lstatSync(file, { throwIfNoEntry: false });
  } catch (error) {
    throw systemError(error, file, "cannot look at it");
  }
  if (stat) requireRegular(file, stat);
  return stat;
}

/**
 * Opens an existing file of ours. Others' may be read (a journal that another user's server left), never written.
 *
 * @throws CowError `exists` for what is no such file; `not-found`, `permission`, `io`
 */
export function openOwn(file: string, { writable }: { readonly writable: boolean }): number {
  lookAt(file);
  let fd: number;
  try {
    fd = fs.openSync(file, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if (errnoName(error) === "ELOOP") throw stranger(file, "is a symbolic link");
    throw systemError(error, file, writable ? "cannot open for writing" : "cannot open");
  }
  try {
    const stat = fs.fstatSync(fd);
    requireRegular(file, stat);
    if (writable) requireOwner(file, stat);
    if (writable && stat.nlink > 1 && !removeSecondName(fd, file))
      throw stranger(file, `has ${stat.nlink} names (hard links)`);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** Makes a new file of ours. @throws CowError `exists`, `permission`, … */
export function makeOwn(file: string, mode: number): number {
  try {
    const fd = fs.openSync(file, O_RDWR | O_CREAT | O_EXCL, mode);
    noteAsMade(fd);
    return fd;
  } catch (error) {
    throw systemError(error, file, "cannot create");
  }
}

/**
 * Makes sure that a file of this name, if there is one, may be replaced or removed.
 *
 * @param beginning how files of this kind begin, a byte a character
 * @returns whether there is a file
 * @throws CowError `exists` if it is not ours
 */
export function requireOwn(file: string, beginning: string): boolean {
  const stat = lookAt(file);
  if (!stat) return false;
  requireOwner(file, stat);
  if (stat.size === 0) return true;
  const fd = openOwn(file, { writable: false });
  try {
    const head = Buffer.alloc(beginning.length);
    fs.readSync(fd, head, 0, head.length, 0);
    const mayBeZeros = head.length > 0 && isZero(head);
    if (!mayBeZeros || !holdsZeros(fd, file, stat.size)) requireBeginning(file, head, beginning);
    return true;
  } finally {
    fs.closeSync(fd);
  }
}

function holdsZeros(fd: number, file: string, sizeBytes: number): boolean {
  const piece = Buffer.alloc(PIECE_BYTES);
  for (const { offset, length } of seekDataExtents(fd, file, 0, sizeBytes)) {
    for (let at = offset; at < offset + length; at += PIECE_BYTES)
      if (!isZero(piece.subarray(0, fs.readSync(fd, piece, 0, PIECE_BYTES, at)))) return false;
  }
  return true;
}

/** @throws CowError `exists` unless `head` is how files of this kind begin */
export function requireBeginning(file: string, head: Uint8Array, beginning: string): void {
  if (Buffer.from(head).toString("latin1").startsWith(beginning)) return;
  throw stranger(file, "is not a file that cowtool made");
}
