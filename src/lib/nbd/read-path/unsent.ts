/**
 * Owns the replies whose mapped data could not be read: each is answered again in the way that waits for the disk, or
 * fails, by itself.
 */
import type { LiveImage } from "../../stack/live/image.ts";
import { OUTBOX_BYTES, type Outbox } from "../transmission/outbox.ts";
import type { Request } from "../transmission/request.ts";
import type { Unsent } from "./gather-list.ts";

const PIECE_BYTES = OUTBOX_BYTES / 4;

/**
 * Sends the rest.
 *
 * @param answer answers a READ of which nothing has gone out, and copies its data
 * @returns false where the connection must end, in the middle of a reply that said there was data
 */
export function sendAgain(
  unsent: readonly Unsent[],
  image: LiveImage,
  outbox: Outbox,
  answer: (request: Request) => void,
): boolean {
  for (const part of unsent) {
    if (part.kind === "reply") answer(part.request);
    else if (part.kind === "bytes") pass(part.bytes, outbox);
    else if (!readRest(part.offset, part.length, image, outbox)) return false;
  }
  outbox.flush();
  return true;
}

function pass(bytes: Uint8Array, outbox: Outbox): void {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    if (outbox.room < piece.length) outbox.flush();
    outbox.take(piece.length).set(piece);
  }
}

function readRest(offset: number, length: number, image: LiveImage, outbox: Outbox): boolean {
  for (let done = 0; done < length; done += PIECE_BYTES) {
    if (outbox.room < PIECE_BYTES) outbox.flush();
    const before = outbox.length;
    try {
      image.read(outbox.take(Math.min(PIECE_BYTES, length - done)), offset + done);
    } catch {
      outbox.length = before;
      outbox.flush();
      return false;
    }
  }
  return true;
}
