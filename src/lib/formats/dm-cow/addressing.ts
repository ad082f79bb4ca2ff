/**
 * Owns which bit of a dm-cow bitmap belongs to which sector: linear as intended, or as coded, where the driver's mask
 * drops three bits of the sector's number, so that up to eight sectors share a bit.
 *
 * Both ways are a bitmap in blocks. A linear block uses every byte, a block as coded only the first eighth: its bits
 * belong to the first of eight parts of a window of sectors, and to the seven parts after it as well.
 */
import { setRuns } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { CowError } from "../../errors.ts";
import { bitmapSectors, SECTOR_BYTES, SOFT_BLOCK_SIZES, softBlockOf } from "./layout.ts";

/** How much of a linear bitmap is read at a time: the bits of 256 MiB of image. */
const LINEAR_BLOCK_BYTES = 64 * 1024;
const COPIES_AS_CODED = 8;

export interface Addressing {
  /** As users write it: `linear`, `as-coded:4096`. */
  readonly name: string;
  /** Bytes of bitmap that belong together. */
  readonly blockBytes: number;
  /** How many bits at the beginning of each block are used. */
  readonly bits: number;
  /** How many parts of the image each bit belongs to, `bits` sectors apart. */
  readonly copies: number;
}

const LINEAR: Addressing = {
  name: "linear",
  blockBytes: LINEAR_BLOCK_BYTES,
  bits: LINEAR_BLOCK_BYTES * 8,
  copies: 1,
};

/** The user's choice: a block size of 0 means that of each bitmap device. */
export type AddressingChoice = "linear" | { readonly softBlock: number };

/** @param text `linear`, `as-coded` or `as-coded:BYTES` @throws CowError `usage` */
export function parseAddressing(text: string | undefined): AddressingChoice {
  if (text === undefined || text === "linear") return "linear";
  const match = /^as-coded(?::(\d{3,4}))?$/.exec(text);
  const softBlock = Number(match?.[1] ?? 0);
  if (!match || (softBlock !== 0 && !SOFT_BLOCK_SIZES.includes(softBlock)))
    throw new CowError("usage", `"${text}" is no way to read a dm-cow bitmap: linear, as-coded or as-coded:BYTES`, {
      hints: [`BYTES is the block size of the bitmap device: ${SOFT_BLOCK_SIZES.join(", ")}`],
    });
  return { softBlock };
}

/** How to read the bitmap on a device. */
export function addressingFor(choice: AddressingChoice, deviceBytes: number): Addressing {
  return choice === "linear" ? LINEAR : asCoded(choice.softBlock || softBlockOf(deviceBytes));
}

/** @internal */
export function asCoded(softBlock: number): Addressing {
  return { name: `as-coded:${softBlock}`, blockBytes: softBlock, bits: softBlock, copies: COPIES_AS_CODED };
}

/** Do two sectors of a stack of this length share a bit? */
export function isLossy({ bits, copies }: Addressing, sectors: number): boolean {
  return copies > 1 && sectors > bits;
}

/** A run of set bits, with their sectors: those of the run, and the same `distance` further on. */
export interface AliasGroup {
  readonly sector: number;
  readonly sectors: number;
  readonly distance: number;
  readonly copies: number;
  /** Where its first bit is on the bitmap device, in bytes. */
  readonly at: number;
}

/** One bitmap, read in one way. */
export class SectorBitmap {
  readonly addressing: Addressing;
  readonly #source: ByteSource;
  readonly #sectors: number;
  #cached: { readonly index: number; readonly bytes: Uint8Array } | undefined;

  constructor(source: ByteSource, sectors: number, addressing: Addressing) {
    this.#source = source;
    this.#sectors = sectors;
    this.addressing = addressing;
  }

  /** The runs of sectors in `[from, to)` whose bit is set, ascending; neighbours may touch. */
  *runs(from: number, to: number): Generator<readonly [from: number, to: number]> {
    const { bits, copies } = this.addressing;
    const end = Math.min(to, this.#sectors);
    for (const { index, bytes } of this.#blocks(from, end)) {
      for (let copy = 0; copy < copies; copy++) {
        const first = (index * copies + copy) * bits;
        if (first >= end) break;
        if (first + bits <= from) continue;
        const last = Math.min(bits, bytes.length * 8, end - first);
        for (const [a, b] of setRuns(bytes, Math.max(0, from - first), last)) yield [first + a, first + b];
      }
    }
  }

  /** The runs of set bits that belong to more than one sector. */
  *aliasGroups(): Generator<AliasGroup> {
    const { bits, copies, blockBytes } = this.addressing;
    if (!isLossy(this.addressing, this.#sectors)) return;
    for (const { index, bytes } of this.#blocks(0, this.#sectors)) {
      const first = index * copies * bits;
      // In the last window the copies may end within a run; the existing sectors all belong to the group.
      const shared = Math.min(bits, Math.max(0, this.#sectors - first - bits));
      for (const [a, b] of setRuns(bytes, 0, Math.min(shared, bytes.length * 8))) {
        const count = Math.min(copies, Math.ceil((this.#sectors - first - a) / bits));
        yield { sector: first + a, sectors: b - a, distance: bits, copies: count, at: index * blockBytes + (a >> 3) };
      }
    }
  }

  /** The place of the first bit that such a bitmap cannot have set, in bytes; undefined if there is none. */
  firstImpossible(): number | undefined {
    const { bits, copies, blockBytes } = this.addressing;
    for (const { index, bytes } of this.#blocks(0, Number.POSITIVE_INFINITY)) {
      const used = Math.min(bits, Math.max(0, this.#sectors - index * copies * bits));
      for (const [bit] of setRuns(bytes, used, bytes.length * 8)) return index * blockBytes + (bit >> 3);
    }
    return undefined;
  }

  /** The blocks with the bits of `[from, to)` that are not holes; the last one as far as the bitmap reaches. */
  *#blocks(from: number, to: number): Generator<{ readonly index: number; readonly bytes: Uint8Array }> {
    const { bits, copies, blockBytes } = this.addressing;
    const perBlock = bits * copies;
    const end = Math.min(bitmapSectors(this.#sectors) * SECTOR_BYTES, Math.ceil(to / perBlock) * blockBytes);
    let next = Math.floor(from / perBlock);
    for (const { offset, length } of this.#source.dataExtents(next * blockBytes, end)) {
      const last = Math.ceil(Math.min(end, offset + length) / blockBytes);
      for (next = Math.max(next, Math.floor(offset / blockBytes)); next < last; next++) yield this.#block(next);
    }
  }

  #block(index: number): { readonly index: number; readonly bytes: Uint8Array } {
    if (this.#cached?.index === index) return this.#cached;
    const { blockBytes } = this.addressing;
    const start = index * blockBytes;
    const bytes = new Uint8Array(Math.min(blockBytes, bitmapSectors(this.#sectors) * SECTOR_BYTES - start));
    this.#source.read(bytes, start);
    this.#cached = { index, bytes };
    return this.#cached;
  }
}

/** The ways in which a bitmap can be read without a bit that could not be set. */
export function possibleAddressings(source: ByteSource, sectors: number): readonly string[] {
  return [LINEAR, ...SOFT_BLOCK_SIZES.map(asCoded)]
    .filter((way) => new SectorBitmap(source, sectors, way).firstImpossible() === undefined)
    .map(({ name }) => name);
}
