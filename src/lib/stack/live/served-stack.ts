/**
 * Owns an open stack while it is served: its files and locks, what of it is kept in memory for all threads, and its end.
 * The lower layers are read-only; the top is a writable cowfile or store, a throw-away layer, or nothing more.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { asLent } from "../../device/borrowed-file.ts";
import { RemoteDevice } from "../../device/remote/remote-device.ts";
import type { Storage } from "../../device/storage.ts";
import { FileMapping, type PassedMapping } from "../../device/sys/file-mapping.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { journalPath } from "../../formats/cowfile/live/journal.ts";
import type { Layer } from "../../formats/format.ts";
import { ImageDevice } from "../image-device.ts";
import { openStack, requireBelongs, type Stack } from "../open.ts";
import { formatOfPart } from "../open-part.ts";
import { type StackPart, StackSpec } from "../spec.ts";
import { assembleImage } from "./assemble.ts";
import { FileGuard, type WrittenFile } from "./file-guard.ts";
import type { FoundState } from "./found-state.ts";
import type { LiveImage } from "./image.ts";
import { type KeptLayer, keepInMemory, lend } from "./kept-layer.ts";
import { openLeft } from "./left-layer.ts";
import { type OpenCowfileOptions, WritableCowfile } from "./open-cowfile.ts";
import type { PassedImage, PassedLayer } from "./passed-image.ts";
import { repairFirst } from "./repair-first.ts";
import { ResidentLayer } from "./resident-layer.ts";
import { ServedStore } from "./served-store.ts";
import { type Top, throwAway } from "./top.ts";

/** How the top of a stack is served. */
export type Access =
  /** The stack's last layer is a cowfile that takes the writes. */
  | "writable"
  /** Nothing can be written. */
  | "read-only"
  /** Writes go to a layer that is gone when the server is. */
  | "ephemeral";

export interface ServeStackOptions extends OpenCowfileOptions {
  readonly access: Access;
  /** Repair a cowfile that somebody else left dirty, before it is served. */
  readonly repair?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onNotice?: OperationContext["onNotice"];
}

export class ServedStack {
  readonly name: string;
  readonly access: Access;
  readonly sizeBytes: number;
  readonly depth: number;
  /** The file that takes the writes; undefined where none with a name does. */
  readonly writtenPath: string | undefined;
  /** How the writable cowfile was found; undefined if there is none. */
  readonly found: FoundState | undefined;
  readonly #stack: Stack;
  readonly #top: Top | undefined;
  /** A writable store instead of a cowfile. */
  readonly #store: ServedStore | undefined;
  /** Read-only layers, each with its file and the memory that threads share. */
  readonly #layers: readonly KeptLayer[];
  /** Files that threads read where they lie in memory. */
  readonly #mappings: FileMapping[] = [];
  /** What has become of its files meanwhile. */
  readonly guard: FileGuard;

  private constructor(parts: {
    readonly storage: Storage;
    readonly name: string;
    readonly access: Access;
    readonly stack: Stack;
    readonly layers: readonly KeptLayer[];
    readonly top?: Top | undefined;
    readonly store?: ServedStore | undefined;
    readonly found?: FoundState | undefined;
  }) {
    const { stack, top, store, layers } = parts;
    this.name = parts.name;
    this.access = parts.access;
    this.#stack = stack;
    this.#top = top;
    this.#store = store;
    this.#layers = layers;
    this.found = parts.found;
    this.sizeBytes = top?.config.sizeBytes ?? stack.device.sizeBytes;
    this.depth = layers.length + (top || store ? 1 : 0);
    const written = [...writtenBy(top), ...(store ? [store.written] : [])];
    const layer = written.find(({ role }) => role === "layer");
    this.writtenPath = layer?.device.name;
    this.guard = new FileGuard(parts.storage, [...stack.files, ...(layer ? [layer.device] : [])], written);
  }

  /**
   * Opens a stack to be served. With access `writable` its top is locked exclusively, all other parts shared.
   *
   * @param text `BASE[,LAYER]…`, or that parsed
   * @throws CowError as openStack and WritableCowfile.open do; `usage` for a writable stack without a layer; `unsupported`
   *   for a layer of a format that is not written
   */
  static async open(storage: Storage, text: string | StackSpec, options: ServeStackOptions): Promise<ServedStack> {
    const spec = StackSpec.parse(storage, text);
    const { text: name, top: written } = spec;
    const { access } = options;
    const isWritable = access === "writable";
    if (isWritable && spec.layers.length === 0)
      throw new CowError("usage", "a base alone is never written", { file: name });
    const found = isWritable ? undefined : await openLeft(storage, spec, options);
    const stack = found?.stack ?? (await openStack(storage, isWritable ? spec.below : spec, options));
    try {
      const layers = stack.layers.map((layer, i) => keepInMemory(layer, stack.parts[i]));
      if (found) layers.push(found.left);
      if (!isWritable) {
        const top = access === "ephemeral" ? throwAway(storage, name, stack.device.sizeBytes) : undefined;
        return new ServedStack({ storage, name, access, stack, layers, top, found: found && "recovered" });
      }
      const opened = await openTop(storage, written, stack, options);
      if (opened instanceof ServedStore)
        return new ServedStack({ storage, name, access, stack, layers, store: opened });
      const top: Top = {
        path: opened.config.path,
        cow: asLent(opened.device),
        journal: opened.journal,
        config: opened.config,
        checkpoint: () => opened.checkpoint(),
        close: () => opened.close(),
        abandon: () => opened.abandon(),
      };
      return new ServedStack({ storage, name, access, stack, layers, top, found: opened.found });
    } catch (error) {
      stack.close();
      throw error;
    }
  }

  /** All that is only read. */
  get files(): readonly BlockDevice[] {
    return this.#stack.files;
  }

  /** This thread's own image. */
  image(): LiveImage {
    if (this.#store) return this.#store.image;
    return assembleImage({
      name: this.name,
      base: this.#stack.base,
      layers: this.#layers.map(({ layer }) => layer),
      top: this.#top,
      files: this.#top ? [...this.#stack.files, this.#top.cow] : this.#stack.files,
    });
  }

  /** What another thread needs, or undefined where a part of it has no descriptor. */
  passed(): PassedImage | undefined {
    if (this.#store) return undefined;
    const layers = this.#layers.map(({ passed, layer }) => this.#withMapping(passed, layer));
    if (!layers.every((layer) => layer !== undefined)) return undefined;
    const top = this.#top;
    if (top && (top.cow.fd === undefined || (top.journal && top.journal.fd === undefined))) return undefined;
    const { base } = this.#stack;
    if (base instanceof ImageDevice || (base.fd === undefined && !base.name.includes("://"))) return undefined;
    return {
      name: this.name,
      base: {
        fd: base.fd,
        ...lend(base),
        remembered: base instanceof RemoteDevice ? base.remembered : undefined,
        mapping: this.#map(base.fd, base.sizeBytes),
      },
      layers,
      top: top && {
        cow: {
          fd: top.cow.fd ?? -1,
          ...lend(top.cow),
          mapping: this.#map(top.cow.fd, top.config.dataOffsetBytes + top.config.sizeBytes),
        },
        journal: top.journal && { fd: top.journal.fd ?? -1, ...lend(top.journal) },
        config: top.config,
      },
    };
  }

  #withMapping(passed: PassedLayer | undefined, layer: Layer): PassedLayer | undefined {
    if (passed?.kind !== "resident" || !(layer instanceof ResidentLayer)) return passed;
    return { ...passed, mapping: this.#map(passed.fd, layer.source.sizeBytes) };
  }

  #map(fd: number | undefined, lengthBytes: number): PassedMapping | undefined {
    const mapping = fd === undefined ? undefined : FileMapping.map(fd, lengthBytes);
    if (mapping) this.#mappings.push(mapping);
    return mapping?.passed;
  }

  /** What is mapped keeps its file locked. */
  #unmap(): void {
    for (const mapping of this.#mappings.splice(0)) mapping.close();
  }

  /**
   * Makes everything durable, marks the cowfile clean and closes all files. No thread uses the stack any more.
   *
   * @throws CowError where something could not be made durable; the cowfile stays dirty then
   */
  close(): void {
    this.#unmap();
    try {
      this.#top?.close();
      this.#store?.close();
    } finally {
      this.#stack.close();
    }
  }

  /**
   * Brings everything that flushes covered into the cowfile itself, for whoever should read it without its journal.
   *
   * @throws CowError as flush() does
   */
  checkpoint(): void {
    this.#top?.checkpoint?.();
  }

  /** Closes all files as a crash would leave them: the next start takes up what was answered from the journal. */
  abandon(): void {
    this.#unmap();
    this.#top?.abandon();
    this.#store?.abandon();
    this.#stack.close();
  }
}

function* writtenBy(top: Top | undefined): Generator<WrittenFile> {
  if (top?.path === undefined) return;
  yield { device: top.cow, path: top.path, role: "layer" };
  if (top.journal) yield { device: top.journal, path: journalPath(top.path), role: "journal" };
}

async function openTop(
  storage: Storage,
  part: StackPart,
  stack: Stack,
  options: ServeStackOptions,
): Promise<WritableCowfile | ServedStore> {
  const { path } = part;
  const device = storage.open(path, { writable: true, lock: "exclusive" });
  try {
    const { id, title } = formatOfPart({ part, file: device });
    if (id === "dm-snapshot") return new ServedStore(storage, device, stack, options.onNotice);
    if (id !== "cowfile")
      throw new CowError("unsupported", `is a ${title}, which is not written while it is served`, {
        file: path,
        hints: ["--read-only serves it as it is, --ephemeral lets clients write what is gone afterwards"],
      });
    await requireBelongs(new CowfileLayer(device, { allowDirty: true }), stack.device, options.signal);
    try {
      return WritableCowfile.open(storage, path, device, options);
    } catch (error) {
      if (error instanceof CowError && error.code === "no-space") throw withWayOut(error);
      const mendable = error instanceof CowError && ["dirty", "damaged"].includes(error.code);
      if (!mendable || !options.repair) throw error;
    }
    await repairFirst(storage, path, device, options);
    return WritableCowfile.open(storage, path, device, options);
  } catch (error) {
    device.close();
    throw error;
  }
}

/** What could not be written, its journal for instance, is not needed for reading. */
function withWayOut({ code, message, file, details, hints, cause }: CowError): CowError {
  const more = "--read-only serves it without writing anything, also as a killed server left it";
  return new CowError(code, message, { file, details, hints: [...hints, more], cause });
}
