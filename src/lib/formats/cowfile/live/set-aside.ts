/**
 * Owns the blocks of a cowfile that a session of ours wrote and no flush covered, after a restart of the machine. They
 * may not be whole, so they are not shown; they may be all that is left of answered writes, so they are copied to a
 * cowfile of their own before they are removed.
 */

import { clearRuns } from "../../../bytes/bitmap.ts";
import type { ByteSource, ByteTarget } from "../../../bytes/byte-source.ts";
import { readZeroFilled } from "../../../bytes/byte-source.ts";
import { type Extent, listed, subtract, union } from "../../../bytes/extent.ts";
import { ExtentCursor } from "../../../bytes/extent-cursor.ts";
import { isZero } from "../../../bytes/zero.ts";
import { shellWord } from "../../../errors.ts";
import type { CowGeometry } from "../geometry.ts";
import { fingerprint32 } from "../head.ts";
import type { OpenedCowfile } from "../layer.ts";
import { BLOCK_BYTES } from "../layout.ts";
import { readResized } from "../resized.ts";
import { type MarksAt, marksOnDisk, unmarkedPieces } from "../unmarked-data.ts";
import { CowfileWriter } from "../writer.ts";
import { type LastSession, MAX_AHEAD } from "./last-session.ts";
import { type LiveStamp, STAMP_SECTOR_BYTES, writeStamp } from "./stamp.ts";
import { extentsOfRuns } from "./sweep.ts";

/** The suffix of the file for such blocks. */
export const SET_ASIDE_SUFFIX = ".cowtool-unflushed";
const PIECE_BYTES = 1 << 20;
/** 64 MiB. */
const STEP_BLOCKS = 1 << 16;
/** What marksAt promises at least. */
const MARKS_BLOCKS = 1024;

/**
 * The blocks in doubt: unallocated blocks with data, and blocks in the journal if it is of the same moment (zeros,
 * which no search finds). As extents of the image, ascending, an array for every 64 MiB, so that callers can pause.
 *
 * @throws CowError `io`
 */
export function* blocksInDoubt(
  source: ByteSource,
  geometry: CowGeometry,
  session: Extract<LastSession, { kind: "restarted" }>,
  marksAt: MarksAt = marksOnDisk(source, geometry),
): Generator<readonly Extent[]> {
  const named = new ExtentCursor(extentsOfRuns(session.named, geometry));
  const known = new ExtentCursor(union(extentsOfRuns(session.kept, geometry), extentsOfRuns(session.runs, geometry)));
  for (let from = 0; from < geometry.rdoBlocks; from += STEP_BLOCKS) {
    const to = Math.min(geometry.rdoBlocks, from + STEP_BLOCKS);
    const end = to * BLOCK_BYTES;
    const found = inOneRow(unmarkedPieces(source, geometry, marksAt, { from, to }));
    const here = union(found, unmarkedParts(named.allBelow(end), marksAt));
    yield listed(subtract(here, [...known.allBelow(end)]));
  }
}

function* inOneRow(pieces: Iterable<readonly Extent[]>): Generator<Extent> {
  for (const piece of pieces) yield* piece;
}

/** The unallocated blocks of these extents. */
function* unmarkedParts(extents: Iterable<Extent>, marksAt: MarksAt): Generator<Extent> {
  for (const { offset, length } of extents) {
    const end = (offset + length) / BLOCK_BYTES;
    for (let block = offset / BLOCK_BYTES; block < end; ) {
      const stop = Math.min(end, (Math.floor(block / MARKS_BLOCKS) + 1) * MARKS_BLOCKS);
      const { bytes, firstBlock } = marksAt(block);
      for (const [from, to] of clearRuns(bytes, block - firstBlock, stop - firstBlock))
        yield { offset: (firstBlock + from) * BLOCK_BYTES, length: (to - from) * BLOCK_BYTES };
      block = stop;
    }
  }
}

/**
 * Makes the journal older than its cowfile, durably: from then on the blocks that it names may be removed. Otherwise,
 * after another kill, the holes would look like zeros that were written; and if the files were moved back to a machine
 * that was not restarted, they would be shown.
 *
 * @returns the stamp as it is now
 * @throws CowError `io`
 */
export function outdateJournal(target: ByteTarget, stamp: LiveStamp): LiveStamp {
  const next = { ...stamp, generation: stamp.generation + MAX_AHEAD + 1 };
  const sector = new Uint8Array(STAMP_SECTOR_BYTES);
  target.read(sector, 0);
  writeStamp(next, sector);
  target.write(sector, 0);
  target.flush();
  return next;
}

/** The message about such blocks. @param file undefined if it is not made yet */
export function unflushedWords(blocks: number, file: string | undefined): string {
  const many = `${blocks} ${blocks === 1 ? "block was" : "blocks were"} written before the machine was restarted and not flushed`;
  const moved =
    file === undefined
      ? "to be moved to a cowfile of their own"
      : `moved to ${file}: \`cowtool merge BASE,COWFILE ${shellWord(file)}\` brings them back`;
  return `${many}: whether they are whole is not known; ${moved}`;
}

/** A new cowfile of the same ABI over the same base, which takes copies of blocks. */
export class AsideCopy {
  readonly #source: ByteSource;
  readonly #opened: OpenedCowfile;
  readonly #target: ByteTarget;
  readonly #writer: CowfileWriter;
  readonly #buffer = new Uint8Array(PIECE_BYTES);

  /** @param target an empty file */
  constructor(source: ByteSource, opened: OpenedCowfile, target: ByteTarget) {
    const { head, geometry } = opened;
    this.#source = source;
    this.#opened = opened;
    this.#target = target;
    const fingerprint = fingerprint32(head);
    const { rdoBlocks } = geometry;
    const baseBlocks = readResized(head, opened.headBlock);
    this.#writer = new CowfileWriter(target, { abi: head.abi, rdoBlocks, baseBlocks, fingerprint });
  }

  /** Copies blocks after those copied before. @param extents of the image, ascending @throws CowError `io`, `no-space` */
  add(extents: Iterable<Extent>): void {
    for (const { offset, length } of extents) {
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, offset + length - at));
        readZeroFilled(this.#source, piece, this.#opened.geometry.dataOffsetBytes + at);
        if (isZero(piece)) this.#writer.zeros(at, piece.length);
        else for (const to of this.#writer.data(at, piece.length)) this.#target.write(piece, to.at);
      }
    }
  }

  /** Completes the file, except for the flush. @throws CowError `io`, `no-space` */
  finish(): void {
    this.#writer.finish();
  }
}
