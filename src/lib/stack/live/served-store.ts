/**
 * Owns a dm-snapshot store as the writable top of a served stack: its file, its lock and its end. Its map of exceptions is
 * not shared between threads, so that one image serves every connection, on the event loop.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { atByte } from "../../errors.ts";
import type { Stack } from "../open.ts";
import type { WrittenFile } from "./file-guard.ts";
import type { LiveImage } from "./image.ts";
import { DmSnapshotLiveImage } from "./store-image.ts";

export class ServedStore {
  readonly image: LiveImage;
  readonly written: WrittenFile;
  readonly #device: BlockDevice;

  /**
   * Says what the first new chunk takes away: tuples of a killed writer behind the end of the list.
   *
   * @param device the store, open for writing and exclusively locked; closed with this object
   * @throws CowError as for reading a store; nothing is written yet
   */
  constructor(
    storage: Storage,
    device: BlockDevice,
    { base, layers, device: below, files }: Stack,
    onNotice?: OperationContext["onNotice"],
  ) {
    this.#device = device;
    this.written = { device, path: storage.realPath(device.name), role: "layer" };
    const mayGrow = storage.facts(device.name)?.kind === "file";
    const all = [...files, device];
    const image = new DmSnapshotLiveImage({
      cow: device,
      below,
      base,
      layers,
      mayGrow,
      files: all,
    });
    this.image = image;
    if (image.staleAt === undefined) return;
    const message = `has tuples after the end of its list, from ${atByte(image.staleAt)}, which no flush covered: not shown to clients, and zeroed once they write to an unallocated chunk`;
    onNotice?.({ severity: "warning", file: device.name, message });
  }

  /** Makes everything durable that was written. @throws CowError `io` */
  close(): void {
    try {
      this.image.commit();
      this.image.flush();
    } finally {
      this.#device.close();
    }
  }

  /** Ends as a crash would. */
  abandon(): void {
    this.#device.close();
  }
}
