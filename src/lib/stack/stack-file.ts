/**
 * Owns stack files on disk: reading one, the parts that it names, and replacing it as a whole, durably, by the one process
 * that holds it. Names in it are relative to its own directory, behind links. stack-document.ts has the format.
 */
import * as path from "node:path";
import type { Notice } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { formatById } from "../formats/registry.ts";
import { isNbdUri } from "../protocol/uri.ts";
import { removed } from "./chain.ts";
import { RAW, type StackPart, textOf } from "./part.ts";
import { namedBy, removeGone, removeLeftTop, withoutPending, withoutWrittenDown } from "./pending.ts";
import {
  decodeStackDocument,
  encodeStackDocument,
  type LayerPart,
  MAX_STACK_FILE_BYTES,
  type Pending,
  type StackDocument,
} from "./stack-document.ts";

/** A file that names the parts of a stack. */
export interface StackFile {
  /** As the user named it. */
  readonly name: string;
  /** The file itself, behind links. */
  readonly path: string;
  /** Without a pending checkpoint: with it if it was made, or as before it. */
  readonly document: StackDocument;
}

/** @throws CowError `not-found`, `usage` for what is no regular file, `permission`, `io`; as decodeStackDocument */
export function readStackFile(storage: Storage, name: string): StackFile {
  const facts = storage.facts(name);
  if (!facts) throw new CowError("not-found", "no such file or directory", { file: name });
  if (facts.kind !== "file")
    throw new CowError(
      "usage",
      `is ${facts.kind === "directory" ? "a directory" : "no regular file"}, not a stack file`,
      {
        file: name,
      },
    );
  // The name as given makes shorter messages.
  const real = storage.facts(name, { own: true })?.kind === "file" ? name : storage.realPath(name);
  return { name, path: real, document: asItCounts(storage, real, readDocument(storage, real, name)) };
}

function asItCounts(storage: Storage, real: string, document: StackDocument): StackDocument {
  return withoutPending(storage, real, document, readerOf(storage));
}

function readerOf(storage: Storage): (other: string) => StackDocument {
  return (other) => readDocument(storage, storage.realPath(other), other);
}

function readDocument(storage: Storage, real: string, name: string): StackDocument {
  const bytes = storage.readSmall(real, MAX_STACK_FILE_BYTES);
  if (!bytes) throw new CowError("not-found", "no such file or directory", { file: name });
  return decodeStackDocument(bytes, name);
}

/** The parts that it names, base first. @throws CowError `damaged` if it names a file twice */
export function partsOf({ name, path: real, document }: StackFile): readonly [StackPart, ...StackPart[]] {
  const { base, layers } = document;
  const resolve = (file: string): string => namedBy(real, file);
  const part = (stored: LayerPart): StackPart => {
    const { checkpoint, shared = false, settings = {}, more_files = [] } = stored;
    const parsed = {
      format: stored.format === RAW ? RAW : formatById(stored.format ?? ""),
      settings: new Map(Object.entries(settings).map(([key, value]) => [key, value === true ? "" : value])),
      path: resolve(stored.file),
      more: more_files.map(resolve),
      listed: { by: name, isShared: shared, ...(checkpoint && { checkpoint }) },
    } as const;
    return { ...parsed, text: textOf(parsed) };
  };
  const bottom =
    "uri" in base
      ? { ...part({ file: "" }), text: base.uri as string, path: base.uri as string }
      : part({ ...base } as LayerPart);
  const above = layers.map(part);
  const seen = new Set([bottom.path]);
  for (const [i, layer] of above.entries()) {
    if (seen.has(layer.path))
      throw new CowError("damaged", `$.layers[${i}].file in it is ${layer.path}, which it names already`, {
        file: name,
        details: { json_path: `$.layers[${i}].file` },
      });
    seen.add(layer.path);
  }
  return [bottom, ...above];
}

/** What a stack file at `name` says about parts, base first. Absolute names of files elsewhere stay. */
export function documentOf(storage: Storage, name: string, parts: readonly [StackPart, ...StackPart[]]): StackDocument {
  const directory = path.dirname(storage.realPath(name));
  const store = (file: string): string => {
    // A link stays a link: only the directory that it is in is looked for.
    const relative = path.relative(directory, path.join(storage.realPath(path.dirname(file)), path.basename(file)));
    return path.isAbsolute(file) && /^\.\.(?:\/|$)/.test(relative) ? file : relative;
  };
  const stored = ({ format, settings, path: file, more }: StackPart): LayerPart => ({
    file: store(file),
    ...(format !== undefined && { format: format === RAW ? RAW : format.id }),
    ...(settings.size > 0 && {
      settings: Object.fromEntries([...settings].map(([key, value]) => [key, value === "" ? (true as const) : value])),
    }),
    ...(more.length > 0 && { more_files: more.map(store) }),
  });
  const [base, ...layers] = parts;
  return {
    cowtool_stack: 1,
    base: isNbdUri(base.path) ? { uri: base.path } : stored(base),
    layers: layers.map(stored),
  };
}

/** A new document that is durable under a temporary name. */
export interface PreparedStackFile {
  /** Gives it the name of the stack file: a rename and nothing else. Readers see it from now on. */
  commit(): void;
  /** Makes that durable. */
  sync(): void;
  /** Instead of commit(): the old document stays. */
  abandon(): void;
}

/** A stack file that this process holds: no other one changes it, or serves its disk for writing. */
export class HeldStackFile {
  /** As the user named it. */
  readonly name: string;
  readonly #storage: Storage;
  readonly #path: string;
  /** The lock of the first file of that name covers the name, where locks are files; else that of the present one counts. */
  readonly #first: BlockDevice;
  #present: BlockDevice | undefined;
  #document: StackDocument;

  private constructor(storage: Storage, { name, path: real, document }: StackFile, device: BlockDevice) {
    this.#storage = storage;
    this.name = name;
    this.#path = real;
    this.#document = document;
    this.#first = device;
  }

  /**
   * Locks a stack file that was read, exclusively. A checkpoint that is pending in it is written down as made or as not made,
   * and cowfiles that are to be removed are.
   *
   * @throws CowError `locked` if another process holds it, or changed it since it was read; `exists` for one of another
   *   user, or with several names; `permission`, `not-found`, `io`
   */
  static hold(
    storage: Storage,
    file: StackFile,
    { onNotice }: { readonly onNotice?: ((notice: Notice) => void) | undefined } = {},
  ): HeldStackFile {
    const device = storage.open(file.path, { own: true, writable: true, lock: "exclusive" });
    try {
      const identity = device.file?.identity;
      const isPresent = identity === undefined || storage.facts(file.path)?.identity === identity;
      const found = readDocument(storage, file.path, file.name);
      const now = asItCounts(storage, file.path, found);
      if (!isPresent || JSON.stringify(now) !== JSON.stringify(file.document))
        throw new CowError("locked", "was changed by another process just now", {
          file: file.name,
          hints: ["run the same command again"],
        });
      const held = new HeldStackFile(storage, file, device);
      held.#syncName(device);
      held.#settle(found.pending, onNotice);
      return held;
    } catch (error) {
      device.close();
      throw error;
    }
  }

  get document(): StackDocument {
    return this.#document;
  }

  /** The file itself, behind links. */
  get path(): string {
    return this.#path;
  }

  /**
   * Replaces it as a whole: a reader finds the old or the new one, also after a power cut. The new one is locked before it
   * has its name.
   * @throws CowError `no-space`, `io`, …; the old one is there then
   */
  replace(document: StackDocument): void {
    const prepared = this.prepare(document);
    try {
      prepared.commit();
    } catch (error) {
      prepared.abandon();
      throw error;
    }
    prepared.sync();
  }

  /** Does all of replace() beforehand that takes long. @throws CowError `no-space`, `io`, … */
  prepare(document: StackDocument): PreparedStackFile {
    const pending = this.#storage.create(this.#path, { own: "", held: true });
    try {
      pending.device.write(encodeStackDocument(document, this.name), 0);
      pending.prepare({ replace: true });
    } catch (error) {
      pending.abandon();
      throw error;
    }
    let replaced: BlockDevice | undefined;
    return {
      commit: () => {
        pending.rename({ replace: true });
        replaced = this.#present;
        this.#present = pending.device;
        this.#document = document;
      },
      sync: () => {
        replaced?.close();
        pending.sync();
      },
      abandon: () => pending.abandon(),
    };
  }

  /**
   * A killed process may have left a rename that a power cut would take back. The first change of the top makes the names in
   * its own directory durable, so that no flushed write is in a file that only such a rename made the top: this is for another.
   */
  #syncName(device: BlockDevice): void {
    const top = this.#document.layers.at(-1);
    if (top && path.dirname(namedBy(this.#path, top.file)) !== path.dirname(this.#path)) device.syncName?.();
  }

  /** The file first: killed in between, the next one finds the document, and nothing to remove. */
  #settle(pending: Pending | undefined, onNotice: ((notice: Notice) => void) | undefined): void {
    if (pending) {
      removeLeftTop(this.#storage, this, pending, onNotice);
      this.replace(this.#document);
    }
    this.settleDecided();
    this.removeGone(onNotice);
  }

  /** Forgets what it decided for stack files that have written it down. @throws CowError as replace() */
  settleDecided(): void {
    const document = withoutWrittenDown(this.#path, this.#document, readerOf(this.#storage));
    if (JSON.stringify(document.decided) !== JSON.stringify(this.#document.decided)) this.replace(document);
  }

  /**
   * Removes the cowfiles that it says are to be removed. One that another process has open stays until the next time.
   *
   * @param most how many of them at once
   * @returns their names, as they were stored
   * @throws CowError as replace()
   */
  removeGone(onNotice?: (notice: Notice) => void, most?: number): readonly string[] {
    const gone = removeGone(this.#storage, this, onNotice, most);
    if (gone.length > 0) this.replace(removed(this.#document, gone));
    return gone;
  }

  /** As removeGone(), when something is closed that had them open. What fails is left to the next holder. */
  tryRemoveGone(onNotice?: (notice: Notice) => void): void {
    try {
      this.removeGone(onNotice);
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
    }
  }

  close(): void {
    this.#present?.close();
    this.#first.close();
  }
}
