/**
 * Owns the rules for requests; those that break a rule are refused with the protocol's number for it. Pure.
 */

import { Command, CommandFlag, MAX_PAYLOAD_BYTES, WireError } from "../../protocol/constants.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import type { Request } from "./request.ts";
import { Refusal } from "./wire-errors.ts";

/** Flags that each command takes, without those that need extended headers. FUA is taken everywhere. */
const FLAGS: Readonly<Record<number, number>> = {
  [Command.READ]: CommandFlag.FUA | CommandFlag.DF,
  [Command.WRITE]: CommandFlag.FUA,
  [Command.FLUSH]: CommandFlag.FUA,
  [Command.TRIM]: CommandFlag.FUA,
  [Command.CACHE]: CommandFlag.FUA,
  [Command.WRITE_ZEROES]: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
  [Command.BLOCK_STATUS]: CommandFlag.FUA | CommandFlag.REQ_ONE,
};

/** @throws Refusal EINVAL for unknown commands and flags */
export function requireKnown({ type, flags }: Request, structured: boolean): void {
  const known = FLAGS[type];
  if (known === undefined) throw new Refusal(WireError.EINVAL, `unknown command ${type}`);
  const unknown = flags & ~known;
  if (unknown !== 0) throw new Refusal(WireError.EINVAL, `command ${type} takes no flag 0x${unknown.toString(16)}`);
  if ((flags & CommandFlag.DF) !== 0 && !structured) throw new Refusal(WireError.EINVAL, "DF needs structured replies");
}

/** @throws Refusal `beyond` if it reaches beyond the end of the image */
export function requireRange(
  { offset, length }: Pick<Request, "offset" | "length">,
  image: LiveImage,
  beyond: number,
): void {
  const size = image.sizeBytes;
  if (offset <= size && length <= size - offset) return;
  // The offset in an error must be within its request.
  const at = Math.max(offset, size);
  const isNamed = Number.isSafeInteger(at) && at < offset + length;
  throw new Refusal(beyond, `the request ends beyond the image, which has ${size} bytes`, isNamed ? at : undefined);
}

/** @throws Refusal EPERM */
export function requireWritable(image: LiveImage): void {
  if (!image.writable) throw new Refusal(WireError.EPERM, "this export is read-only");
}

/** Judges a request with a payload. @throws Refusal EINVAL, EPERM, ENOSPC */
export function requireWrite(request: Request, image: LiveImage, extended: boolean): void {
  if (request.type !== Command.WRITE) throw new Refusal(WireError.EINVAL, `command ${request.type} takes no payload`);
  const unknown = request.flags & ~(extended ? CommandFlag.FUA | CommandFlag.PAYLOAD_LEN : CommandFlag.FUA);
  if (unknown !== 0) throw new Refusal(WireError.EINVAL, `WRITE takes no flag 0x${unknown.toString(16)}`);
  requireWritable(image);
  if (request.length > MAX_PAYLOAD_BYTES)
    throw new Refusal(WireError.EINVAL, `a WRITE has at most ${MAX_PAYLOAD_BYTES} bytes`);
  requireRange(request, image, WireError.ENOSPC);
}

/** @throws Refusal EINVAL */
export function requireRead(request: Request, image: LiveImage): void {
  requireRange(request, image, WireError.EINVAL);
  if (request.length > MAX_PAYLOAD_BYTES)
    throw new Refusal(WireError.EINVAL, `a READ asks for at most ${MAX_PAYLOAD_BYTES} bytes`);
}
