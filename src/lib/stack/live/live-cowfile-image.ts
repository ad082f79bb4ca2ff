/**
 * Owns reading and writing an image whose top layer is a writable cowfile: which bytes lie where, copy-up, zeros. When
 * what reaches the disk is write-order.ts' business.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import { widen } from "../../bytes/extent.ts";
import type { BlockDevice, OnCacheMiss } from "../../device/block-device.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { BaseIdentity, Layer } from "../../formats/format.ts";
import type { BlockMap } from "./block-map.ts";
import type { Claim } from "./claim.ts";
import type { FileWatch } from "./file-watch.ts";
import type { LiveImage, OnStatus, StatusKind, ZeroOptions } from "./image.ts";
import { MAX_BATCH } from "./journal-writer.ts";
import { ResidentLayer } from "./resident-layer.ts";
import { Control, REGION_BLOCKS, type SharedState } from "./shared-state.ts";
import type { SpaceReserve } from "./space-reserve.ts";
import { blockStatus } from "./status.ts";
import type { WriteOrder } from "./write-order.ts";

const REGION_BYTES = REGION_BLOCKS * BLOCK_BYTES;
/** Zeros are made in pieces of so many regions, so that no other writer waits long, and their marks fit into one batch. */
const ZERO_REGIONS = (2 * MAX_BATCH) / REGION_BLOCKS;
const ZEROS = new Uint8Array(1 << 20);
const MIB = 1 << 20;
/** What is being written is not compared with a base again. */
const NO_BASE: BaseIdentity = { blocks: undefined, blockBytes: BLOCK_BYTES, fingerprint: undefined };

/** Only the write order gives a way to change the file. */
type ReadableCow = Omit<BlockDevice, "write" | "punchHole" | "resize" | "flush" | "close">;

export interface CowfileParts {
  readonly cow: ReadableCow;
  readonly dataOffsetBytes: number;
  readonly below: BlockDevice;
  /** The parts of `below`, layers bottom to top. */
  readonly base: BlockDevice;
  readonly layers: readonly Layer[];
  readonly map: BlockMap;
  readonly state: SharedState;
  readonly order: WriteOrder;
  readonly reserve: SpaceReserve;
  readonly sizeBytes: number;
  readonly watch: FileWatch;
}

export class LiveCowfileImage implements LiveImage {
  readonly writable = true;
  readonly sizeBytes: number;
  readonly #cow: ReadableCow;
  readonly #below: BlockDevice;
  readonly #map: BlockMap;
  readonly #order: WriteOrder;
  readonly #reserve: SpaceReserve;
  readonly #control: Int32Array;
  readonly #dataOffset: number;
  readonly #parts: { readonly base: BlockDevice; readonly layers: readonly Layer[] };
  readonly #watch: FileWatch;
  readonly #scratch = new Uint8Array(BLOCK_BYTES);

  constructor(parts: CowfileParts) {
    this.#cow = parts.cow;
    this.#below = parts.below;
    this.#map = parts.map;
    this.#order = parts.order;
    this.#reserve = parts.reserve;
    this.#watch = parts.watch;
    this.#control = new Int32Array(parts.state.control);
    this.#dataOffset = parts.dataOffsetBytes;
    this.sizeBytes = parts.sizeBytes;
    const top = new ResidentLayer(parts.cow, parts.map, parts.dataOffsetBytes, NO_BASE);
    this.#parts = { base: parts.base, layers: [...parts.layers, top] };
  }

  get name(): string {
    return this.#cow.name;
  }

  get failed(): boolean {
    return this.#order.failed;
  }

  get zeroesFast(): boolean {
    return this.#control[Control.CAN_PUNCH] === 1;
  }

  lookAtFiles(): void {
    this.#watch.look();
  }

  read(target: Uint8Array, offsetBytes: number): void {
    const end = offsetBytes + target.length;
    const lastBlock = Math.ceil(end / BLOCK_BYTES);
    let at = offsetBytes;
    while (at < end) {
      const block = Math.floor(at / BLOCK_BYTES);
      const isHere = this.#map.has(block);
      const stop = Math.min(end, this.#map.runEnd(block, lastBlock, isHere) * BLOCK_BYTES);
      const part = at === offsetBytes && stop === end ? target : target.subarray(at - offsetBytes, stop - offsetBytes);
      if (isHere) this.#readCow(part, at);
      else readZeroFilled(this.#below, part, at);
      at = stop;
    }
  }

  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    const isHere = this.#isAllHere(offsetBytes, target.length);
    // What lies in two places is rare enough to be waited for.
    if (isHere === undefined) return false;
    if (isHere) return this.#cow.tryRead?.(target, this.#dataOffset + offsetBytes, onCacheMiss) ?? false;
    return this.#below.tryRead?.(target, offsetBytes, onCacheMiss) ?? false;
  }

  addressOf(offsetBytes: number, lengthBytes: number): number {
    const isHere = this.#isAllHere(offsetBytes, lengthBytes);
    if (isHere === undefined) return 0;
    if (isHere) return this.#cow.addressOf?.(this.#dataOffset + offsetBytes, lengthBytes) ?? 0;
    return this.#below.addressOf?.(offsetBytes, lengthBytes) ?? 0;
  }

  /** Does all of a range lie in the cowfile, or all of it below? Undefined if it lies in both. */
  #isAllHere(offset: number, length: number): boolean | undefined {
    const block = Math.floor(offset / BLOCK_BYTES);
    const lastBlock = Math.ceil((offset + length) / BLOCK_BYTES);
    const isHere = this.#map.has(block);
    return this.#map.runEnd(block, lastBlock, isHere) < lastBlock ? undefined : isHere;
  }

  invalidateMappings(): void {
    this.#cow.invalidateMappings?.();
    this.#below.invalidateMappings?.();
  }

  #readCow(target: Uint8Array, offset: number): void {
    const got = this.#cow.read(target, this.#dataOffset + offset);
    if (got < target.length) target.fill(0, got);
  }

  write(source: Uint8Array, offsetBytes: number): void {
    const end = offsetBytes + source.length;
    /** From here to `at` everything is allocated, and written in one piece. */
    let from = offsetBytes;
    for (let at = offsetBytes; at < end; ) {
      const stop = Math.min(end, (Math.floor(at / REGION_BYTES) + 1) * REGION_BYTES);
      const claim = this.#order.look(Math.floor(at / BLOCK_BYTES), Math.ceil(stop / BLOCK_BYTES));
      if (!claim.isAllocated || !this.#order.isCommitted(claim)) {
        this.#rewrite(source.subarray(from - offsetBytes, at - offsetBytes), from);
        this.#writeClaimed(claim, source.subarray(at - offsetBytes, stop - offsetBytes), at);
        from = stop;
      }
      at = stop;
    }
    this.#rewrite(from === offsetBytes ? source : source.subarray(from - offsetBytes), from);
  }

  /** Writes to blocks whose data has its place already. */
  #rewrite(source: Uint8Array, offset: number): void {
    if (source.length > 0) this.#order.rewrite({ source, offset }, this.#dataOffset + offset);
  }

  #writeClaimed(claim: Claim, source: Uint8Array, offset: number): void {
    const end = offset + source.length;
    if (!claim.isAllocated) this.#reserve.take(source.length);
    this.#order.hold(claim);
    // The rest of a block that is written in part comes from below; there may be stale data in its place.
    const copiesStart = offset % BLOCK_BYTES !== 0 && !claim.isFirstAllocated;
    const copiesEnd = end % BLOCK_BYTES !== 0 && !claim.isLastAllocated;
    const write = (cow: BlockDevice): void => {
      if (copiesStart) this.#copyUp(cow, claim.first * BLOCK_BYTES, offset);
      if (copiesEnd) this.#copyUp(cow, end, claim.end * BLOCK_BYTES);
      cow.write(source, this.#dataOffset + offset);
    };
    // Of several pieces no flush may take down one without the others.
    this.#order.change(claim, write, copiesStart || copiesEnd ? undefined : { source, offset });
  }

  #copyUp(cow: BlockDevice, from: number, to: number): void {
    const part = this.#scratch.subarray(0, to - from);
    readZeroFilled(this.#below, part, from);
    cow.write(part, this.#dataOffset + from);
  }

  zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): void {
    const end = offsetBytes + lengthBytes;
    const firstWhole = Math.ceil(offsetBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const lastWhole = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
    if (firstWhole >= lastWhole) {
      // At most two parts of blocks.
      this.write(ZEROS.subarray(0, lengthBytes), offsetBytes);
      return;
    }
    if (firstWhole > offsetBytes) this.write(ZEROS.subarray(0, firstWhole - offsetBytes), offsetBytes);
    this.#zeroBlocks(firstWhole, lastWhole, options.mayPunch && this.zeroesFast ? "punch" : "write", !options.mayPunch);
    if (end > lastWhole) this.write(ZEROS.subarray(0, end - lastWhole), lastWhole);
  }

  trim(offsetBytes: number, lengthBytes: number): void {
    if (!this.zeroesFast) return;
    const from = Math.ceil(offsetBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const to = Math.floor((offsetBytes + lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    if (from < to) this.#zeroBlocks(from, to, "punch", false);
  }

  #zeroBlocks(from: number, to: number, way: "punch" | "write", allocate: boolean): void {
    for (let at = from; at < to; ) {
      const stop = Math.min(to, (Math.floor(at / REGION_BYTES) + ZERO_REGIONS) * REGION_BYTES);
      const claim = this.#order.holdAll(at / BLOCK_BYTES, stop / BLOCK_BYTES);
      try {
        this.#zeroClaimed(claim, way, allocate);
      } finally {
        this.#order.commit();
      }
      at = stop;
    }
  }

  #zeroClaimed(all: Claim, way: "punch" | "write", allocate: boolean): void {
    for (const claim of allocate ? [all] : [...this.#notZeroByItself(all)]) {
      const start = claim.first * BLOCK_BYTES;
      const end = claim.end * BLOCK_BYTES;
      this.#order.change(claim, (cow) => {
        if (way === "punch" && cow.punchHole(this.#dataOffset + start, end - start)) this.#reach(cow, end);
        else {
          this.#reserve.take(end - start);
          this.#writeZeros(cow, start, end);
        }
      });
    }
  }

  /** The allocated parts of a claim, and those that may be data below: a hole below is zero, and the base does not change. */
  *#notZeroByItself(claim: Claim): Generator<Claim> {
    let at = claim.first;
    for (let i = 0; i < claim.bounds.length; i += 2) {
      const first = claim.bounds[i] ?? 0;
      const end = claim.bounds[i + 1] ?? 0;
      if (at < first) yield claim.part(at, first);
      const data = this.#below.dataExtents(first * BLOCK_BYTES, end * BLOCK_BYTES);
      for (const { offset, length } of widen(data, BLOCK_BYTES, end * BLOCK_BYTES))
        if (length > 0) yield claim.part(offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES);
      at = end;
    }
    if (at < claim.end) yield claim.part(at, claim.end);
  }

  #writeZeros(cow: BlockDevice, from: number, to: number): void {
    for (let at = from; at < to; at += ZEROS.length) {
      cow.write(ZEROS.subarray(0, Math.min(ZEROS.length, to - at)), this.#dataOffset + at);
    }
  }

  /** A marked block must lie in the file, be it as a hole: beyond the end of the file it would count as lost. */
  #reach(cow: BlockDevice, imageEnd: number): void {
    const fileEnd = this.#dataOffset + imageEnd;
    const known = (this.#control[Control.SIZE_MIB] ?? 0) * MIB;
    if (fileEnd <= known || fileEnd <= cow.sizeBytes) return;
    // The block is ours and zero: writing it cannot shorten the file, as setting its size from two threads might.
    cow.write(ZEROS.subarray(0, BLOCK_BYTES), fileEnd - BLOCK_BYTES);
    const reached = Math.floor(fileEnd / MIB);
    for (let seen = Atomics.load(this.#control, Control.SIZE_MIB); seen < reached; ) {
      const before = Atomics.compareExchange(this.#control, Control.SIZE_MIB, seen, reached);
      if (before === seen) break;
      seen = before;
    }
  }

  commit(): void {
    this.#order.commit();
  }

  flush(): void {
    this.#order.flush();
  }

  cache(): void {
    // The kernel reads ahead by itself.
  }

  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void {
    blockStatus(kind, this.#parts, [offsetBytes, offsetBytes + lengthBytes], onStatus);
  }
}
