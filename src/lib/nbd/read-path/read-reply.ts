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
/** Below this, a question for holes would cost more than the zeros. */
const WORTH_ASKING_BYTES = 16 * 1024;
/** Up to this, a reply is one piece of data. */
export const SMALL_READ_BYTES = WORTH_ASKING_BYTES - 1;
/** A shorter hole is sent as data. */
const HOLE_BYTES = 4096;

/**
 * Reads a piece into the outbox, or refers to it where it lies; there is room for it.
 *
 * @param head where the reply begins, or this part of it
 * @throws what reading threw, the outbox being as before
 */
function readPiece(
  image: LiveImage,
  outbox: Outbox,
  request: Request,
  head: number,
  offset: number,
  length: number,
): void {
  const address = outbox.mayRefer ? image.addressOf(offset, length) : 0;
  if (address > 0) {
    outbox.refer(address, length, offset);
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
 * Answers a READ whose range is in the image.
 *
 * @param send empties the outbox
 * @returns false if the connection must end, since a simple reply can't take back what its head said
 * @throws what reading threw, while nothing of the reply has gone out
 */
export function answerRead(
  image: LiveImage,
  outbox: Outbox,
  request: Request,
  structured: boolean,
  send: () => void,
): boolean {
  if (!structured) return answerSimply(image, outbox, request, send);
  if (request.length === 0) outbox.chunk(request, Chunk.NONE, 0, true);
  else if ((request.flags & CommandFlag.DF) !== 0) answerInOneChunk(image, outbox, request, send);
  else answerInChunks(image, outbox, request, send);
  return true;
}

/** The head of a reply behind which all of its data stands. */
function putHead(outbox: Outbox, request: Request, structured: boolean): void {
  if (!structured) {
    outbox.simple(request, WireError.NONE);
    return;
  }
  outbox.chunk(request, Chunk.OFFSET_DATA, 8 + request.length, true);
  outbox.u64(request.offset);
}

/**
 * Answers a READ with its data where it lies in memory, if it all lies there in one place; there is room for the head.
 *
 * @returns false if not, or if holes in it might be told as such: then nothing was answered
 */
export function answerByReference(image: LiveImage, outbox: Outbox, request: Request, structured: boolean): boolean {
  const { offset, length } = request;
  if (!outbox.mayRefer || length === 0 || length > PIECE_BYTES) return false;
  if (structured && length >= WORTH_ASKING_BYTES && (request.flags & CommandFlag.DF) === 0) return false;
  const address = image.addressOf(offset, length);
  // It is not asked again when the data is read.
  outbox.mayRefer = false;
  if (address === 0) return false;
  const head = outbox.length;
  putHead(outbox, request, structured);
  outbox.refer(address, length, offset);
  outbox.noteWhole(request, head);
  return true;
}

/**
 * Answers a small READ if its data is there without waiting; there is room for it.
 *
 * @param onCacheMiss told where its data would have to be read from
 * @returns false if it would have to wait: then nothing was answered
 */
export function answerIfCached(
  image: LiveImage,
  outbox: Outbox,
  request: Request,
  structured: boolean,
  onCacheMiss: OnCacheMiss,
): boolean {
  const before = outbox.length;
  putHead(outbox, request, structured);
  if (image.tryRead(outbox.take(request.length), request.offset, onCacheMiss)) return true;
  outbox.length = before;
  return false;
}

function answerSimply(image: LiveImage, outbox: Outbox, request: Request, send: () => void): boolean {
  const start = outbox.length;
  outbox.simple(request, WireError.NONE);
  for (let done = 0; done < request.length; ) {
    const length = Math.min(PIECE_BYTES, request.length - done);
    if (outbox.room < length) send();
    try {
      readPiece(image, outbox, request, start, request.offset + done, length);
    } catch (error) {
      if (done > 0) return false;
      outbox.length = start;
      throw error;
    }
    done += length;
  }
  return true;
}

/** DF: one chunk with all of it. What can't be read is padded with zeros, and an error chunk says where. */
function answerInOneChunk(image: LiveImage, outbox: Outbox, request: Request, send: () => void): void {
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
      else readPiece(image, outbox, request, start, request.offset + done, length);
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

function answerInChunks(image: LiveImage, outbox: Outbox, request: Request, send: () => void): void {
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
          readPiece(image, outbox, request, before, at, piece);
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
