/**
 * Owns opening the layer that is written in a served stack: the formats that can be, and how each is opened.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { atByte, CowError } from "../../errors.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { dmSnapshotFormat } from "../../formats/dm-snapshot/index.ts";
import type { LayerFormat } from "../../formats/format.ts";
import { isYetToBeNamed } from "../open.ts";
import { formatOfPart, refuseStackFile } from "../open-part.ts";
import type { StackPart } from "../part.ts";
import { LiveStore } from "./live-store.ts";
import { type OpenCowfileOptions, WritableCowfile } from "./open-cowfile.ts";
import { repairFirst } from "./repair-first.ts";
import type { LowerStack } from "./shared-lower.ts";
import { SpaceReserve } from "./space-reserve.ts";
import type { Top } from "./top.ts";

export interface OpenTopOptions extends OpenCowfileOptions, Pick<OperationContext, "signal" | "onNotice"> {
  /** Repair a cowfile that another program left dirty, before it is served. */
  readonly repair?: boolean;
}

/** Opens a layer over `below`; `device` is exclusively locked, and closed with the top. */
type TopOpener = (
  storage: Storage,
  device: BlockDevice,
  below: LowerStack,
  options: OpenTopOptions,
  part: StackPart,
) => Top | Promise<Top>;

/** The formats that can be written while they are served. */
const OPENERS: ReadonlyMap<LayerFormat, TopOpener> = new Map<LayerFormat, TopOpener>([
  [cowfileFormat, openCowfileTop],
  [dmSnapshotFormat, openStoreTop],
]);

/**
 * Opens a layer for writing, exclusively locked.
 *
 * @throws CowError `unsupported` for a format that is not written; `wrong-base`; as WritableCowfile.open, and as reading a store
 */
export async function openTop(
  storage: Storage,
  part: StackPart,
  below: LowerStack,
  options: OpenTopOptions,
): Promise<Top> {
  const { path } = part;
  const device = storage.open(path, { writable: true, lock: "exclusive" });
  try {
    if (part.format === undefined) refuseStackFile(device, path);
    const format = formatOfPart({ part, file: device });
    const open = OPENERS.get(format);
    if (open) return await open(storage, device, below, options, part);
    throw new CowError("unsupported", `is a ${format.title}, which is not written while it is served`, {
      file: path,
      hints: ["--read-only serves it as it is, --ephemeral lets clients write what is gone afterwards"],
    });
  } catch (error) {
    device.close();
    throw error;
  }
}

async function openCowfileTop(
  storage: Storage,
  device: BlockDevice,
  below: LowerStack,
  options: OpenTopOptions,
  part: StackPart,
): Promise<Top> {
  const layer = new CowfileLayer(device, { allowDirty: true });
  if (!isYetToBeNamed(layer, part, below.stack.spec.layers.at(-1))) {
    await below.requireBelongs(layer, options.signal);
    return openCowfileOver(storage, device, options);
  }
  const fingerprint = await below.fingerprint(layer.opened.head.rdoBlocks, options.signal);
  const top = await openCowfileOver(storage, device, options);
  top.nameBase(fingerprint);
  return top;
}

async function openCowfileOver(
  storage: Storage,
  device: BlockDevice,
  options: OpenTopOptions,
): Promise<WritableCowfile> {
  try {
    return WritableCowfile.open(storage, device.name, device, options);
  } catch (error) {
    if (error instanceof CowError && error.code === "no-space") throw withWayOut(error);
    const mendable = error instanceof CowError && ["dirty", "damaged"].includes(error.code);
    if (!mendable || !options.repair) throw error;
  }
  await repairFirst(storage, device.name, device, options);
  return WritableCowfile.open(storage, device.name, device, options);
}

/** A part that cannot be written, such as its journal, is not needed for reading. */
function withWayOut({ code, message, file, details, hints, cause }: CowError): CowError {
  const more = "--read-only serves it without writing anything, also as a killed server left it";
  return new CowError(code, message, { file, details, hints: [...hints, more], cause });
}

/**
 * Reports tuples of a killed writer after the end of the list, which the first new chunk will zero. Writes nothing yet.
 */
function openStoreTop(storage: Storage, device: BlockDevice, below: LowerStack, options: OpenTopOptions): Top {
  const path = storage.realPath(device.name);
  const mayGrow = storage.facts(device.name)?.kind === "file";
  // The free space of a device's directory is not the device's.
  const reserve = new SpaceReserve(path, mayGrow ? (options.reserveBytes ?? 0) : 0);
  const live = new LiveStore(device, { below: below.stack.device, mayGrow, reserve });
  const { staleAt } = live.store;
  if (staleAt !== undefined) {
    const message = `has tuples after the end of its list, from ${atByte(staleAt)}, which no flush covered: not shown to clients, and zeroed once they write to an unallocated chunk`;
    options.onNotice?.({ severity: "warning", file: device.name, message });
  }
  const close = (): void => device.close();
  return {
    device,
    sizeBytes: live.sizeBytes,
    usage: live.usage,
    written: [{ device, path, role: "layer" }],
    writable: () => live,
    close: () => {
      try {
        live.flush();
      } finally {
        close();
      }
    },
    abandon: close,
  };
}
