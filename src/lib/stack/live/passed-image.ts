/**
 * Owns passing an open stack to another thread: as descriptors (which all threads of a process share), shared memory
 * and a few numbers. The opener keeps the files open, locked, and closes them.
 */
import type { Shared } from "../../bytes/shared.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { BorrowedFile, type Lent } from "../../device/borrowed-file.ts";
import type { Remembered } from "../../device/remote/sameness.ts";
import { assert } from "../../errors.ts";
import type { BaseIdentity, Layer } from "../../formats/format.ts";
import { Overlay } from "../overlay.ts";
import { assembleImage, type ImageParts, replaceParts } from "./assemble.ts";
import { BlockMap } from "./block-map.ts";
import type { CheckpointLevel } from "./checkpoint-level.ts";
import { type CowfileConfig, makeOrder, type SharedCowfile } from "./cowfile-config.ts";
import { FrozenTop } from "./frozen-top.ts";
import type { LiveImage } from "./image.ts";
import { LayerFinder } from "./layer-finder.ts";
import type { PassedOwners } from "./owner-map.ts";
import { ResidentLayer } from "./resident-layer.ts";

export interface PassedFile extends Lent {
  readonly fd: number;
  readonly name: string;
}

/** A layer: with its bitmap in memory, or to be opened again from its file. */
export type PassedLayer = PassedFile &
  (
    | {
        readonly kind: "reopen";
        readonly formatId: string;
        readonly settings: readonly (readonly [name: string, value: string])[];
      }
    | {
        readonly kind: "resident";
        readonly dataOffsetBytes: number;
        readonly blockCount: number;
        readonly bitmap: Shared<Uint8Array>;
        readonly base: BaseIdentity;
      }
  );

/** A part of what is below the written layers of images. */
interface Numbered {
  /** The same for all images over it; no other part ever has it. */
  readonly number: number;
}

/** What is below the written layers of images. */
export interface PassedLower {
  /** A base without a descriptor is opened again by its name: a URI. */
  readonly base: Omit<PassedFile, "fd"> &
    Numbered & {
      readonly fd: number | undefined;
      readonly remembered?: Remembered | undefined;
    };
  readonly layers: readonly (PassedLayer & Numbered)[];
  /** Which of them shows where; undefined for few layers. */
  readonly owners?: PassedOwners | undefined;
}

/** A cowfile that is open for writing. */
export interface PassedTop {
  readonly cow: PassedFile;
  readonly journal: PassedFile | undefined;
  readonly config: CowfileConfig;
}

export interface PassedImage {
  readonly name: string;
  /** How often the parts of this stack were replaced before. */
  readonly epoch: number;
  readonly lower: PassedLower;
  readonly checkpoints: readonly CheckpointLevel[];
  /** A layer that is only read, and by this image alone. */
  readonly left: PassedLayer | undefined;
  /** The layer over `lower` that was the top and is not settled. */
  readonly frozen: (PassedTop & { readonly memory: SharedArrayBuffer }) | undefined;
  readonly top: PassedTop | undefined;
}

/** A part in a thread. A base has no layer. */
interface ReceivedPart {
  readonly file: BlockDevice;
  readonly layer?: Layer;
  /** The layer as one with its bitmap in memory, if it is. */
  readonly resident?: ResidentLayer;
}

interface HeldPart {
  readonly received: Promise<ReceivedPart>;
  /** Once it is there. */
  now: ReceivedPart | undefined;
  users: number;
}

/** An image in a thread. */
export interface ReceivedImage {
  readonly image: LiveImage;
  /** Takes other parts of the same stack, between two requests. Does not wait: it can only open files of this machine. */
  become(passed: PassedImage): void;
  /** Nothing uses it any more. */
  release(): void;
}

/** The images of one thread. What is below their written layers it has once, as long as an image is over it. */
export class ImageReceiver {
  readonly #parts = new Map<number, HeldPart>();

  /** @internal */
  get partCount(): number {
    return this.#parts.size;
  }

  async receive(passed: PassedImage): Promise<ReceivedImage> {
    let { lower } = passed;
    const held = this.#hold(lower);
    try {
      await Promise.all(held.map(({ received }) => received));
      const image = assembleImage(await partsOf(passed, held));
      return {
        image,
        become: (next) => {
          const holding = this.#hold(next.lower);
          replaceParts(image, partsNow(next, holding));
          this.#release(lower);
          ({ lower } = next);
        },
        release: () => this.#release(lower),
      };
    } catch (error) {
      this.#release(lower);
      throw error;
    }
  }

  /** Base first. */
  #hold({ base, layers }: PassedLower): readonly HeldPart[] {
    const held: HeldPart[] = [];
    for (const passed of [base, ...layers]) {
      const known = this.#parts.get(passed.number) ?? holdPart(passed, [...held]);
      this.#parts.set(passed.number, known);
      known.users++;
      held.push(known);
    }
    return held;
  }

  #release({ base, layers }: PassedLower): void {
    for (const { number } of [...layers, base]) {
      const known = this.#parts.get(number);
      if (!known || --known.users > 0) continue;
      this.#parts.delete(number);
      // Borrowed files are not closed, but a connection of this thread is.
      known.received.then(
        ({ file }) => file.close(),
        () => undefined,
      );
    }
  }
}

/** @param below what is below it, base first */
function holdPart(passed: PassedLower["base"] | PassedLayer, below: readonly HeldPart[]): HeldPart {
  const now = openNow(passed);
  const received = now ? Promise.resolve(now) : openLater(passed, below);
  const held: HeldPart = { received, now, users: 0 };
  received.then(
    (part) => {
      held.now = part;
    },
    () => undefined,
  );
  return held;
}

function openNow(passed: PassedLower["base"] | PassedLayer): ReceivedPart | undefined {
  const { fd } = passed;
  if (fd === undefined) return undefined;
  if (!("kind" in passed)) return { file: borrow({ ...passed, fd }, false) };
  if (passed.kind !== "resident") return undefined;
  const file = borrow(passed, false);
  const { bitmap, blockCount, dataOffsetBytes, base } = passed;
  const resident = new ResidentLayer(file, new BlockMap(bitmap, blockCount), dataOffsetBytes, base);
  return { file, layer: resident, resident };
}

/** Rarely needed modules are loaded on demand: most threads start without them, and sooner. */
async function openLater(passed: PassedLower["base"] | PassedLayer, below: readonly HeldPart[]): Promise<ReceivedPart> {
  if (!("kind" in passed)) return { file: await openAgain(passed.name, passed.remembered) };
  assert(passed.kind === "reopen", "a layer that is not resident");
  const file = borrow(passed, false);
  const { formatById } = await import("../../formats/registry.ts");
  const { nodeStorage } = await import("../../device/node-storage.ts");
  const format = formatById(passed.formatId);
  assert(format, "a layer of a format that there is");
  const [base, ...layers] = await Promise.all(below.map(({ received }) => received));
  assert(base, "a layer is over a base");
  const backing = over(base.file.name, base.file, layersOf(layers));
  const source = await format.readable(file, () => nodeStorage.scratch(passed.name));
  const layer = await format.openLayer(source, { allowDirty: false, backing, settings: new Map(passed.settings) });
  return { file, layer };
}

async function openAgain(uri: string, remembered: Remembered | undefined): Promise<BlockDevice> {
  const { RemoteDevice } = await import("../../device/remote/remote-device.ts");
  return RemoteDevice.open(uri, { remembered });
}

/** @param held base first; all are there */
async function partsOf(passed: PassedImage, held: readonly HeldPart[]): Promise<ImageParts> {
  const { left } = passed;
  return together(passed, held, left && (openNow(left) ?? (await openLater(left, held))));
}

function partsNow(passed: PassedImage, held: readonly HeldPart[]): ImageParts {
  return together(passed, held, passed.left && openNow(passed.left));
}

function together(
  { name, lower, checkpoints, frozen, top }: PassedImage,
  held: readonly HeldPart[],
  left: ReceivedPart | undefined,
): ImageParts {
  const [base, ...others] = held.map(({ now }) => now);
  assert(base && !others.includes(undefined), "parts that are there");
  const upper = [...others, ...(left ? [left] : [])].flatMap((part) => part ?? []);
  const was = frozen && new FrozenTop(openTop(frozen), frozen.memory);
  const frozenLayers = was ? [was.layer()] : [];
  const residents = [...upper.map(({ resident }) => resident), ...frozenLayers];
  const written = top && openTop(top);
  return {
    name,
    base: base.file,
    layers: [...layersOf(upper), ...frozenLayers],
    finder: LayerFinder.over(base.file, residents, lower.owners),
    checkpoints,
    frozen: was,
    top: written && makeOrder(written),
    files: [
      // What another server has is watched there.
      ...(base.file.file ? [base.file] : []),
      ...upper.map(({ file }) => file),
      ...(was ? [was.shared.cow] : []),
      ...(written ? [written.cow] : []),
    ],
  };
}

function openTop({ cow, journal, config }: PassedTop): SharedCowfile {
  return { cow: borrow(cow, true), journal: journal && borrow(journal, true), config };
}

function layersOf(parts: readonly ReceivedPart[]): readonly Layer[] {
  return parts.flatMap(({ layer }) => layer ?? []);
}

function borrow({ fd, name, ...lent }: PassedFile, writable: boolean): BorrowedFile {
  return BorrowedFile.borrow(fd, name, writable, lent);
}

function over(name: string, base: BlockDevice, layers: readonly Layer[]): BlockDevice {
  return layers.length === 0 ? base : new Overlay(name, base, layers);
}
