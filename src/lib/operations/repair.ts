/**
 * Owns `repair`: opens with the right lock, refuses the wrong base before anything is written, and leaves the rest to
 * the format.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { JOURNAL_SUFFIX } from "../formats/cowfile/live/journal.ts";
import type { RepairReport } from "../formats/format.ts";
import { asideFile } from "../stack/live/aside-file.ts";
import { JournalFile } from "../stack/live/journal-file.ts";
import { requireBelongs } from "../stack/open.ts";
import { formatOfPart } from "../stack/open-part.ts";
import { parsePart } from "../stack/part.ts";
import { type GivenStack, notesOfServer, OpenFiles, refuseSameFile } from "./files.ts";

/** What `repair` is asked for. */
export interface RepairRequest {
  readonly dryRun?: boolean;
  /** Examine a clean file, too. */
  readonly force?: boolean;
  /** Clear the bits of blocks whose data is beyond the end of the file: makes the loss final. */
  readonly dropLost?: boolean;
  /** The stack that the file should belong to. */
  readonly rdofile?: GivenStack | undefined;
}

/**
 * Repairs `file` in place; a second run finds nothing to do.
 *
 * @throws CowError `locked`, `bad-head`, `packed`, `truncated`, `damaged`, `wrong-base`, `io`, `no-space`, `interrupted`
 */
export async function repair(
  file: string,
  request: RepairRequest = {},
  context: OperationContext = {},
): Promise<RepairReport> {
  const dryRun = request.dryRun ?? false;
  return OpenFiles.during(context, async (files) => {
    const named = parsePart(file);
    const below = files.stackSpec(request.rdofile);
    if (below) refuseSameFile(files.storage, named.path, below.files);
    const opened = files.openPart(named, dryRun ? { lock: "shared" } : { writable: true, lock: "exclusive" });
    const { file: device, part } = opened;
    const format = formatOfPart(opened);
    const base = (await files.openStack(request.rdofile))?.device;
    if (base) {
      const layer = format.openLayer(device, { ...opened.options, allowDirty: true, backing: base });
      await requireBelongs(layer, base, context.signal);
    }
    const journal = files.keep(new JournalFile(files.storage, part.path));
    const report = await format.repair(device, {
      ...opened.options,
      backing: base,
      ...notesOfServer(files, part.path),
      ...(!dryRun && {
        companion: (suffix) => (suffix === JOURNAL_SUFFIX ? findJournal(journal, context) : undefined),
      }),
      aside: () => {
        const file = asideFile(files.storage, part.path);
        files.keep({ close: () => file.abandon() });
        return file;
      },
      dryRun,
      force: request.force ?? false,
      dropLost: request.dropLost ?? false,
      base,
      signal: context.signal,
      onProgress: context.onProgress,
      allocatedBytes: files.storage.facts(part.path)?.allocatedBytes ?? 0,
    });
    // Its contents are in the bitmap now.
    if (!dryRun && report.isJournalSpent) journal.remove();
    return report;
  });
}

/** A file with the journal's name that is not one stays: the repair does without it. */
function findJournal(journal: JournalFile, { onNotice }: OperationContext): BlockDevice | undefined {
  try {
    return journal.find();
  } catch (error) {
    if (!(error instanceof CowError) || error.code !== "exists") throw error;
    onNotice?.({ severity: "warning", file: error.file, message: error.message });
    return undefined;
  }
}
