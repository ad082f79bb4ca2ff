/**
 * Owns the files of an interrupted conversion beside its output: `OUTPUT.cowtool-partial`, the unfinished file, and
 * `OUTPUT.cowtool-partial-note`, which says how much is known to be durable, and of which inputs it was made. The note
 * comes first and goes last: an unfinished file without one is not cowtool's, and is left unchanged.
 */
import { createHash } from "node:crypto";
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { OWN } from "../device/own-file.ts";
import type { CreateOptions, RenameOptions, Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { notePath, writeNote } from "../notes/note.ts";
import type { Opener } from "./claim.ts";
import type { Position } from "./write-image.ts";

const LIMIT_BYTES = 64 * 1024;
const NOWHERE: Position = { offset: 0, held: 0, copied: 0, sink: {} };
/** Of a conversion that only began: no inputs have this digest. */
const NO_INPUTS = "";

interface Note extends Position {
  readonly cowtool_convert: 1;
  readonly inputs: string;
  /** Everything is written: only names are missing. */
  readonly whole?: boolean;
}

export interface Inputs {
  /** Inputs and request, as in `digestOf`; undefined if unknown. */
  readonly digest: string | undefined;
  readonly paths: readonly string[];
  readonly onNotice: OperationContext["onNotice"];
}

export class PartialOutput {
  readonly device: BlockDevice;
  /** Where an interrupted conversion of the same inputs ended; undefined for a new one. */
  readonly from: Position | undefined;
  /** Is there a note of how far it got? */
  noted: boolean;
  readonly #files: Opener;
  readonly #storage: Storage;
  readonly #output: string;
  readonly #path: string;
  readonly #notePath: string;
  readonly #inputs: string | undefined;
  readonly #madeOf: Pick<CreateOptions, "inputs" | "onNotice">;
  /** Did an earlier conversion to this output leave its note? */
  readonly #wasBegun: boolean;
  readonly #others: { readonly device: BlockDevice; readonly path: string; readonly output: string }[] = [];

  /** @throws CowError `locked` if another conversion is writing it; `usage` if something else has its name; `io`, … */
  constructor(files: Opener, output: string, inputs: Inputs) {
    this.#storage = files.storage;
    this.#output = output;
    this.#path = notePath(files.storage, OWN.partial, output);
    this.#notePath = notePath(files.storage, OWN.partialNote, output);
    this.#inputs = inputs.digest;
    this.#madeOf = { inputs: inputs.paths, onNotice: inputs.onNotice };
    this.#files = files;
    const note = this.#storage.readSmall(this.#notePath, LIMIT_BYTES);
    this.#wasBegun = note !== undefined && Buffer.from(note).toString("latin1").startsWith(OWN.partialNote.beginning);
    this.from = this.#storage.facts(this.#path, { own: true }) && this.#readNote();
    this.noted = this.from !== undefined;
    this.device = this.#open(this.#path);
    if (!this.from) this.#writeNote(NO_INPUTS, NOWHERE);
  }

  /** A second file, which goes with the first. @param output its name in the end */
  beside(output: string): BlockDevice {
    const path = notePath(this.#storage, OWN.partial, output);
    const device = this.#open(path);
    this.#others.push({ device, path, output });
    return device;
  }

  /** Opens an unfinished file, or makes it; it is emptied unless it is resumed. */
  #open(path: string): BlockDevice {
    const old = this.#storage.facts(path, { own: true });
    const isOurs = this.#wasBegun || old?.sizeBytes === 0;
    if (old?.kind === "file" && !isOurs)
      throw new CowError(
        "exists",
        "is in the way of an unfinished output, and cowtool did not make it; left unchanged",
        {
          file: path,
          hints: ["look at what it is, move or remove it, and run the same command again"],
        },
      );
    // If killed between its two names, a finished output has both: the other one is the user's.
    if (isOurs && (old?.linkCount ?? 1) > 1) this.#storage.remove(path);
    else if (old) return this.#use(path);
    const pending = this.#storage.create(path, { own: "", ...this.#madeOf });
    try {
      pending.commit({ replace: false });
    } finally {
      pending.abandon();
    }
    return this.#use(path);
  }

  #use(path: string): BlockDevice {
    const device = this.#files.open(path, { writable: true, lock: "exclusive", own: true });
    if (!this.from) device.resize(0);
    return device;
  }

  get path(): string {
    return this.#path;
  }

  /** Makes written data durable, then records that. */
  note(position: Position, whole = false): void {
    if (this.#inputs === undefined) return;
    this.device.flush();
    this.#writeNote(this.#inputs, position, whole);
    this.noted = true;
  }

  #writeNote(inputs: string, position: Position, whole = false): void {
    const note: Note = { cowtool_convert: 1, inputs, ...position, ...(whole ? { whole } : {}) };
    writeNote(this.#storage, OWN.partialNote, this.#notePath, note);
  }

  /**
   * Gives all files their names, after the note says that they are whole: a later run recognises them as its own by
   * that.
   * @param last makes what comes after them
   */
  commit(replace: boolean, end: Position, last: () => void): void {
    for (const { device } of [this, ...this.#others]) device.flush();
    this.note({ ...end, sink: {} }, true);
    const outputs = [this.#output, ...this.#others.map(({ output }) => output)];
    giveNames(this.#storage, outputs, { replace, ...this.#madeOf }, last);
  }

  /** Removes it, unless it can be resumed. */
  abandon(keep: boolean): void {
    if (keep && this.noted) return;
    this.#storage.remove(this.#path);
    for (const { path } of this.#others) this.#storage.remove(path);
    this.#storage.remove(this.#notePath);
  }

  #readNote(): Position | undefined {
    const note = readNote(this.#storage, this.#notePath, this.#inputs);
    return note?.whole ? undefined : note;
  }
}

/** Gives the names that whole files do not have yet; the first of them has the note. @param last as for commit */
export function giveNames(storage: Storage, outputs: readonly string[], how: RenameOptions, last: () => void): void {
  for (const output of outputs) {
    const path = notePath(storage, OWN.partial, output);
    if (lacksName(storage, output)) storage.rename(path, output, how);
    // A file that gets its name by a second link had both when that was interrupted.
    else storage.remove(path);
  }
  last();
  storage.remove(notePath(storage, OWN.partialNote, outputs[0] ?? ""));
}

/** Is there an unfinished file of that output which is not under its name yet? */
export function lacksName(storage: Storage, output: string): boolean {
  const unfinished = storage.facts(notePath(storage, OWN.partial, output), { own: true });
  return unfinished !== undefined && unfinished.identity !== storage.facts(output)?.identity;
}

/** The end of a conversion that only lacks its end: each of its files is there, under one name or the other. */
export function wholeBefore(
  storage: Storage,
  outputs: readonly string[],
  inputs: string | undefined,
): Position | undefined {
  const note = readNote(storage, notePath(storage, OWN.partialNote, outputs[0] ?? ""), inputs);
  const isThere = (output: string): boolean =>
    [output, notePath(storage, OWN.partial, output)].some((path) => storage.facts(path)?.kind === "file");
  return note?.whole && outputs.every(isThere) ? note : undefined;
}

function readNote(storage: Storage, path: string, inputs: string | undefined): Note | undefined {
  try {
    const bytes = storage.readSmall(path, LIMIT_BYTES);
    if (!bytes) return undefined;
    const note = JSON.parse(Buffer.from(bytes).toString("utf8")) as Note;
    const numbers = [note.offset, note.held, note.copied, ...Object.values(note.sink)];
    const isSound = note.cowtool_convert === 1 && numbers.every((each) => Number.isSafeInteger(each) && each >= 0);
    return isSound && inputs !== undefined && note.inputs === inputs ? note : undefined;
  } catch {
    return undefined;
  }
}

/** Was this very conversion begun, and not finished? Then files of its names are its own. */
export function isUnderWay(storage: Storage, output: string, inputs: string | undefined): boolean {
  return readNote(storage, notePath(storage, OWN.partialNote, output), inputs) !== undefined;
}

/**
 * A digest of inputs and request: names of files, sizes, times, inodes, and options. Undefined if an input has no time
 * of its own, such as a device or an export.
 */
export function digestOf(storage: Storage, paths: readonly string[], request: object): string | undefined {
  const hash = createHash("sha256").update(JSON.stringify(request));
  for (const path of paths) {
    const facts = storage.facts(path);
    if (facts?.kind !== "file") return undefined;
    const { identity, sizeBytes, stamp } = facts;
    hash.update(JSON.stringify([path, identity, sizeBytes, stamp?.modifiedNs, stamp?.inode, stamp?.bornNs]));
  }
  return hash.digest("hex");
}
