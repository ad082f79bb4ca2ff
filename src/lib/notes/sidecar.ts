/**
 * Owns the base record's file, `COWFILE.cowtool-base`: reading it, checking that it belongs to the cowfile beside it,
 * writing and removing it. It is only replaced as a whole, and no other file of that name is touched.
 */
import { OWN } from "../device/own-file.ts";
import type { FileStamp, Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import type { BaseIdentity } from "../formats/format.ts";
import { type BaseRecord, decodeRecord, type FileTimes, RECORD_LIMIT_BYTES } from "./base-record.ts";
import { notePath, writeNote } from "./note.ts";

/** Of a record that does not say which file it is: one at most this much older than its contents is where it was written. */
const SAME_MOMENT_MS = 10_000;
/** The kernel's clock for files moves in ticks; some file systems keep no parts of a second, or only even ones. */
const TICK_MS = 100;
const COARSE_MS = 2500;

export type Sidecar =
  | { readonly state: "none" }
  | { readonly state: "ignored"; readonly path: string; readonly why: string; readonly mayReplace: boolean }
  | { readonly state: "own"; readonly path: string; readonly record: BaseRecord };

export function sidecarPath(storage: Storage, cowfile: string): string {
  return notePath(storage, OWN.baseRecord, cowfile);
}

/** The record beside a cowfile whose base has `identity`. Never throws: an unusable record is ignored. */
export function readSidecar(storage: Storage, cowfile: string, identity: BaseIdentity): Sidecar {
  const path = sidecarPath(storage, cowfile);
  const ignored = (why: string, mayReplace = true): Sidecar => ({ state: "ignored", path, why, mayReplace });
  try {
    const facts = storage.facts(path, { own: true });
    if (!facts) return { state: "none" };
    if (facts.kind !== "file") return ignored("it is no regular file", false);
    const bytes = storage.readSmall(path, RECORD_LIMIT_BYTES);
    if (!bytes) return { state: "none" };
    if (bytes.length > RECORD_LIMIT_BYTES) return ignored(`it has ${bytes.length} bytes`);
    const record = decodeRecord(bytes);
    if ("why" in record) return ignored(record.why, !record.isNewer);
    const { fingerprint, rdo_blocks: blocks } = record.cowfile;
    if (fingerprint !== formatFingerprint(identity.fingerprint ?? 0) || blocks !== identity.blocks)
      return ignored(`it is about a cowfile over ${blocks} blocks with fingerprint ${fingerprint}`);
    if (wasReplaced(record, facts.stamp, storage.facts(cowfile)?.stamp))
      return ignored("the cowfile was replaced since it was written");
    return { state: "own", path, record };
  } catch (error) {
    if (error instanceof CowError) return ignored(`it ${error.message}`, false);
    throw error;
  }
}

/** Both may have been copied together; but another cowfile beside a record that is where it was written does not match. */
function wasReplaced(record: BaseRecord, note: FileStamp | undefined, cowfile: FileStamp | undefined): boolean {
  const { id } = record.cowfile;
  if (id === null || !note || !cowfile || idOf(cowfile) === id) return false;
  if (record.own_id) return idOf(note) === record.own_id;
  const bornMs = Number(note.bornNs) / 1e6;
  return Math.abs(bornMs - Date.parse(record.written)) < SAME_MOMENT_MS;
}

function idOf({ inode, bornNs }: FileStamp): string {
  return `${inode}:${bornNs}`;
}

/** Writes the record beside a cowfile, replacing an older one. @throws CowError if that is impossible */
export function writeSidecar(
  storage: Storage,
  cowfile: string,
  record: Omit<BaseRecord, "cowtool_base" | "written" | "cowfile" | "own_id"> & { readonly cowfile: BaseIdentity },
): void {
  const path = sidecarPath(storage, cowfile);
  const stamp = storage.facts(cowfile)?.stamp;
  const { fingerprint, blocks } = record.cowfile;
  const note = (own: FileStamp | undefined): BaseRecord => ({
    cowtool_base: 1,
    ...record,
    written: new Date().toISOString(),
    cowfile: {
      fingerprint: formatFingerprint(fingerprint ?? 0),
      rdo_blocks: Number(blocks),
      id: stamp ? idOf(stamp) : null,
    },
    own_id: own ? idOf(own) : null,
  });
  writeNote(storage, OWN.baseRecord, path, note);
}

/** Removes the record beside a cowfile, if there is one of ours. @throws CowError if that is impossible */
export function removeSidecar(storage: Storage, cowfile: string): void {
  const path = sidecarPath(storage, cowfile);
  if (storage.facts(path, { own: true })?.kind === "file") storage.remove(path, { own: OWN.baseRecord.beginning });
}

/** The current times of each file, if they are reliable later: a file that is just being written has none. */
export function settledTimes(storage: Storage, paths: readonly string[]): readonly (FileTimes | null)[] {
  const now = Date.now();
  return fileTimes(storage, paths).map((times) => {
    if (!times) return null;
    const changedNs = BigInt(times.ctime_ns);
    const isCoarse = changedNs % 1_000_000n === 0n;
    return now - Number(changedNs / 1_000_000n) > (isCoarse ? COARSE_MS : TICK_MS) ? times : null;
  });
}

function fileTimes(storage: Storage, paths: readonly string[]): readonly (FileTimes | null)[] {
  return paths.map((path) => {
    const { stamp, sizeBytes } = storage.facts(path) ?? {};
    return stamp && sizeBytes !== undefined
      ? { size: sizeBytes, mtime_ns: stamp.modifiedNs, ctime_ns: stamp.changedNs }
      : null;
  });
}

/** Do the times show that no file was written since? `undefined` if unknown. */
export function areUntouched(storage: Storage, paths: readonly string[], record: BaseRecord): boolean | undefined {
  const now = fileTimes(storage, paths);
  const pairs = record.files.map((then, i) => [then, now[i]] as const);
  if (pairs.some(([then, after]) => !then || !after) || now.length !== record.files.length) return undefined;
  return pairs.every(
    ([then, after]) =>
      then?.size === after?.size && then?.mtime_ns === after?.mtime_ns && then?.ctime_ns === after?.ctime_ns,
  );
}
