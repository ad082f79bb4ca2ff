/**
 * Owns opening a pack of any kind: as a payload from beginning to end, or as the cowfile it was made from.
 */
import { constants, gunzipSync } from "node:zlib";
import type { ByteSource, ByteTarget } from "../../../bytes/byte-source.ts";
import { release } from "../../../bytes/ordered.ts";
import { isZero } from "../../../bytes/zero.ts";
import { CowError } from "../../../errors.ts";
import { hasCowMagic } from "../head.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES, FLAG_PACKED, HEAD_BLOCK_BYTES } from "../layout.ts";
import { gunzipStream } from "./gzip-stream.ts";
import { type PackKind, packKind } from "./kind.ts";
import { PackedView } from "./packed-view.ts";
import { structBytes } from "./payload.ts";
import { decodePackedHead, PayloadUnpacker } from "./unpacker.ts";
import { ZstdPack } from "./zstd-pack.ts";

const CHUNK_BYTES = 4096;

export interface UnpackHooks {
  readonly concurrency: number;
  /** Receives the bytes of the payload done so far, and the total (0 if unknown). Throws to stop. */
  readonly onPiece: (doneBytes: number, totalBytes: number) => Promise<void> | void;
}

export interface Unpacked {
  readonly blocks: number;
  /** Bytes after the last block of a plain pack, left by the original's packing in place. */
  readonly trailingBytes: number;
  /** The head's count of `blocks`: if it differs, the driver refuses the unpacked file. */
  readonly usedInHead: bigint;
}

/** Is a file a pack of a cowfile, by its beginning and (for zstd) its seek table? */
export function looksPacked(source: ByteSource): boolean {
  try {
    const kind = packKind(source);
    if (kind === "gzip") return hasCowMagic(beginningOf(source));
    // Its constructor looks for the parts that other zstd files lack.
    return kind === "zstd" ? new ZstdPack(source) !== undefined : kind !== undefined;
  } catch (error) {
    if (error instanceof CowError && error.code === "io") throw error;
    return false;
  }
}

function beginningOf(source: ByteSource): Uint8Array {
  const bytes = new Uint8Array(CHUNK_BYTES);
  const input = bytes.subarray(0, source.read(bytes, 0));
  return gunzipSync(input, { finishFlush: constants.Z_SYNC_FLUSH });
}

/**
 * Writes the cowfile that a pack was made from into an empty target. All checksums of the pack are compared.
 *
 * @throws CowError `bad-head`, `truncated`, `damaged`, `unsupported`, `io`, `no-space`
 */
export async function unpackInto(
  target: ByteTarget,
  source: ByteSource,
  kind: PackKind,
  hooks: UnpackHooks,
): Promise<Unpacked> {
  if (kind === "plain") return unpackPlain(target, source, hooks);
  const unpacker = new PayloadUnpacker(target, source.name);
  const pack = kind === "zstd" ? new ZstdPack(source) : undefined;
  // The size of a gzip stream is known only at its end; before its first piece nothing is done yet.
  const tell = async (): Promise<void> =>
    hooks.onPiece(unpacker.takenBytes, pack?.payloadBytes ?? (unpacker.takenBytes > 0 ? 0 : 1));
  for await (const piece of pack ? pack.payload(hooks.concurrency) : gunzipStream(source, tell)) {
    unpacker.take(piece);
    release(piece);
    if (pack) await tell();
  }
  return { ...unpacker.finish(), trailingBytes: 0 };
}

async function unpackPlain(target: ByteTarget, source: ByteSource, hooks: UnpackHooks): Promise<Unpacked> {
  const view = new PackedView(source, "plain");
  const buffer = new Uint8Array(1 << 20);
  const total = view.blocks * BLOCK_BYTES;
  const { geometry } = decodePackedHead(headBlockOf(source), source.name);
  const bitmapEnd = BITMAP_OFFSET_BYTES + geometry.mapSizeBytes;
  target.resize(bitmapEnd);
  let done = 0;
  for (const { offset, length } of view.dataExtents(BITMAP_OFFSET_BYTES, view.sizeBytes)) {
    for (let at = offset; at < offset + length; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, offset + length - at));
      view.read(piece, at);
      if (at < bitmapEnd) writeBitmap(target, piece, at);
      else target.write(piece, at);
      done += piece.length;
      await hooks.onPiece(done, Math.max(done, total));
    }
  }
  target.write(structBytes(view.head, view.head.flags & ~FLAG_PACKED), 0);
  return { blocks: view.blocks, trailingBytes: Math.max(0, view.surplusBytes), usedInHead: view.head.used };
}

/** Only set bits: elsewhere the new file keeps its hole. */
function writeBitmap(target: ByteTarget, piece: Uint8Array, offset: number): void {
  for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
    const chunk = piece.subarray(at, at + CHUNK_BYTES);
    if (!isZero(chunk)) target.write(chunk, offset + at);
  }
}

function headBlockOf(source: ByteSource): Uint8Array {
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  return block.subarray(0, source.read(block, 0));
}
