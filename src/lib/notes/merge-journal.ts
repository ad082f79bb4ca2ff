/**
 * Owns the note that an in-place merge leaves while it runs, beside the base or where journal-places.ts says: what is being merged into what, and what
 * the base's fingerprint was made of before. It makes an interrupted merge recognisable, though the merge changes the
 * very blocks by which a base is known. One small JSON file, replaced atomically, removed when the merge is durable.
 */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { OWN } from "../device/own-file.ts";
import type { Storage } from "../device/storage.ts";
import type { DeviceKey } from "../device/sys/device-key.ts";
import { CowError, shellWord } from "../errors.ts";
import { BitmapReader } from "../formats/cowfile/bitmap-windows.ts";
import type { Contribution } from "../formats/cowfile/fingerprint.ts";
import type { CowfileLayer } from "../formats/cowfile/layer.ts";
import { writeNote } from "./note.ts";

const LIMIT_BYTES = 64 * 1024;

export interface MergeJournal {
  readonly cowtool_merge: 1;
  /** Absolute paths, for messages. */
  readonly rdofile: string;
  readonly rdofile_size: number;
  readonly cowfile: string;
  /** SHA-256 over head block and bitmap: which state of which cowfile. */
  readonly cowfile_digest: string;
  /** The blocks that the base's fingerprint was made of before the first write. */
  readonly contributions: readonly Contribution[];
  readonly fingerprint_before: number;
  readonly fingerprint_after: number;
  /** Real path of the undo file, or null. */
  readonly undo: string | null;
  /** Is the undo file complete under its name? No block of the base is overwritten before. */
  readonly undo_saved: boolean;
  /** What tells the base from other block devices; null for a file. */
  readonly device: DeviceKey | null;
  /** Everywhere that the journal may lie. */
  readonly places: readonly string[];
}

/**
 * @param lenient one that cannot be read counts as none
 * @throws CowError `damaged` if there is one that cannot be read
 */
export function readJournal(storage: Storage, path: string, lenient: boolean): MergeJournal | undefined {
  try {
    const bytes = storage.readSmall(path, LIMIT_BYTES);
    if (!bytes) return undefined;
    const journal = JSON.parse(Buffer.from(bytes).toString("utf8")) as MergeJournal;
    const sound =
      journal.cowtool_merge === 1 &&
      typeof journal.rdofile === "string" &&
      typeof journal.cowfile === "string" &&
      typeof journal.cowfile_digest === "string" &&
      Number.isInteger(journal.rdofile_size) &&
      Number.isInteger(journal.fingerprint_before) &&
      Number.isInteger(journal.fingerprint_after) &&
      typeof journal.undo_saved === "boolean" &&
      (journal.undo === null || typeof journal.undo === "string") &&
      Array.isArray(journal.contributions) &&
      journal.contributions.length <= 4 &&
      journal.contributions.every(({ block, sum }) => Number.isInteger(block) && Number.isInteger(sum)) &&
      (journal.device === null ||
        (typeof journal.device.key === "string" &&
          (journal.device.boot === null || typeof journal.device.boot === "string"))) &&
      Array.isArray(journal.places) &&
      journal.places.every((place) => typeof place === "string");
    if (sound) return journal;
  } catch (error) {
    if (error instanceof CowError && !lenient) throw error;
    // Else falls through to the one error for everything that is no journal.
  }
  if (lenient) return undefined;
  throw new CowError("damaged", "is not a merge journal that can be read", {
    file: path,
    hints: [
      "it records an interrupted merge, into the base beside it or a block device; --force ignores it, and `cowtool merge RDOFILE COWFILE --give-up --force` removes it",
    ],
  });
}

/** Makes the journal durable before anything that it speaks of happens. @throws CowError `permission`, … with a way out */
export function writeJournal(storage: Storage, path: string, journal: MergeJournal): void {
  try {
    writeNote(storage, OWN.mergeJournal, path, journal, 2);
  } catch (error) {
    if (!(error instanceof CowError) || error.code !== "permission") throw error;
    const { message, details } = error;
    throw new CowError(error.code, `${message}: a merge in place keeps its journal there while it runs`, {
      file: path,
      details,
      cause: error,
      hints: [
        `make ${shellWord(dirname(path))} writable, or merge into a new image with --output; nothing was changed`,
      ],
    });
  }
}

/**
 * What has the name of a journal in the directories where these files are, and where the names are that they were given by;
 * `file` is what it is beside, by its name.
 */
export function* journalNames(
  storage: Storage,
  files: readonly string[],
): Generator<{ readonly path: string; readonly file: string }> {
  const { suffix } = OWN.mergeJournal;
  for (const directory of new Set(files.flatMap((file) => [dirname(storage.realPath(file)), dirname(file)])))
    for (const name of storage.list(directory))
      if (name.endsWith(suffix))
        yield { path: join(directory, name), file: join(directory, name.slice(0, -suffix.length)) };
}

/** SHA-256 over head block and bitmap, holes skipped. */
export function cowfileDigest(layer: CowfileLayer): string {
  const hash = createHash("sha256").update(layer.opened.headBlock);
  const bitmap = new BitmapReader(layer.source, layer.opened.geometry);
  const window = new Uint8Array(bitmap.windowBytes);
  for (const index of bitmap.nonHoleIndexes()) {
    const { bytes } = bitmap.readWindow(index, window);
    // A window of zeros and a hole are the same bitmap.
    if (bytes.some((byte) => byte !== 0)) hash.update(`${index}:`).update(bytes);
  }
  return hash.digest("hex");
}
