/**
 * Owns passing an open stack to another thread: as descriptors (which all threads of a process share), shared memory
 * and a few numbers. The opener keeps the files open, locked, and closes them.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { BorrowedFile, type Lent } from "../../device/borrowed-file.ts";
import type { Remembered } from "../../device/remote/sameness.ts";
import { assert } from "../../errors.ts";
import type { BaseIdentity, Layer } from "../../formats/format.ts";
import { Overlay } from "../overlay.ts";
import { assembleImage } from "./assemble.ts";
import { BlockMap } from "./block-map.ts";
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
        readonly bitmap: SharedArrayBuffer;
        readonly base: BaseIdentity;
      }
  );

export interface PassedImage {
  readonly name: string;
  /** A base without a descriptor is opened again by its name: a URI. */
  readonly base: Omit<PassedFile, "fd"> & {
    readonly fd: number | undefined;
    readonly remembered?: Remembered | undefined;
  };
  readonly layers: readonly PassedLayer[];
  readonly top:
    | { readonly cow: PassedFile; readonly journal: PassedFile | undefined; readonly config: CowfileConfig }
    | undefined;
}

/** The image in this thread. */
export async function receiveImage({ name, base, layers, top }: PassedImage): Promise<LiveImage> {
  const files: BlockDevice[] = [];
  const receive = ({ fd, name: file, ...lent }: PassedFile, writable: boolean): BorrowedFile => {
    const device = BorrowedFile.borrow(fd, file, writable, lent);
    files.push(device);
    return device;
  };
  const { fd: baseFd } = base;
  const baseDevice =
    baseFd === undefined ? await openAgain(base.name, base.remembered) : receive({ ...base, fd: baseFd }, false);
  const opened: Layer[] = [];
  for (const layer of layers) {
    const below = opened.length === 0 ? baseDevice : new Overlay(name, baseDevice, [...opened]);
    opened.push(await receiveLayer(layer, receive(layer, false), below));
  }
  return assembleImage({
    name,
    base: baseDevice,
    layers: opened,
    top:
      top &&
      makeOrder({
        cow: receive(top.cow, true),
        journal: top.journal && BorrowedFile.borrow(top.journal.fd, top.journal.name, true, top.journal),
        config: top.config,
      }),
    files,
  });
}

async function receiveLayer(layer: PassedLayer, file: BlockDevice, below: BlockDevice): Promise<Layer> {
  if (layer.kind === "resident") {
    return new ResidentLayer(file, new BlockMap(layer.bitmap, layer.blockCount), layer.dataOffsetBytes, layer.base);
  }
  const { formatById } = await import("../../formats/registry.ts");
  const { nodeStorage } = await import("../../device/node-storage.ts");
  const format = formatById(layer.formatId);
  assert(format, "a layer of a format that there is");
  const source = await format.readable(file, () => nodeStorage.scratch(layer.name));
  return format.openLayer(source, { allowDirty: false, below, settings: new Map(layer.settings) });
}

/** Rarely needed modules are loaded on demand: most threads start without them, and sooner. */
async function openAgain(uri: string, remembered: Remembered | undefined): Promise<BlockDevice> {
  const { RemoteDevice } = await import("../../device/remote/remote-device.ts");
  return RemoteDevice.open(uri, { remembered });
}
