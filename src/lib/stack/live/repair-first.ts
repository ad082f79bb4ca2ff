/**
 * Owns the repair of a cowfile before it is served (`serve --repair`), with everything that `cowtool repair` knows,
 * including the journal of a dead server.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { bootId } from "../../device/sys/boot.ts";
import { CowError } from "../../errors.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { JOURNAL_SUFFIX } from "../../formats/cowfile/live/journal.ts";
import { unflushedWords } from "../../formats/cowfile/live/set-aside.ts";
import { asideFile } from "./aside-file.ts";
import { JournalFile } from "./journal-file.ts";

/** @throws CowError `damaged` if data of allocated blocks is missing, and as repair */
export async function repairFirst(
  storage: Storage,
  path: string,
  device: BlockDevice,
  { boot = bootId(), signal, onNotice }: { readonly boot?: Uint8Array | undefined } & Omit<OperationContext, "storage">,
): Promise<void> {
  const journal = new JournalFile(storage, path);
  let aside: ReturnType<typeof asideFile> | undefined;
  try {
    const report = await cowfileFormat.repair(device, {
      dryRun: false,
      force: true,
      dropLost: false,
      boot,
      companion: (suffix) => (suffix === JOURNAL_SUFFIX ? journal.find() : undefined),
      aside: () => (aside = asideFile(storage, path)),
      signal,
    });
    if (report.setAsideFile !== undefined) {
      const message = unflushedWords(report.setAside.totalBytes / BLOCK_BYTES, report.setAsideFile);
      onNotice?.({ severity: "warning", file: path, message });
    }
    // Its contents are in the bitmap now.
    if (report.isJournalSpent) journal.remove();
    if (report.lost.count > 0)
      throw new CowError(
        "damaged",
        "was repaired, but the data of some allocated blocks is beyond the end of the file",
        {
          file: path,
          hints: ["`cowtool repair --drop-lost` gives them up"],
        },
      );
  } finally {
    aside?.abandon();
    journal.close();
  }
}
