/**
 * Owns an open stack while it is served: its files and locks, the parts in memory that threads share, and its end. The
 * lower layers are read-only; the top is a writable cowfile or store, a layer to be discarded, or none.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { FileMapping, type PassedMapping } from "../../device/sys/file-mapping.ts";
import { CowError } from "../../errors.ts";
import { openStack, type Stack } from "../open.ts";
import { StackSpec } from "../spec.ts";
import { assembleImage } from "./assemble.ts";
import { FileGuard } from "./file-guard.ts";
import type { FoundState } from "./found-state.ts";
import type { LiveImage } from "./image.ts";
import { type KeptLayer, keepInMemory, lend } from "./kept-layer.ts";
import { openLeft } from "./left-layer.ts";
import { type OpenTopOptions, openTop } from "./open-top.ts";
import type { PassedImage, PassedLayer } from "./passed-image.ts";
import { type Top, throwAway } from "./top.ts";

/** How the top of a stack is served. */
export type Access =
  /** The stack's last layer is a cowfile that takes the writes. */
  | "writable"
  /** Nothing can be written. */
  | "read-only"
  /** Writes go to a layer that is discarded with the server. */
  | "ephemeral";

export interface ServeStackOptions extends OpenTopOptions {
  readonly access: Access;
}

interface OpenedStack {
  readonly stack: Stack;
  readonly layers: readonly KeptLayer[];
  readonly top: Top | undefined;
}

export class ServedStack {
  readonly name: string;
  readonly access: Access;
  readonly sizeBytes: number;
  readonly depth: number;
  /** The written file; undefined if there is none, or it has no name. */
  readonly writtenPath: string | undefined;
  /** How the writable cowfile was found; undefined if there is none. */
  readonly found: FoundState | undefined;
  readonly #stack: Stack;
  readonly #top: Top | undefined;
  /** Read-only layers, each with its file and the memory that threads share. */
  readonly #layers: readonly KeptLayer[];
  /** Files that threads read from mapped memory. */
  readonly #mappings: FileMapping[] = [];
  /** Changes to its files meanwhile. */
  readonly guard: FileGuard;

  private constructor(
    storage: Storage,
    { name, access, found, stack, layers, top }: Pick<ServedStack, "name" | "access" | "found"> & OpenedStack,
  ) {
    this.name = name;
    this.access = access;
    this.found = found;
    this.#stack = stack;
    this.#top = top;
    this.#layers = layers;
    this.sizeBytes = top?.sizeBytes ?? stack.device.sizeBytes;
    this.depth = layers.length + (top ? 1 : 0);
    const written = top?.written ?? [];
    const [layer] = written;
    this.writtenPath = layer?.device.name;
    this.guard = new FileGuard(storage, [...stack.files, ...(layer ? [layer.device] : [])], written);
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
      const layers = stack.layers.map((layer, i) => keepInMemory(layer, stack.parts[i], stack.files));
      if (found) layers.push(found.left);
      if (!isWritable) {
        const top = access === "ephemeral" ? throwAway(storage, name, stack.device.sizeBytes) : undefined;
        return new ServedStack(storage, { name, access, stack, layers, top, found: found && "recovered" });
      }
      const top = await openTop(storage, written, stack, options);
      return new ServedStack(storage, { name, access, stack, layers, top, found: top.found });
    } catch (error) {
      stack.close();
      throw error;
    }
  }

  /** The parts that are only read. */
  get files(): readonly BlockDevice[] {
    return this.#stack.files;
  }

  /** This thread's own image. */
  image(): LiveImage {
    return assembleImage({
      name: this.name,
      base: this.#stack.base,
      layers: this.#layers.map(({ layer }) => layer),
      top: this.#top?.writable(),
      files: this.#top ? [...this.#stack.files, this.#top.device] : this.#stack.files,
    });
  }

  /** Passed to another thread; undefined if a part has no descriptor. */
  passed(): PassedImage | undefined {
    const layers = this.#layers.map((kept) => this.#passedLayer(kept));
    if (!layers.every((layer) => layer !== undefined)) return undefined;
    const top = this.#top?.shared;
    if (this.#top && (top?.cow.fd === undefined || (top.journal && top.journal.fd === undefined))) return undefined;
    const { base } = this.#stack;
    if (!base.file && !base.remote) return undefined;
    return {
      name: this.name,
      base: {
        ...lend(base),
        fd: base.fd,
        remembered: base.remote?.remembered,
        mapping: this.#map(base.fd, base.sizeBytes),
      },
      layers,
      top: top && {
        cow: {
          ...lend(top.cow),
          mapping: this.#map(top.cow.fd, top.config.dataOffsetBytes + top.config.sizeBytes),
        },
        journal: top.journal && lend(top.journal),
        config: top.config,
      },
    };
  }

  #passedLayer({ passed, mappedBytes }: KeptLayer): PassedLayer | undefined {
    if (!passed || mappedBytes === undefined) return passed;
    return { ...passed, mapping: this.#map(passed.fd, mappedBytes) };
  }

  #map(fd: number | undefined, lengthBytes: number): PassedMapping | undefined {
    const mapping = fd === undefined ? undefined : FileMapping.map(fd, lengthBytes);
    if (mapping) this.#mappings.push(mapping);
    return mapping?.passed;
  }

  /** A mapping keeps its file locked. */
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
    } finally {
      this.#stack.close();
    }
  }

  /**
   * Writes everything that flushes covered into the cowfile itself, for readers without its journal.
   *
   * @throws CowError as flush() does
   */
  checkpoint(): void {
    this.#top?.checkpoint?.();
  }

  /** Closes all files as a crash would leave them: the next start takes answered writes from the journal. */
  abandon(): void {
    this.#unmap();
    this.#top?.abandon();
    this.#stack.close();
  }
}
