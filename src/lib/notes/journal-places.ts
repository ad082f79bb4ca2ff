/**
 * Owns the places of a merge journal, and finding it from a command's files. For a file there is one place, beside it.
 * A block device has no such place, because /dev does not last: its journal is beside the cowfile, found by commands
 * with a file from that directory, and once more in a state directory, under the device's own key.
 */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import type { OperationContext } from "../context.ts";
import { OWN } from "../device/own-file.ts";
import type { Storage } from "../device/storage.ts";
import type { DeviceKey } from "../device/sys/device-key.ts";
import { CowError, shellWord } from "../errors.ts";
import { journalNames, type MergeJournal, readJournal, writeJournal } from "./merge-journal.ts";
import { notePath } from "./note.ts";

export interface FoundJournal {
  readonly path: string;
  readonly journal: MergeJournal;
}

/** A base's relation to a merge journal: its base; perhaps, because nothing lasting identifies it; certainly another. */
type Relation = "this" | "perhaps" | "other";

export class JournalPlaces {
  readonly #storage: Storage;
  readonly #rdofile: string;
  readonly #near: readonly string[];
  readonly #device: DeviceKey | undefined;
  readonly #force: boolean;
  /** Beside the base, or of a device beside the cowfile. */
  readonly path: string;
  /** A new journal's list of its places. */
  readonly note: Pick<MergeJournal, "device" | "places">;
  /** For a device, in the state directories. */
  readonly #copies: readonly string[];
  /** The one that is writable. */
  #copy: string | undefined;

  /**
   * @param near the other files that the command was given, first the cowfile that is to be merged
   * @param options.force ignore journals that cannot be read, or of another device
   */
  constructor(storage: Storage, rdofile: string, near: readonly string[], options: { readonly force: boolean }) {
    this.#storage = storage;
    this.#rdofile = rdofile;
    this.#near = near;
    this.#force = options.force;
    const facts = storage.facts(rdofile);
    const device = facts?.kind === "block" ? (facts.device ?? { key: facts.identity, boot: "" }) : undefined;
    this.#device = device;
    this.path = notePath(storage, OWN.mergeJournal, (device && near[0]) ?? rdofile);
    const name = device && createHash("sha256").update(device.key).digest("hex").slice(0, 32);
    this.#copies = name ? storage.stateDirectories.map((at) => join(at, name + OWN.mergeJournal.suffix)) : [];
    this.note = { device: device ?? null, places: [this.path, ...this.#copies] };
  }

  /**
   * The journal of an interrupted merge into this base.
   *
   * @param options.claim a merge will begin or resume, whose journal needs its place
   * @throws CowError `damaged` if there is one that cannot be read; `pending-merge` if the place to be claimed beside the
   *   cowfile is taken by a merge of it into another device
   */
  find(sizeBytes?: number, { claim = false } = {}): FoundJournal | undefined {
    if (this.#device) {
      for (const path of this.#copies) {
        const found = this.#read(path);
        if (found && this.#relation(found.journal, sizeBytes) !== "other") return found;
      }
      return this.#findNear(sizeBytes, claim);
    }
    const beside = this.#read(this.path);
    const facts = this.#storage.facts(this.#rdofile);
    if (beside || !facts || facts.linkCount === 1) return beside;
    // Under any name that the base has in the directories of what the command was given.
    for (const { path, file } of journalNames(this.#storage, [this.#rdofile, ...this.#near])) {
      const found = this.#storage.facts(file)?.identity === facts.identity ? this.#read(path) : undefined;
      if (found) return found;
    }
    return undefined;
  }

  /**
   * Beside the cowfile, or in the directories of all of the command's files, because cowfiles of one base are often
   * together.
   */
  #findNear(sizeBytes: number | undefined, claim: boolean): FoundJournal | undefined {
    const [cowfile] = this.#near;
    const beside = cowfile === undefined || !claim ? undefined : this.#read(this.path);
    if (beside && this.#relation(beside.journal, sizeBytes) !== "other") return beside;
    if (beside && !this.#force) {
      const { rdofile, cowfile: named } = beside.journal;
      throw new CowError(
        "pending-merge",
        `was being merged into ${rdofile} when that was interrupted (see ${beside.path})`,
        {
          file: cowfile,
          details: { journal: beside.path, cowfile: named },
          hints: [`complete that first, with \`cowtool merge ${shellWord(rdofile)} ${shellWord(named)}\``],
        },
      );
    }
    const real = this.#storage.realPath(this.#rdofile);
    for (const { path } of journalNames(this.#storage, this.#near)) {
      // An unreadable one may be about another base.
      const found = this.#read(path, true);
      const relation = found ? this.#relation(found.journal, sizeBytes) : "other";
      if (relation === "this" || (relation === "perhaps" && found?.journal.rdofile === real)) return found;
    }
    return undefined;
  }

  #relation(journal: MergeJournal, sizeBytes: number | undefined): Relation {
    const [ours, theirs] = [this.#device, journal.device];
    // A file's merge journal, in a directory where a device's are searched.
    if (!ours || !theirs) return "other";
    if (ours.key === theirs.key) return "this";
    // Two lasting keys, or two of one boot, differ only for different devices.
    if (ours.boot === theirs.boot || (sizeBytes !== undefined && sizeBytes !== journal.rdofile_size)) return "other";
    return "perhaps";
  }

  /** Makes the journal durable in all its places. @throws CowError as writeJournal, if none is writable */
  write(journal: MergeJournal, { onNotice }: OperationContext): void {
    writeJournal(this.#storage, this.path, journal);
    let failure: CowError | undefined;
    // Into the first writable directory, and from then on into that one.
    for (const path of this.#copy === undefined ? this.#copies : [this.#copy]) {
      try {
        this.#storage.makeDirectory(dirname(path));
        writeJournal(this.#storage, path, journal);
        this.#copy = path;
        return;
      } catch (error) {
        if (!(error instanceof CowError)) throw error;
        failure ??= error;
      }
    }
    const message = `no copy of the merge journal can be kept there: if the merge is interrupted, only ${this.path} records it`;
    if (failure) onNotice?.({ severity: "warning", file: failure.file, message });
  }

  /**
   * Removes a journal from all places, once the merge is durable. If killed between two places, the same command
   * resumes.
   *
   * @param path where it was found
   */
  remove(journal: MergeJournal, path = this.path): void {
    for (const place of new Set([...this.note.places, ...journal.places, path])) {
      // A journal's list of other places may be outdated, or invented.
      const isJournal = place !== path && place.endsWith(OWN.mergeJournal.suffix);
      const there = isJournal ? this.#read(place, true)?.journal : undefined;
      const isSame = there?.cowfile_digest === journal.cowfile_digest && there.device?.key === journal.device?.key;
      if (isSame || place === path) this.#storage.remove(place, { own: OWN.mergeJournal.beginning });
    }
  }

  /** @param lenient one that cannot be read counts as none */
  #read(path: string, lenient = this.#force): FoundJournal | undefined {
    const journal = readJournal(this.#storage, path, lenient);
    return journal && { path, journal };
  }
}

/**
 * @param force ignore a journal that cannot be read
 * @throws CowError `pending-merge` if a merge into this base was interrupted, as far as it and the files beside it tell;
 *   `damaged`
 */
export function refusePendingMerge(storage: Storage, rdofile: string, near: readonly string[], force = false): void {
  const facts = storage.facts(rdofile);
  if (facts?.kind !== "file" && facts?.kind !== "block") return;
  const found = new JournalPlaces(storage, rdofile, near, { force }).find();
  if (found) throw pendingMerge(storage, rdofile, found);
}

export function pendingMerge(storage: Storage, rdofile: string, { path, journal }: FoundJournal): CowError {
  const undo =
    journal.undo !== null && journal.undo_saved
      ? [`or \`cowtool merge ${shellWord(rdofile)} ${shellWord(journal.undo)}\` to take it back`]
      : [];
  const merge = `cowtool merge ${shellWord(rdofile)}`;
  const ways =
    storage.facts(journal.cowfile) === undefined
      ? [
          `complete it with \`${merge} COWFILE\`, COWFILE being what ${shellWord(journal.cowfile)} is called now`,
          ...undo,
          `if that is gone for good, \`${merge} ${shellWord(journal.cowfile)} --give-up\` takes the journal away and leaves the base as it is`,
        ]
      : [`complete it with \`${merge} ${shellWord(journal.cowfile)}\``, ...undo];
  return new CowError(
    "pending-merge",
    `holds a part of ${journal.cowfile}, whose merge was interrupted (see ${path})`,
    {
      file: rdofile,
      details: { journal: path, cowfile: journal.cowfile },
      hints: ways,
    },
  );
}
