/**
 * Owns a cowfile as a layer of a stack: which blocks are allocated and where. Read-only. Blocks beyond the base's end,
 * and blocks whose data is entirely beyond the file's end, do not count as allocated.
 */
import { type ByteSource, type Place, readZeroFilled } from "../../bytes/byte-source.ts";
import { type Extent, within } from "../../bytes/extent.ts";
import { CowError, shellWord } from "../../errors.ts";
import type { BaseIdentity, Layer } from "../format.ts";
import { BitmapReader } from "./bitmap-windows.ts";
import { type CowGeometry, judgeHead, requireGeometry } from "./geometry.ts";
import { type CowHead, decodeHead, isDirty } from "./head.ts";
import { BLOCK_BYTES, HEAD_BLOCK_BYTES } from "./layout.ts";
import { packKind } from "./pack/kind.ts";
import { identityOf } from "./resized.ts";

/** A cowfile's head as read, judged or not. */
export interface CowfileHead {
  readonly head: CowHead;
  /** The whole head block, which is preserved when the head is rewritten. */
  readonly headBlock: Uint8Array;
}

/** A cowfile whose head is usable. */
export interface OpenedCowfile extends CowfileHead {
  readonly geometry: CowGeometry;
}

/**
 * Reads the head of an unpacked cowfile.
 *
 * @throws CowError `bad-head`, `truncated`, `packed`
 */
export function readCowfileHead(source: ByteSource): CowfileHead {
  const kind = packKind(source);
  if (kind) {
    throw new CowError("packed", `is a packed cowfile (${kind})`, {
      file: source.name,
      details: { packed: kind },
      hints: [`\`cowtool unpack ${shellWord(source.name)} FILE\` makes one that can be changed`],
    });
  }
  const headBlock = new Uint8Array(HEAD_BLOCK_BYTES);
  const head = decodeHead(headBlock.subarray(0, source.read(headBlock, 0)), source.name);
  return { head, headBlock };
}

/**
 * Reads and judges the head of an unpacked cowfile.
 *
 * @throws CowError `bad-head`, `truncated`, `unsupported`, `packed`, `damaged`
 */
export function openCowfile(source: ByteSource): OpenedCowfile {
  const read = readCowfileHead(source);
  return { ...read, geometry: requireGeometry(judgeHead(read.head, source.sizeBytes, source.name), source.name) };
}

/** The blocks of the image whose data begins before the end of the file. */
export function reachableBlocks(source: ByteSource, geometry: CowGeometry): number {
  const inFile = Math.ceil((source.sizeBytes - geometry.dataOffsetBytes) / BLOCK_BYTES);
  return Math.min(geometry.rdoBlocks, Math.max(0, inFile));
}

export class CowfileLayer implements Layer {
  readonly formatId = "cowfile";
  readonly granularityBytes = BLOCK_BYTES;
  readonly source: ByteSource;
  readonly opened: OpenedCowfile;
  readonly #bitmap: BitmapReader;

  /** @throws CowError as openCowfile, and `dirty` unless that is allowed */
  constructor(source: ByteSource, options: { readonly allowDirty: boolean }) {
    this.source = source;
    this.opened = openCowfile(source);
    if (isDirty(this.opened.head) && !options.allowDirty) {
      throw new CowError("dirty", "is dirty: it was not closed, and blocks may be missing from its bitmap", {
        file: source.name,
        hints: [`run \`cowtool repair ${shellWord(source.name)}\` first`],
      });
    }
    this.#bitmap = new BitmapReader(source, this.opened.geometry);
  }

  get name(): string {
    return this.source.name;
  }

  /** Allocated blocks that do not count. */
  get warnings(): readonly string[] {
    const { rdoBlocks, mapSizeBytes } = this.opened.geometry;
    const lost = this.#bitmap.countMarked(reachableBlocks(this.source, this.opened.geometry), rdoBlocks);
    const beyond = this.#bitmap.countMarked(rdoBlocks, mapSizeBytes * 8);
    return [
      ...leftOut(lost, "beyond the end of the file, where no data is: the backing shows instead"),
      ...leftOut(beyond, "beyond the end of the image, and left out"),
    ];
  }

  get virtualSizeBytes(): number {
    return this.opened.geometry.virtualSizeBytes;
  }

  get base(): BaseIdentity {
    return identityOf(this.opened.head, this.opened.headBlock);
  }

  extents(from: number, to: number): Iterable<Extent> {
    const end = Math.min(reachableBlocks(this.source, this.opened.geometry), Math.ceil(to / BLOCK_BYTES));
    return this.#bitmap.markedExtents(Math.floor(from / BLOCK_BYTES), end);
  }

  *places(from: number, to: number): Generator<Place> {
    for (const { offset, length } of within(this.extents(from, to), from, to))
      yield { offset, length, source: this.source, at: this.locate(offset) };
  }

  /** The place of `offset` in `source`, for an allocated part. */
  locate(offset: number): number {
    return this.opened.geometry.dataOffsetBytes + offset;
  }

  /** Reads allocated bytes; the missing part of a short last block reads as zeros. */
  read(target: Uint8Array, offset: number): void {
    readZeroFilled(this.source, target, this.locate(offset));
  }
}

function leftOut(blocks: number, where: string): string[] {
  if (blocks === 0) return [];
  return [`${blocks} ${blocks === 1 ? "block is" : "blocks are"} allocated ${where}`];
}
