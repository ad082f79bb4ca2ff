/**
 * Owns what an output may replace. `--force` replaces an empty file and a file of the kind that the command makes; an
 * image of another kind, such as the base under a mistyped name, only if its name is given once more with `--replace`.
 */
import type { ByteSource } from "../bytes/byte-source.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { refuseOwnName } from "../device/own-file.ts";
import type { FileFacts, OpenOptions, Storage } from "../device/storage.ts";
import { CowError, shellWord } from "../errors.ts";
import { looksPacked } from "../formats/cowfile/pack/open-pack.ts";
import { detectFormat, headOf, type WrittenId } from "../formats/registry.ts";
import { looksLikeStackFile } from "../stack/stack-document.ts";

/** The kind of an output: a format, packed, or an image without a magic number. */
export type Made = WrittenId | "pack" | "stack";

export interface Overwrite {
  /** Replace an existing file of the same kind. */
  readonly force?: boolean | undefined;
  /** Names of outputs of any kind that may be replaced. */
  readonly replace?: readonly string[] | undefined;
}

/** Of what is made beside a running disk: there is no flag that would replace a file. */
export const NEVER: Overwrite = {};

export function mayReplace({ force = false, replace = [] }: Overwrite, path: string): boolean {
  return force || replace.includes(path);
}

/** Opens files, and closes them at the end of an operation. */
export interface Opener {
  readonly storage: Storage;
  open(path: string, options: OpenOptions): BlockDevice;
}

/** @returns the format's id, `pack`, `compressed` for what is and is no pack, or `raw` for what has no mark */
function kindOf(source: ByteSource): string {
  if (looksPacked(source)) return "pack";
  const head = headOf(source);
  if (looksLikeStackFile(head)) return "stack";
  const format = detectFormat(source);
  if (!format || format.isOnDisk) return "raw";
  return format.mayBePacked?.(head) ? "compressed" : format.id;
}

function titleOf(kind: string): string {
  if (kind === "pack") return "a packed cowfile";
  if (kind === "compressed") return "a compressed file";
  if (kind === "stack") return "a stack file";
  return kind === "raw" ? "a file of no known format, as raw images are" : `a file of format ${kind}`;
}

/** @throws CowError `usage` for `-`: only pack and unpack, which ask before, take it for a stream */
export function requireFileName(path: string): void {
  if (path !== "-") return;
  throw new CowError("usage", "an output must be a file here: only pack and unpack write to stdout", {
    file: path,
    hints: ["./- is a file of that name"],
  });
}

/**
 * The part of claiming a name that is the same for every kind of output.
 *
 * @returns what is there now
 * @throws CowError `exists` unless `allowed` says otherwise; `usage` if it is no regular file, or `-`
 */
export function claimName(storage: Storage, path: string, allowed: Overwrite): FileFacts | undefined {
  requireFileName(path);
  const facts = storage.facts(path);
  if (!facts) return undefined;
  if (facts.kind !== "file")
    throw new CowError(
      "usage",
      `is ${facts.kind === "directory" ? "a directory" : "not a regular file"}: it cannot be replaced`,
      { file: path },
    );
  if (!mayReplace(allowed, path))
    throw new CowError("exists", "already exists", {
      file: path,
      hints: allowed === NEVER ? [] : ["--force replaces it"],
    });
  return facts;
}

/**
 * Checks that a new file may appear at `path`, and that no process uses the existing one.
 *
 * @throws CowError `exists` unless `allowed` says otherwise; `locked` if it is in use; `usage` if it is no regular
 * file, or has a name of ours
 */
export function claimOutput(files: Opener, path: string, allowed: Overwrite, made: Made): void {
  refuseOwnName(path);
  const facts = claimName(files.storage, path, allowed);
  if (!facts) return;
  const device = files.open(path, { writable: true, lock: "exclusive" });
  if (facts.sizeBytes === 0 || allowed.replace?.includes(path)) return;
  const kind = kindOf(device);
  if (kind !== made) throw refuseOther(path, titleOf(kind), titleOf(made));
}

/** For an existing file of another kind than the command makes. */
export function refuseOther(path: string, is: string, makes: string): CowError {
  return new CowError("exists", `is ${is}, and the command makes ${makes}: --force does not replace that`, {
    file: path,
    hints: [`remove it first, or name it once more: \`--replace ${shellWord(path)}\` replaces it, whatever it is`],
  });
}
