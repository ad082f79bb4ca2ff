/**
 * Owns reading and writing an image whose top layer is written, for every format: splitting reads by extent, copy-up,
 * zeros, trims. The layer decides when data reaches the disk (writable-layer.ts).
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import { type Extent, widen } from "../../bytes/extent.ts";
import { writeZeros } from "../../bytes/zero.ts";
import type { BlockDevice, OnCacheMiss } from "../../device/block-device.ts";
import { NOT_ALLOCATED, type SearchableLayer } from "../../formats/format.ts";
import type { Claim } from "./claim.ts";
import type { FileWatch } from "./file-watch.ts";
import type { FrozenTop } from "./frozen-top.ts";
import type { LiveImage, OnStatus, StatusKind, ZeroOptions } from "./image.ts";
import type { LevelReads } from "./level-reads.ts";
import type { PlainImageParts } from "./plain-image.ts";
import { blockStatus, type Levels } from "./status.ts";
import type { WritableLayer } from "./writable-layer.ts";

/** Copies and zeros are written in pieces of at most this. */
const PIECE_BYTES = 1 << 20;
/** Up to this, or up to a larger unit, a write to part of a unit is written at once with the rest of the unit. */
const JOINED_BYTES = 16 << 10;
/** Holes are punched at multiples of this, or of a smaller unit; the rest is written. */
const HOLE_BYTES = 4096;

type Spared = "none" | "zero" | "unallocated";

/** `below` is the backing of `top`. */
export interface StackImageParts extends PlainImageParts {
  readonly top: WritableLayer;
  /** The topmost of `layers`, where it was the top and is not settled: a flush covers it, too. */
  readonly frozen?: FrozenTop | undefined;
}

export class LiveStackImage implements LiveImage {
  readonly writable = true;
  readonly reads: LevelReads;
  sizeBytes = 0;
  // Replaced in place by become(): an object in between would cost each request.
  #top!: WritableLayer;
  #layer!: SearchableLayer;
  #file!: WritableLayer["file"];
  #below!: BlockDevice;
  #unit = 0;
  #levels!: Levels;
  #topLevel = 0;
  #watch!: FileWatch;
  #frozen: FrozenTop | undefined;
  #scratchBytes = 0;
  #scratch: Uint8Array | undefined;

  constructor(parts: StackImageParts) {
    this.reads = parts.reads;
    this.become(parts);
  }

  /** Takes other parts, between two requests. Nothing waits to be committed. */
  become({ top, below, base, layers, checkpoints, watch, frozen }: StackImageParts): void {
    this.#top = top;
    this.#layer = top.layer;
    this.#file = top.file;
    this.#below = below;
    this.#unit = top.unitBytes;
    this.#scratchBytes = Math.max(JOINED_BYTES, Math.min(top.unitBytes, PIECE_BYTES));
    this.#scratch = undefined;
    this.#watch = watch;
    this.#frozen = frozen;
    this.sizeBytes = top.sizeBytes;
    this.#levels = { base, layers: [...layers, top.layer], checkpoints };
    this.#topLevel = layers.length + 1;
  }

  get name(): string {
    return this.#file.name;
  }

  get failed(): boolean {
    return this.#top.failed;
  }

  get zeroesFast(): boolean {
    return this.#top.canPunch;
  }

  lookAtFiles(nowNs: number): void {
    this.#watch.look(nowNs);
  }

  read(target: Uint8Array, offsetBytes: number): void {
    const layer = this.#layer;
    const end = offsetBytes + target.length;
    for (let at = offsetBytes; at < end; ) {
      const stop = layer.findRun(at, end);
      const place = layer.foundAt;
      const part = at === offsetBytes && stop === end ? target : target.subarray(at - offsetBytes, stop - offsetBytes);
      if (place === NOT_ALLOCATED) this.#readBelow(part, at);
      else {
        this.reads.note(this.#topLevel);
        const got = this.#file.read(part, place);
        if (got < part.length) part.fill(0, got);
      }
      at = stop;
    }
  }

  #readBelow(target: Uint8Array, offset: number): void {
    this.#note(NOT_ALLOCATED, target.length > 0);
    if (target.length > 0) readZeroFilled(this.#below, target, offset);
  }

  /** Notes what was read at this place of the top, or below: where a base alone does not note it by itself. */
  #note(place: number, isRead: boolean): boolean {
    if (isRead && place !== NOT_ALLOCATED) this.reads.note(this.#topLevel);
    else if (isRead && this.#topLevel === 1) this.reads.note(0);
    return isRead;
  }

  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    const end = offsetBytes + target.length;
    // A range in two places is rare enough to wait for.
    if (this.#layer.findRun(offsetBytes, end) < end) return false;
    const place = this.#layer.foundAt;
    const isHere = place !== NOT_ALLOCATED;
    const device = isHere ? this.#file : this.#below;
    return this.#note(place, device.tryRead?.(target, isHere ? place : offsetBytes, onCacheMiss) ?? false);
  }

  addressOf(offsetBytes: number, lengthBytes: number): number {
    const end = offsetBytes + lengthBytes;
    if (this.#layer.findRun(offsetBytes, end) < end) return 0;
    const place = this.#layer.foundAt;
    const isHere = place !== NOT_ALLOCATED;
    const device = isHere ? this.#file : this.#below;
    const address = device.addressOf?.(isHere ? place : offsetBytes, lengthBytes) ?? 0;
    this.#note(place, address > 0);
    return address;
  }

  invalidateMappings(): void {
    this.#file.invalidateMappings?.();
    this.#below.invalidateMappings?.();
  }

  write(source: Uint8Array, offsetBytes: number): void {
    const top = this.#top;
    const end = offsetBytes + source.length;
    top.makeRoom(offsetBytes, end);
    /** From here to `at` everything is allocated and contiguous. */
    let from = offsetBytes;
    let shift = 0;
    for (let at = offsetBytes; at < end; ) {
      const claim = top.claim(at, end);
      const stop = Math.min(end, claim.end * this.#unit);
      if (!top.isSettled(claim)) {
        this.#rewrite(source, offsetBytes, from, at, shift);
        this.#writeClaimed(claim, source.subarray(at - offsetBytes, stop - offsetBytes), at);
        from = stop;
      } else if (claim.shift !== shift) {
        this.#rewrite(source, offsetBytes, from, at, shift);
        from = at;
        shift = claim.shift;
      }
      at = stop;
    }
    this.#rewrite(source, offsetBytes, from, end, shift);
  }

  /** Writes `[from, to)` of a write at `offset` to units that are allocated. */
  #rewrite(source: Uint8Array, offset: number, from: number, to: number, shift: number): void {
    if (from === to) return;
    const part = to - from === source.length ? source : source.subarray(from - offset, to - offset);
    this.#top.rewrite({ source: part, offset: from }, from + shift);
  }

  #writeClaimed(claim: Claim, source: Uint8Array, offset: number): void {
    const end = offset + source.length;
    if (!claim.isAllocated) this.#top.reserve.take(source.length);
    this.#top.hold(claim);
    // The rest of a partly written unit is copied from the backing; there may be stale data in its place.
    const copiesStart = offset % this.#unit !== 0 && !claim.isFirstAllocated;
    const copiesEnd = end % this.#unit !== 0 && !claim.isLastAllocated;
    const start = copiesStart ? claim.first * this.#unit : offset;
    const stop = copiesEnd ? Math.min(claim.end * this.#unit, this.sizeBytes) : end;
    const write = (file: BlockDevice): void => {
      if (start === offset && stop === end) file.write(source, claim.shift + offset);
      else this.#writeWithRest(file, claim.shift, source, offset, start, stop);
    };
    // No flush may cover some of several pieces without the others.
    this.#top.change(claim, write, copiesStart || copiesEnd ? undefined : { source, offset });
  }

  /** Writes data together with the rest of `[start, stop)` around it. */
  #writeWithRest(
    file: BlockDevice,
    shift: number,
    data: Uint8Array,
    offset: number,
    start: number,
    stop: number,
  ): void {
    const end = offset + data.length;
    if (stop - start > this.#scratchBytes) {
      this.#copyUp(file, shift, start, offset);
      file.write(data, shift + offset);
      this.#copyUp(file, shift, end, stop);
      return;
    }
    const piece = this.#scratchOf(stop - start);
    this.#readBelow(piece.subarray(0, offset - start), start);
    piece.set(data, offset - start);
    this.#readBelow(piece.subarray(end - start), end);
    file.write(piece, shift + start);
  }

  #copyUp(file: BlockDevice, shift: number, from: number, to: number): void {
    for (let at = from; at < to; at += this.#scratchBytes) {
      const part = this.#scratchOf(Math.min(this.#scratchBytes, to - at));
      this.#readBelow(part, at);
      file.write(part, shift + at);
    }
  }

  #scratchOf(length: number): Uint8Array {
    this.#scratch ??= new Uint8Array(this.#scratchBytes);
    return this.#scratch.subarray(0, length);
  }

  zero(offsetBytes: number, lengthBytes: number, { mayPunch }: ZeroOptions): void {
    const end = offsetBytes + lengthBytes;
    this.#zeroAll(offsetBytes, end, () => (mayPunch ? "zero" : "none"), mayPunch && this.zeroesFast);
  }

  trim(offsetBytes: number, lengthBytes: number): void {
    if (!this.zeroesFast) return;
    const end = offsetBytes + lengthBytes;
    const from = Math.ceil(offsetBytes / this.#unit) * this.#unit;
    // The image's last unit may be partial.
    const to = end >= this.sizeBytes ? this.sizeBytes : Math.floor(end / this.#unit) * this.#unit;
    // A trim is a wish: where the quota allows no more marks, the backing's data stays.
    const allocates = (claim: Claim): boolean => this.#top.trimsBacking && this.#top.usage.hasRoom(claim.freshCount);
    this.#zeroAll(from, to, (claim) => (allocates(claim) ? "zero" : "unallocated"), true);
  }

  /** @param sparedOf the parts of a claim that are left as they are: those that are zero, or not allocated */
  #zeroAll(from: number, end: number, sparedOf: (claim: Claim) => Spared, punches: boolean): void {
    for (let at = from; at < end; ) {
      const claimEnd = this.#top.claimLong(at, end, (claim) => {
        const stop = Math.min(end, claim.end * this.#unit);
        const spares = sparedOf(claim);
        if (spares === "none") this.#zeroPart(claim, at, stop, punches);
        else
          for (const { offset, length } of this.#parts(claim, at, stop, spares === "zero"))
            this.#zeroPart(claim, offset, offset + length, punches);
      });
      at = claimEnd * this.#unit;
    }
  }

  /** The allocated parts, and on demand those that may be data below: a hole below is zero, and the base does not change. */
  *#parts(claim: Claim, from: number, end: number, withData: boolean): Generator<Extent> {
    const unit = this.#unit;
    let at = from;
    for (let i = 0; i < claim.bounds.length; i += 2) {
      const start = Math.max(from, (claim.bounds[i] ?? 0) * unit);
      const stop = Math.min(end, (claim.bounds[i + 1] ?? 0) * unit);
      if (at < start) yield { offset: at, length: start - at };
      for (const data of withData ? widen(this.#below.dataExtents(start, stop), unit, stop) : []) {
        const offset = Math.max(start, data.offset);
        if (data.length > 0) yield { offset, length: data.offset + data.length - offset };
      }
      at = stop;
    }
    if (at < end) yield { offset: at, length: end - at };
  }

  /** Zeros `[from, end)` of a long claim, in parts that one change can allocate. */
  #zeroPart(all: Claim, from: number, end: number, punches: boolean): void {
    for (let at = from; at < end; ) {
      const first = Math.floor(at / this.#unit);
      const claim = all.part(first, Math.min(Math.ceil(end / this.#unit), first + this.#top.unitsInRow));
      const offset = at;
      const stop = Math.min(end, claim.end * this.#unit);
      this.#top.change(claim, (file) => {
        if (!claim.isFirstAllocated) this.#copyUp(file, claim.shift, first * this.#unit, offset);
        if (!claim.isLastAllocated)
          this.#copyUp(file, claim.shift, stop, Math.min(claim.end * this.#unit, this.sizeBytes));
        this.#zeroIn(file, claim.shift, offset, stop, punches);
      });
      at = stop;
    }
  }

  #zeroIn(file: BlockDevice, shift: number, from: number, end: number, punches: boolean): void {
    const granule = Math.min(this.#unit, HOLE_BYTES);
    const holeFrom = Math.ceil(from / granule) * granule;
    const holeEnd = Math.floor(end / granule) * granule;
    if (punches && holeFrom < holeEnd && this.#top.punch(file, shift + holeFrom, holeEnd - holeFrom)) {
      writeZeros(file, shift + from, shift + holeFrom);
      writeZeros(file, shift + holeEnd, shift + end);
      return;
    }
    this.#top.reserve.take(end - from);
    writeZeros(file, shift + from, shift + end);
  }

  commit(): void {
    this.#top.commit();
  }

  flush(): void {
    this.#frozen?.flush();
    this.#top.flush();
  }

  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void {
    blockStatus(kind, this.#levels, [offsetBytes, offsetBytes + lengthBytes], onStatus);
  }
}
