/**
 * Owns the answer to READ: how data, holes and errors in the middle are put into replies.
 */
import type { OnCacheMiss } from "../../device/block-device.ts";
import { Allocation, Chunk, CommandFlag, WireError } from "../../protocol/constants.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import { HEAD_BYTES_AT_MOST, type Outbox } from "../transmission/outbox.ts";
import type { Request } from "../transmission/request.ts";
import { wireErrorOf, wordsForClient } from "../transmission/wire-errors.ts";

/** Data goes out in pieces of at most this. */
const PIECE_BYTES = 512 * 1024;
/** Below this, asking for holes would cost more than sending zeros. */
const WORTH_ASKING_BYTES = 16 * 1024;
/** Up to this, a reply is one piece of data. */
export const SMALL_READ_BYTES = WORTH_ASKING_BYTES - 1;
/** A shorter hole is sent as data. */
const HOLE_BYTES = 4096;

/** How one connection's replies to READ are made. */
export interface ReplyWay {
  readonly image: LiveImage;
  readonly outbox: Outbox;
  /** Structured replies, or extended headers. */
  readonly structured: boolean;
  /** Empties the outbox. */
  readonly send: () => void;
}

/** How the data of a reply gets into the outbox: `gather` points to mapped data, and copies the rest. */
export type DataWay = "gather" | "copy";

/** Is the reply one piece of data, in which holes are not reported? */
export function isOnePiece({ length, flags }: Request, structured: boolean): boolean {
  if (length === 0 || length > PIECE_BYTES) return false;
  return !structured || length < WORTH_ASKING_BYTES || (flags & CommandFlag.DF) !== 0;
}

/**
 * Puts a piece of data into the outbox; there is room for it.
 *
 * @param head where the reply begins, or this part of it
 * @throws what reading threw, the outbox being as before
 */
function putPiece(
  { image, outbox }: ReplyWay,
  how: DataWay,
  request: Request,
  head: number,
  offset: number,
  length: number,
): void {
  const address = how === "gather" ? image.addressOf(offset, length) : 0;
  if (address > 0) {
    outbox.gather(address, length, offset);
    if (length === request.length) outbox.noteWhole(request, head);
    return;
  }
  const before = outbox.length;
  try {
    image.read(outbox.take(length), offset);
  } catch (error) {
    outbox.length = before;
    throw error;
  }
}

/**
 * Answers a READ whose range is in the image, however long its data takes.
 *
 * @returns false if the connection must end, since a simple reply can't take back what its head said
 * @throws what reading threw, while nothing of the reply has gone out
 */
export function answerRead(way: ReplyWay, how: DataWay, request: Request): boolean {
  if (!way.structured) return answerSimply(way, how, request);
  if (request.length === 0) way.outbox.chunk(request, Chunk.NONE, 0, true);
  else if ((request.flags & CommandFlag.DF) !== 0) answerInOneChunk(way, how, request);
  else answerInChunks(way, how, request);
  return true;
}

/** The head of a reply that is followed by all of its data. */
function putHead(outbox: Outbox, request: Request, structured: boolean): void {
  if (!structured) {
    outbox.simple(request, WireError.NONE);
    return;
  }
  outbox.chunk(request, Chunk.OFFSET_DATA, 8 + request.length, true);
  outbox.u64(request.offset);
}

/**
 * Answers a READ of one piece with its data where it is in memory; there is room for the head.
 *
 * @returns false if it is not, or not in one place: nothing was answered then
 */
export function answerGathered({ image, outbox, structured }: ReplyWay, request: Request): boolean {
  const address = image.addressOf(request.offset, request.length);
  if (address === 0) return false;
  const head = outbox.length;
  putHead(outbox, request, structured);
  outbox.gather(address, request.length, request.offset);
  outbox.noteWhole(request, head);
  return true;
}

/**
 * Answers a small READ if its data is there without waiting; there is room for it.
 *
 * @param onCacheMiss told where its data would have to be read from
 * @returns false if it would have to wait: nothing was answered then
 */
export function answerIfCached(
  { image, outbox, structured }: ReplyWay,
  request: Request,
  onCacheMiss: OnCacheMiss,
): boolean {
  const before = outbox.length;
  putHead(outbox, request, structured);
  if (image.tryRead(outbox.take(request.length), request.offset, onCacheMiss)) return true;
  outbox.length = before;
  return false;
}

function answerSimply(way: ReplyWay, how: DataWay, request: Request): boolean {
  const { outbox, send } = way;
  const start = outbox.length;
  outbox.simple(request, WireError.NONE);
  for (let done = 0; done < request.length; ) {
    const length = Math.min(PIECE_BYTES, request.length - done);
    if (outbox.room < length) send();
    try {
      putPiece(way, how, request, start, request.offset + done, length);
    } catch (error) {
      if (done > 0) return false;
      outbox.length = start;
      throw error;
    }
    done += length;
  }
  return true;
}

/** DF: one chunk for the whole request. Unreadable data is padded with zeros, and an error chunk says where. */
function answerInOneChunk(way: ReplyWay, how: DataWay, request: Request): void {
  const { outbox, send } = way;
  const start = outbox.length;
  const first = Math.min(PIECE_BYTES, request.length);
  outbox.chunk(request, Chunk.OFFSET_DATA, 8 + request.length, request.length <= PIECE_BYTES);
  outbox.u64(request.offset);
  let failure: { readonly error: unknown; readonly at: number } | undefined;
  for (let done = 0; done < request.length; ) {
    const length = done === 0 ? first : Math.min(PIECE_BYTES, request.length - done);
    if (outbox.room < length) send();
    try {
      if (failure) outbox.take(length).fill(0);
      else putPiece(way, how, request, start, request.offset + done, length);
    } catch (error) {
      if (request.length <= PIECE_BYTES) {
        outbox.length = start;
        throw error;
      }
      failure = { error, at: request.offset + done };
      continue;
    }
    done += length;
  }
  if (request.length <= PIECE_BYTES) return;
  if (outbox.room < HEAD_BYTES_AT_MOST + 2048) send();
  if (failure) outbox.error(request, wireErrorOf(failure.error), wordsForClient(failure.error), failure.at);
  else outbox.chunk(request, Chunk.NONE, 0, true);
}

function answerInChunks(way: ReplyWay, how: DataWay, request: Request): void {
  const { image, outbox, send } = way;
  const end = request.offset + request.length;
  let at = request.offset;
  for (const { length, isHole } of partsOf(image, request.offset, request.length)) {
    const stop = at + length;
    while (at < stop) {
      const piece = isHole ? stop - at : Math.min(PIECE_BYTES, stop - at);
      if (outbox.room < HEAD_BYTES_AT_MOST + 2048 + (isHole ? 0 : piece)) send();
      const before = outbox.length;
      try {
        if (isHole) {
          outbox.chunk(request, Chunk.OFFSET_HOLE, 12, at + piece === end);
          outbox.u64(at);
          outbox.u32(piece);
        } else {
          outbox.chunk(request, Chunk.OFFSET_DATA, 8 + piece, at + piece === end);
          outbox.u64(at);
          putPiece(way, how, request, before, at, piece);
        }
      } catch (error) {
        outbox.length = before;
        outbox.error(request, wireErrorOf(error), wordsForClient(error), at);
        return;
      }
      at += piece;
    }
  }
}

interface Part {
  length: number;
  readonly isHole: boolean;
}

/** The request as data and holes; short reads are data. */
function partsOf(image: LiveImage, offset: number, length: number): readonly Part[] {
  if (length < WORTH_ASKING_BYTES) return [{ length, isHole: false }];
  const parts: Part[] = [];
  image.status("allocation", offset, length, (extentBytes, flags) => {
    const isHole = (flags & Allocation.ZERO) !== 0 && extentBytes >= HOLE_BYTES;
    const last = parts.at(-1);
    if (last?.isHole === isHole) last.length += extentBytes;
    else parts.push({ length: extentBytes, isHole });
    return true;
  });
  return parts;
}
