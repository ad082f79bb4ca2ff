/**
 * Owns what is below the written layers of served stacks. It is opened once, whatever the number of exports over it, and
 * shared as long as its files are those that were opened: descriptors, locks, mappings, bitmaps in memory. A stack is
 * shared part by part, so that exports of different depths have in common what they can. The last user closes it.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { FileFacts, Storage } from "../../device/storage.ts";
import { FileMapping, type PassedMapping } from "../../device/sys/file-mapping.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import { fingerprintBelow, type OpenStackOptions, openStack, requireBelongs, type Stack } from "../open.ts";
import type { StackSpec } from "../spec.ts";
import { FileGuard, type FileTrouble } from "./file-guard.ts";
import { type KeptLayer, keepInMemory, lend } from "./kept-layer.ts";
import { OwnerMap, type PassedOwners } from "./owner-map.ts";
import type { PassedLayer, PassedLower } from "./passed-image.ts";

/** With fewer layers in a row that have their bitmaps in memory, looking at each of them costs less than a map. */
const LEAST_MAPPED_LAYERS = 3;

type AcquireOptions = Omit<OpenStackOptions, "below">;

/** The open stacks of one server below its written layers. */
export class LowerStacks {
  readonly #storage: Storage;
  readonly #prepare: (file: BlockDevice) => Promise<void>;
  readonly #byText = new Map<string, Promise<LowerStack>>();
  readonly #open = new Set<LowerStack>();
  #lastNumber = 0;

  /** @param prepare is done once with each file that is opened, before it is used */
  constructor(storage: Storage, prepare: (file: BlockDevice) => Promise<void> = async () => undefined) {
    this.#storage = storage;
    this.#prepare = prepare;
  }

  /**
   * A stack that is open for reading, or is opened now, each file with a shared lock. The user releases it.
   *
   * @throws CowError as openStack does
   */
  async acquire(spec: StackSpec, options: AcquireOptions = {}): Promise<LowerStack> {
    const text = JSON.stringify(spec.parts.map(({ text: written, path, more }) => [written, path, ...more]));
    for (;;) {
      const known = this.#byText.get(text);
      // If another user failed to open it, this one finds out why.
      const lower = await known?.catch(() => undefined);
      if (this.#byText.get(text) !== known) continue;
      if (lower?.isCurrent()) return lower.use();
      const opening = this.#openNew(spec, options, (gone) => {
        this.#open.delete(gone);
        this.#forget(text, opening);
      });
      this.#byText.set(text, opening);
      opening.catch(() => this.#forget(text, opening));
      return opening;
    }
  }

  /** Reports changes to the files since the last check; never throws. */
  *look(): Generator<FileTrouble> {
    for (const lower of this.#open) yield* lower.guard.look();
  }

  #forget(text: string, opening: Promise<LowerStack>): void {
    if (this.#byText.get(text) === opening) this.#byText.delete(text);
  }

  async #openNew(spec: StackSpec, options: AcquireOptions, onClose: (lower: LowerStack) => void): Promise<LowerStack> {
    const below = spec.layers.length > 0 ? await this.acquire(spec.below, options) : undefined;
    let stack: Stack | undefined;
    try {
      const { path, more, listed } = spec.top;
      const own = [path, ...more, ...(listed ? [listed.by] : [])];
      const before = factsOf(this.#storage, own);
      // A fingerprint is taken through all layers: through their bitmaps in memory, that is short work.
      const known = below && { ...below.stack, layers: below.layers.map(({ layer }) => layer) };
      stack = await openStack(this.#storage, spec, { ...options, below: known });
      const isReplaced = before !== factsOf(this.#storage, own);
      const lower = new LowerStack(this.#storage, ++this.#lastNumber, { stack, below, isReplaced, onClose });
      for (const file of lower.files) await this.#prepare(file);
      this.#open.add(lower);
      return lower;
    } catch (error) {
      stack?.close();
      below?.release();
      throw error;
    }
  }
}

interface LowerParts {
  readonly stack: Stack;
  readonly below: LowerStack | undefined;
  /** A file got another content or name while the stack was being opened. */
  readonly isReplaced: boolean;
  readonly onClose: (lower: LowerStack) => void;
}

/** A stack that is read by all exports over it. */
export class LowerStack {
  readonly stack: Stack;
  /** Bottom to top, each with the memory that threads share. */
  readonly layers: readonly KeptLayer[];
  /** Its own files, without those of what is below its topmost part. */
  readonly files: readonly BlockDevice[];
  readonly guard: FileGuard;
  readonly #storage: Storage;
  readonly #number: number;
  readonly #parts: LowerParts;
  /** Of its own files. */
  readonly #paths: readonly string[];
  readonly #facts: string;
  readonly #mappings = new Mappings();
  /** By the number of blocks. */
  readonly #fingerprints = new Map<number | bigint, Promise<number>>();
  /** Do the times of all of its files show a change? */
  readonly hasTimes: boolean;
  #passed: PassedLower | null | undefined;
  #passedBase: PassedLower["base"] | undefined;
  #passedTop: PassedLower["layers"][number] | undefined;
  #owners: OwnerMap | undefined;
  #users = 1;

  constructor(storage: Storage, number: number, parts: LowerParts) {
    const { stack, below } = parts;
    const top = stack.layers.at(-1);
    this.#storage = storage;
    this.#number = number;
    this.#parts = parts;
    this.stack = stack;
    this.layers = below && top ? [...below.layers, keepInMemory(top, stack.parts.at(-1), stack.files)] : [];
    this.files = stack.files.slice(below?.stack.files.length ?? 0);
    this.guard = new FileGuard(storage, this.files, []);
    this.#paths = stack.paths.slice(below?.stack.paths.length);
    this.#facts = factsOf(storage, this.#paths);
    const hasTimes = this.#paths.every((path) => storage.facts(path)?.stamp !== undefined);
    this.hasTimes = hasTimes && below?.hasTimes !== false;
  }

  /**
   * The fingerprint is taken once for all layers over it, unless it may have changed unseen.
   * @throws CowError `wrong-base` unless the layer was made for size and fingerprint of this stack
   */
  requireBelongs(layer: Layer, signal: AbortSignal | undefined): Promise<void> {
    return requireBelongs(layer, this.stack.device, signal, (blocks) => this.fingerprint(blocks, signal));
  }

  /** Of its first blocks. @throws CowError `io`, `interrupted` */
  async fingerprint(blocks: number | bigint, signal?: AbortSignal): Promise<number> {
    const known = this.#fingerprints.get(blocks);
    if (known) return known;
    const taken = fingerprintBelow(this.stack.device, blocks, signal);
    if (this.hasTimes || this.stack.base.remote) this.#fingerprints.set(blocks, taken);
    taken.catch(() => this.#fingerprints.delete(blocks));
    return taken;
  }

  /** Are its files still those that have their names, and unchanged as far as their times tell? */
  isCurrent(): boolean {
    const { isReplaced, below } = this.#parts;
    if (isReplaced || this.#facts !== factsOf(this.#storage, this.#paths) || !this.files.every(isSound)) return false;
    return !below || below.isCurrent();
  }

  /** Counts one more user. */
  use(): this {
    this.#users++;
    return this;
  }

  /** What is below its layers from the `layerCount`-th on, or itself if it has no more, with one more user. */
  at(layerCount: number): LowerStack {
    let lower: LowerStack = this;
    while (lower.layers.length > layerCount && lower.#parts.below) lower = lower.#parts.below;
    const map = this.#owners;
    const count = lower.layers.length - (map?.passed.first ?? 0);
    // A view of a checkpoint needs no map of its own.
    if (count >= LEAST_MAPPED_LAYERS) lower.#owners ??= map?.use(count);
    return lower.use();
  }

  /** One user less; the last one closes everything. No thread uses it for that one any more. */
  release(): void {
    if (--this.#users > 0) return;
    this.#parts.onClose(this);
    this.#leaveOwners();
    this.#mappings.close();
    this.stack.close();
    this.#parts.below?.release();
  }

  /** Passed to another thread; undefined if a part can't be. */
  passed(): PassedLower | undefined {
    const owners = this.owners?.passed;
    if (this.#passed === undefined || this.#passed?.owners !== owners) this.#passed = this.#pass(owners) ?? null;
    return this.#passed ?? undefined;
  }

  #pass(owners: PassedOwners | undefined): PassedLower | undefined {
    const layers: PassedLower["layers"][number][] = [];
    let lower: LowerStack = this;
    for (let { below } = this.#parts; below; { below } = below.#parts) {
      const layer = lower.#passTop();
      if (!layer) return undefined;
      layers.push(layer);
      lower = below;
    }
    const base = lower.#passBase();
    return base && { base, layers: layers.reverse(), owners };
  }

  #passTop(): PassedLower["layers"][number] | undefined {
    const passed = this.#passedTop ?? passLayer(this.layers.at(-1), this.#mappings);
    this.#passedTop = passed && { ...passed, number: this.#number };
    return this.#passedTop;
  }

  #passBase(): PassedLower["base"] | undefined {
    const { base } = this.stack;
    if (!base.file && !base.remote) return undefined;
    this.#passedBase ??= {
      ...lend(base),
      number: this.#number,
      fd: base.fd,
      remembered: base.remote?.remembered,
      mapping: this.#mappings.map(base.fd, base.sizeBytes),
    };
    return this.#passedBase;
  }

  /** Which layer shows where, for this stack's images; undefined for few layers. It is made when first asked for. */
  get owners(): OwnerMap | undefined {
    if (this.#owners?.isOutgrown) this.#leaveOwners();
    this.#owners ??= this.#takeOwners();
    return this.#owners;
  }

  #leaveOwners(): void {
    const map = this.#owners;
    map?.release(this.layers.length - map.passed.first);
    this.#owners = undefined;
  }

  #takeOwners(): OwnerMap | undefined {
    // Of the uppermost layers in a row that have their bitmaps in memory.
    const first = this.layers.findLastIndex(({ mappable }) => mappable === undefined) + 1;
    const upper = this.layers.slice(first).flatMap(({ mappable }) => mappable ?? []);
    if (upper.length < LEAST_MAPPED_LAYERS) return undefined;
    for (let { below } = this.#parts; below && below.layers.length > first; { below } = below.#parts) {
      const count = below.layers.length - first;
      const map = below.#owners;
      if (map?.count === count && map.add(upper.slice(count))) return map.use(upper.length);
    }
    return OwnerMap.of(upper, first);
  }
}

/** Mappings of files for threads, closed together: each keeps its file locked. */
export class Mappings {
  readonly #all: FileMapping[] = [];

  map(fd: number | undefined, lengthBytes: number): PassedMapping | undefined {
    const mapping = fd === undefined ? undefined : FileMapping.map(fd, lengthBytes);
    if (mapping) this.#all.push(mapping);
    return mapping?.passed;
  }

  close(): void {
    for (const mapping of this.#all.splice(0)) mapping.close();
  }
}

/** A layer for another thread, mapped where that is of use; undefined if it can't have it. */
export function passLayer(kept: KeptLayer | undefined, mappings: Mappings): PassedLayer | undefined {
  if (!kept?.passed || kept.mappedBytes === undefined) return kept?.passed;
  return { ...kept.passed, mapping: mappings.map(kept.passed.fd, kept.mappedBytes) };
}

/** What tells files from others of their names, and from themselves with another content. */
function factsOf(storage: Storage, paths: readonly string[]): string {
  const told = ({ identity, sizeBytes, stamp }: Partial<FileFacts> = {}): unknown => [identity, sizeBytes, stamp];
  return JSON.stringify(paths.map((path) => told(storage.facts(path))));
}

function isSound({ file, remote }: BlockDevice): boolean {
  try {
    return !remote?.isReplaced && (!file || (file.isWhole() && file.measure() === file.length.bytes));
  } catch (error) {
    if (error instanceof CowError) return false;
    throw error;
  }
}
