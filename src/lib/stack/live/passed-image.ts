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
import { assembleImage } from "./assemble.ts";
import { BlockMap } from "./block-map.ts";
import type { CheckpointLevel } from "./checkpoint-level.ts";
import { type CowfileConfig, makeOrder } from "./cowfile-config.ts";
import type { LiveImage } from "./image.ts";
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

/** What is below the written layers of images. */
export interface PassedLower {
  /** The same for all images over it. */
  readonly number: number;
  /** A base without a descriptor is opened again by its name: a URI. */
  readonly base: Omit<PassedFile, "fd"> & {
    readonly fd: number | undefined;
    readonly remembered?: Remembered | undefined;
  };
  readonly layers: readonly PassedLayer[];
}

export interface PassedImage {
  readonly name: string;
  readonly lower: PassedLower;
  readonly checkpoints: readonly CheckpointLevel[];
  /** A layer that is only read, and by this image alone. */
  readonly left: PassedLayer | undefined;
  readonly top:
    | { readonly cow: PassedFile; readonly journal: PassedFile | undefined; readonly config: CowfileConfig }
    | undefined;
}

/** What a thread has of a lower stack. */
interface ReceivedLower {
  readonly base: BlockDevice;
  readonly layers: readonly Layer[];
  readonly files: readonly BlockDevice[];
}

/** An image in a thread. */
export interface ReceivedImage {
  readonly image: LiveImage;
  /** Nothing uses it any more. */
  release(): void;
}

/** The images of one thread. What is below their written layers it has once, as long as an image is over it. */
export class ImageReceiver {
  readonly #lowers = new Map<number, { readonly received: Promise<ReceivedLower>; users: number }>();

  /** @internal */
  get lowerCount(): number {
    return this.#lowers.size;
  }

  async receive({ name, lower, checkpoints, left, top }: PassedImage): Promise<ReceivedImage> {
    const release = (): void => this.#release(lower.number);
    try {
      const { base, layers, files } = await this.#lower(lower);
      const cow = top && borrow(top.cow, true);
      const own = left && (await receiveLayer(left, borrow(left, false), over(name, base, layers)));
      const image = assembleImage({
        name,
        base,
        layers: own ? [...layers, own.layer] : layers,
        checkpoints,
        top: cow && top && makeOrder({ cow, journal: top.journal && borrow(top.journal, true), config: top.config }),
        files: [...files, ...(own ? [own.file] : []), ...(cow ? [cow] : [])],
      });
      return { image, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  #lower(passed: PassedLower): Promise<ReceivedLower> {
    const known = this.#lowers.get(passed.number) ?? { received: receiveLower(passed), users: 0 };
    this.#lowers.set(passed.number, known);
    known.users++;
    return known.received;
  }

  #release(number: number): void {
    const known = this.#lowers.get(number);
    if (!known || --known.users > 0) return;
    this.#lowers.delete(number);
    // Borrowed files are not closed, but a connection of this thread is.
    known.received.then(
      ({ base }) => base.close(),
      () => undefined,
    );
  }
}

function borrow({ fd, name, ...lent }: PassedFile, writable: boolean): BorrowedFile {
  return BorrowedFile.borrow(fd, name, writable, lent);
}

function over(name: string, base: BlockDevice, layers: readonly Layer[]): BlockDevice {
  return layers.length === 0 ? base : new Overlay(name, base, layers);
}

async function receiveLower({ base, layers }: PassedLower): Promise<ReceivedLower> {
  const { fd } = base;
  const device = fd === undefined ? await openAgain(base.name, base.remembered) : borrow({ ...base, fd }, false);
  const files: BlockDevice[] = fd === undefined ? [] : [device];
  const opened: Layer[] = [];
  for (const passed of layers) {
    const { layer, file } = await receiveLayer(passed, borrow(passed, false), over(base.name, device, [...opened]));
    opened.push(layer);
    files.push(file);
  }
  return { base: device, layers: opened, files };
}

async function receiveLayer(
  passed: PassedLayer,
  file: BlockDevice,
  below: BlockDevice,
): Promise<{ readonly layer: Layer; readonly file: BlockDevice }> {
  return { layer: await openPassed(passed, file, below), file };
}

async function openPassed(layer: PassedLayer, file: BlockDevice, below: BlockDevice): Promise<Layer> {
  if (layer.kind === "resident") {
    return new ResidentLayer(file, new BlockMap(layer.bitmap, layer.blockCount), layer.dataOffsetBytes, layer.base);
  }
  const { formatById } = await import("../../formats/registry.ts");
  const { nodeStorage } = await import("../../device/node-storage.ts");
  const format = formatById(layer.formatId);
  assert(format, "a layer of a format that there is");
  const source = await format.readable(file, () => nodeStorage.scratch(layer.name));
  return format.openLayer(source, { allowDirty: false, backing: below, settings: new Map(layer.settings) });
}

/** Rarely needed modules are loaded on demand: most threads start without them, and sooner. */
async function openAgain(uri: string, remembered: Remembered | undefined): Promise<BlockDevice> {
  const { RemoteDevice } = await import("../../device/remote/remote-device.ts");
  return RemoteDevice.open(uri, { remembered });
}
