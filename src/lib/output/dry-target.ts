/**
 * Owns the device that a dry run writes to: it knows how long it would be, and keeps nothing.
 */
import type { BlockDevice } from "../device/block-device.ts";

export class DryTarget implements BlockDevice {
  readonly name: string;
  readonly writable = true;
  readonly fd = undefined;
  readonly seesHoles = true;
  readonly allocationUnitBytes = 4096;
  sizeBytes = 0;

  constructor(name: string) {
    this.name = name;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    target.fill(0, 0, length);
    return length;
  }

  dataExtents(): readonly [] {
    return [];
  }

  write(source: Uint8Array, offsetBytes: number): void {
    this.sizeBytes = Math.max(this.sizeBytes, offsetBytes + source.length);
  }

  resize(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
  }

  flush(): void {
    // There is nothing to lose.
  }

  punchHole(): boolean {
    return true;
  }

  close(): void {
    // Nothing was opened.
  }
}
