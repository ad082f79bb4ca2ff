/**
 * Owns the sign of life of a merge in place: while it writes, its journal is touched, so that the time of the journal
 * tells when the merge wrote last. A base that was changed later was changed by somebody else. This costs nothing, and
 * sees every change to a file that comes a minute after the interruption; devices have no such time.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import type { FoundJournal } from "./journal-places.ts";

const BEAT_MS = 250;
/** A piece takes less to be written, and the journal's time is as durable as the base's, but for so much. */
const SLACK_MS = 60_000;
/** What every journal begins with: to write it again changes nothing but the time. */
const FIRST_BYTE = Buffer.from("{");

/** To be called before each piece is written. @param journal open for writing */
export function makeSignOfLife(journal: BlockDevice): () => void {
  let last = Number.NEGATIVE_INFINITY;
  return () => {
    const now = performance.now();
    if (now - last < BEAT_MS) return;
    journal.write(FIRST_BYTE, 0);
    last = now;
  };
}

/** @throws CowError `pending-merge` if the base was changed after the interrupted merge wrote to it last */
export function requireNoLaterChange(storage: Storage, rdofile: string, found: FoundJournal): void {
  const base = storage.facts(rdofile);
  const changed = base?.kind === "file" ? base.modifiedMs : undefined;
  const merged = storage.facts(found.path, { own: true })?.modifiedMs;
  if (changed === undefined || merged === undefined || changed <= merged + SLACK_MS) return;
  const [changedAt, mergedAt] = [changed, merged].map((ms) => new Date(ms).toISOString());
  throw new CowError(
    "pending-merge",
    `was changed at ${changedAt}, but the interrupted merge wrote to it last at ${mergedAt}: resuming would overwrite that`,
    {
      file: rdofile,
      details: { journal: found.path },
      hints: ["--force resumes anyway, which is right if the base was only copied or touched"],
    },
  );
}
