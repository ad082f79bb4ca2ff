/**
 * Owns the file of a cowfile's live journal: opening an existing one, making and replacing it, removing it. A journal that
 * may still be needed by another cowfile is never overwritten or removed: it gets another name.
 */
import type { Notice } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { PendingFile, Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { JOURNAL_BEGINNING, journalPath, readJournal } from "../../formats/cowfile/live/journal.ts";
import { freeName } from "./aside-file.ts";

const OLD_SUFFIX = ".old";

export class JournalFile {
  readonly path: string;
  readonly #storage: Storage;
  #found: BlockDevice | undefined;
  /** The journal's file, even if another one has its name by then. */
  #identity: string | undefined;

  /** @param cowfile its path */
  constructor(storage: Storage, cowfile: string) {
    this.#storage = storage;
    this.path = journalPath(storage.realPath(cowfile));
  }

  /**
   * The existing journal, locked: a server that still writes it serves the cowfile under another name.
   *
   * @returns undefined if there is none
   * @throws CowError `locked`, `exists` (no file of ours), `permission`, `io`
   */
  find(): BlockDevice | undefined {
    const facts = this.#found ? undefined : this.#storage.facts(this.path, { own: true });
    if (facts) {
      this.#found = this.#storage.open(this.path, { writable: true, lock: "exclusive", own: true });
      this.#identity = facts.identity;
    }
    return this.#found;
  }

  /**
   * Renames the existing journal if it may still be needed: it says something, and not about this cowfile.
   * @param isTakenOver its contents are taken over by a new journal or by the cowfile
   */
  setAsideForeign(isTakenOver: boolean, onNotice: ((notice: Notice) => void) | undefined): void {
    const found = this.find();
    if (!found || isTakenOver || !isOfUse(found)) return;
    const name = freeName(this.#storage, this.path + OLD_SUFFIX);
    this.#storage.rename(this.path, name, { replace: false });
    this.close();
    const message = `does not belong to the cowfile as it is now: kept as ${name}`;
    onNotice?.({ severity: "warning", file: this.path, message });
  }

  /** Has the journal of a cowfile entries that the cowfile may lack? Looked at without a lock: a server may have it open. */
  static saysMore(storage: Storage, cowfile: string): boolean {
    const { path } = new JournalFile(storage, cowfile);
    if (!storage.facts(path, { own: true })) return false;
    const journal = storage.open(path, { lock: "none", own: true });
    try {
      return isOfUse(journal);
    } finally {
      journal.close();
    }
  }

  /**
   * Makes a new journal in place of one that is of no use. Neither it nor its name is durable: for a cowfile that needs none
   * as it is.
   *
   * @throws CowError `permission`, `no-space`, `io`
   */
  make(): BlockDevice {
    if (this.find()) this.#storage.remove(this.path, { own: JOURNAL_BEGINNING, mayReturn: true });
    this.close();
    const made = this.#storage.make(this.path);
    try {
      this.#identity = this.#storage.facts(this.path, { own: true })?.identity;
      return made;
    } catch (error) {
      made.close();
      throw error;
    }
  }

  /** Starts a new journal, which is to be durable. @throws CowError `permission`, `no-space`, `io` */
  create(): PendingFile {
    return this.#storage.create(this.path, { own: JOURNAL_BEGINNING });
  }

  /** Replaces the existing journal by a new one, and opens that. */
  replace(pending: PendingFile): BlockDevice {
    pending.commit({ replace: true });
    this.close();
    this.#identity = this.#storage.facts(this.path, { own: true })?.identity;
    return this.#storage.open(this.path, { writable: true, lock: "exclusive", own: true, isNew: true });
  }

  /** Closes the existing journal. */
  close(): void {
    this.#found?.close();
    this.#found = undefined;
  }

  /**
   * Removes the journal that was found or made, unless its name belongs to another file by now.
   * @param how.mayReturn it says nothing
   */
  remove(how: { readonly mayReturn?: boolean } = {}): void {
    if (this.#identity !== undefined && this.#storage.facts(this.path, { own: true })?.identity === this.#identity)
      this.#storage.remove(this.path, { own: JOURNAL_BEGINNING, ...how });
  }
}

/** Has a journal entries that its cowfile may lack? */
function isOfUse(journal: BlockDevice): boolean {
  const found = readJournal(journal);
  return found !== undefined && !found.isSettled && (found.runs.length > 0 || found.log.records.length > 0);
}

/** An error of the journal, reported as one of serving the cowfile. */
export function withJournalHint(error: unknown, file: string): unknown {
  if (!(error instanceof CowError)) return error;
  return new CowError(error.code, error.message, {
    file,
    details: error.details,
    hints: ["the live journal is kept beside the cowfile while it is being written", ...error.hints],
    cause: error,
  });
}
