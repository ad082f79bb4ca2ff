/**
 * Owns beginning the journal of a session: at once and durable, or so that the first change makes it durable.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { FoundLog } from "../../formats/cowfile/live/flush-log.ts";
import type { BlockRun } from "../../formats/cowfile/live/journal.ts";
import { type JournalFile, withJournalHint } from "./journal-file.ts";
import { writeNewJournal } from "./journal-writer.ts";
import { Control } from "./shared-state.ts";

type JournalBegin = Parameters<typeof writeNewJournal>[1];

/** Without a sync: the first change makes it durable. */
export function makeJournalLazily(
  file: JournalFile,
  begin: JournalBegin,
  control: Int32Array,
): { readonly journal: BlockDevice; readonly slotsPerHalf: number } {
  let journal: BlockDevice | undefined;
  try {
    journal = file.make();
    return { journal, slotsPerHalf: writeNewJournal(journal, begin, [], control) };
  } catch (error) {
    journal?.close();
    if (journal) file.remove({ mayReturn: true });
    throw withJournalHint(error, file.path);
  }
}

/** Durable, with its name: it replaces one that is needed until then, or lists what the session must not erase. */
export function makeJournal(
  file: JournalFile,
  begin: JournalBegin,
  { runs, log }: { readonly runs: readonly BlockRun[]; readonly log: FoundLog | undefined },
  control: Int32Array,
): { readonly journal: BlockDevice; readonly slotsPerHalf: number } {
  try {
    const pending = file.create();
    try {
      const slotsPerHalf = writeNewJournal(pending.device, begin, runs, control, log?.records);
      // An old journal says nothing that the new one doesn't.
      const journal = file.replace(pending);
      control[Control.JOURNAL_DURABLE] = 1;
      return { journal, slotsPerHalf };
    } finally {
      pending.abandon();
    }
  } catch (error) {
    throw withJournalHint(error, file.path);
  }
}
