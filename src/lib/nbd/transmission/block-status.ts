/**
 * Owns the answer to BLOCK_STATUS: one chunk for each selected context, neighbours with equal flags merged.
 */

import { Chunk, CommandFlag } from "../../protocol/constants.ts";
import type { LiveImage, StatusKind } from "../../stack/live/image.ts";
import type { Negotiated } from "../handshake/export.ts";
import { HEAD_BYTES_AT_MOST, type Outbox } from "./outbox.ts";
import type { Request } from "./request.ts";

/** This many extents fit into the outbox, in either size; for more, a client asks again after the last one. */
const EXTENTS_AT_MOST = 32 * 1024;
/** Of all contexts together, which are in memory at once. */
const ALL_EXTENTS_AT_MOST = 4 * EXTENTS_AT_MOST;
/** An extent of a compact reply has 32 bits for its length. */
const COMPACT_LENGTH_AT_MOST = 0xffff_ffff;

interface Extents {
  readonly lengths: number[];
  readonly flags: number[];
}

/** Answers a BLOCK_STATUS whose range is in the image. @throws what the image threw, while nothing has gone out */
export function answerBlockStatus(
  image: LiveImage,
  outbox: Outbox,
  request: Request,
  negotiated: Negotiated,
  send: () => void,
): void {
  const { contexts } = negotiated;
  const share = Math.min(EXTENTS_AT_MOST, Math.floor(ALL_EXTENTS_AT_MOST / contexts.length));
  const limit = (request.flags & CommandFlag.REQ_ONE) !== 0 ? 1 : share;
  // All are looked up before the first is sent: a failure must be the whole answer, not half of one.
  const found = contexts.map(({ id, kind }) => ({ id, extents: collect(image, kind, request, limit) }));
  const entryBytes = negotiated.extendedHeaders ? 16 : 8;
  for (const [i, { id, extents }] of found.entries()) {
    const count = extents.lengths.length;
    const payload = (negotiated.extendedHeaders ? 8 : 4) + count * entryBytes;
    if (outbox.room < HEAD_BYTES_AT_MOST + 8 + payload) send();
    const type = negotiated.extendedHeaders ? Chunk.BLOCK_STATUS_EXT : Chunk.BLOCK_STATUS;
    outbox.chunk(request, type, payload, i === found.length - 1);
    outbox.u32(id);
    if (negotiated.extendedHeaders) outbox.u32(count);
    for (let k = 0; k < count; k++) {
      const [length, flags] = [extents.lengths[k] ?? 0, extents.flags[k] ?? 0];
      if (negotiated.extendedHeaders) {
        outbox.u64(length);
        outbox.u64(flags);
      } else {
        outbox.u32(Math.min(length, COMPACT_LENGTH_AT_MOST));
        outbox.u32(flags);
      }
    }
  }
}

function collect(image: LiveImage, kind: StatusKind, { offset, length }: Request, limit: number): Extents {
  const lengths: number[] = [];
  const flags: number[] = [];
  image.status(kind, offset, length, (extentBytes, extentFlags) => {
    const last = lengths.length - 1;
    if (flags[last] === extentFlags) lengths[last] = (lengths[last] ?? 0) + extentBytes;
    else if (lengths.length === limit) return false;
    else {
      lengths.push(extentBytes);
      flags.push(extentFlags);
    }
    return true;
  });
  return { lengths, flags };
}
