/**
 * Owns images made of several files (a qcow2 with its backing, a dm-cow table, a logical volume, a base with layers) as
 * devices: read-only, and without a descriptor.
 */
import type { Place } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { ReadOnlyDevice } from "../device/read-only-device.ts";
import type { Layered, PlacedSource, Remarks } from "../formats/format.ts";

export class ImageDevice extends ReadOnlyDevice implements BlockDevice, PlacedSource {
  readonly image: PlacedSource & Remarks;

  /** @param image its files are closed by their opener */
  constructor(image: PlacedSource & Remarks) {
    super();
    this.image = image;
  }

  get name(): string {
    return this.image.name;
  }

  get warnings(): readonly string[] | undefined {
    return this.image.warnings;
  }

  get sizeBytes(): number {
    return this.image.sizeBytes;
  }

  get allocationUnitBytes(): number {
    return this.image.allocationUnitBytes;
  }

  get seesHoles(): boolean {
    return this.image.seesHoles;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    return this.image.read(target, offsetBytes);
  }

  dataExtents(from: number, to: number): Iterable<Extent> {
    return this.image.dataExtents(from, to);
  }

  get layered(): Layered | undefined {
    return this.image.layered;
  }

  places(from: number, to: number): Iterable<Place> {
    return this.image.places(from, to);
  }

  close(): void {
    // Its files are closed by their opener.
  }
}
