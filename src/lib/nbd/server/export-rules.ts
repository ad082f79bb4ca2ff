/**
 * Owns what is refused of exports that come and go, and in which words: names, access, exports in use.
 */
import { formatSize } from "../../bytes/size.ts";
import { CowError } from "../../errors.ts";
import { MAX_STRING_BYTES } from "../../protocol/constants.ts";
import type { Access } from "../../stack/live/access.ts";
import { AT } from "./checkpoint-views.ts";
import type { ExportEntry } from "./live-export.ts";

/** @throws CowError `usage` for a name that NBD does not allow */
export function checkExportName(name: string): void {
  if (Buffer.byteLength(name) > MAX_STRING_BYTES || name.includes("\0") || !name.isWellFormed())
    throw new CowError("usage", `an export's name is at most ${MAX_STRING_BYTES} bytes of UTF-8, none of them NUL`);
}

/**
 * @param of.comesBack the command line has it: the next server does, too
 * @throws CowError `exists`; `usage` for a name that NBD does not allow
 */
export function requireNewName(
  name: string,
  { isTaken, comesBack }: { readonly isTaken: boolean; readonly comesBack: boolean },
): void {
  if (isTaken) throw new CowError("exists", `there is an export "${name}" already`);
  checkExportName(name);
  if (!comesBack) return;
  throw new CowError(
    "exists",
    `the command line of the server has an export "${name}", and the next server has it again`,
  );
}

/** Its own name would hide the checkpoint of another export. @throws CowError `usage` */
export function refuseCheckpointName(name: string): void {
  if (!name.includes(AT)) return;
  throw new CowError(
    "usage",
    `"${name}" is no name of an export: NAME${AT}CHECKPOINT means a checkpoint of export NAME`,
    {
      hints: [`choose a name without ${AT}; one that is kept from before is removed by its old name`],
    },
  );
}

export function missing(name: string): CowError {
  return new CowError("not-found", `there is no export "${name}"`);
}

/**
 * @param most what the server was started for; undefined for anything
 * @throws CowError `usage` for more than that
 */
export function requireAccess(most: Access | undefined, wanted: Access | undefined): void {
  if (most === undefined || wanted === undefined || wanted === most || wanted === "read-only") return;
  throw new CowError("usage", `the server was started with --${most}: none of its exports is ${wanted}`);
}

/**
 * @param refused what is not done while clients use it, as in "cannot be removed"
 * @throws CowError `locked` for an export that clients use
 */
export function requireUnused({ name, users }: ExportEntry, refused: string, hint: string): void {
  const count = users.length;
  if (count === 0) return;
  const who = count === 1 ? "a client uses it" : `${count} clients use it`;
  throw new CowError("locked", `export "${name}" cannot be ${refused}: ${who}`, { hints: [hint] });
}

/**
 * Asked before its files are closed for it.
 * @returns the file of the layer that is made larger
 * @throws CowError `unsuitable` for an export that writes none, `usage` for a size that is not larger
 */
export function requireLarger({ name, served }: ExportEntry, sizeBytes: number): string {
  const { writtenPath, sizeBytes: now = 0 } = served?.stack ?? {};
  if (writtenPath === undefined)
    throw new CowError("unsuitable", `export "${name}" has no layer that it writes, and that could be made larger`);
  if (sizeBytes > now) return writtenPath;
  throw new CowError("usage", `export "${name}" has ${formatSize(now)} already, and only grows while it is served`, {
    hints: ["`cowtool resize --shrink` makes a cowfile smaller that no server has"],
  });
}

/** A stack file is changed by a server that writes its disk. @throws CowError `unsuitable` */
export function requireWritten({ name, access, served, spec }: ExportEntry): void {
  if (!served || !spec?.stackFile || access === "writable") return;
  const hints = ["remove the export, and add it without --read-only and --ephemeral"];
  throw new CowError(
    "unsuitable",
    `export "${name}" is ${access}: its stack file is changed only where it is written`,
    {
      file: spec.stackFile.name,
      hints,
    },
  );
}

/** A file that another export of this server has is not locked by a stranger: the error says which one has it. */
export function ownLock(exports: readonly ExportEntry[], { name }: ExportEntry, error: unknown): unknown {
  if (!(error instanceof CowError) || error.code !== "locked") return error;
  const { file } = error;
  const other = exports.find((each) => each.served && each.name !== name && each.spec?.top.path === file);
  if (!other) return error;
  return new CowError("locked", `is used by export "${other.name}" of this server`, { file, cause: error });
}
