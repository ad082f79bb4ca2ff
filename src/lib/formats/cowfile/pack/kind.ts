/**
 * Owns recognising the three kinds of packs by their first bytes, never by their names.
 */
import type { ByteSource } from "../../../bytes/byte-source.ts";
import { isZstd } from "../../../bytes/zstd-seekable.ts";
import { CowError } from "../../../errors.ts";
import { decodeHead, hasCowMagic, isPacked } from "../head.ts";
import { HEAD_BLOCK_BYTES } from "../layout.ts";

export const PACK_KINDS = ["zstd", "gzip", "plain"] as const;
/** RFC 1952, 2.3.1: the only method there is, and the flags that must be zero. */
const DEFLATE = 8;
const RESERVED_FLAGS = 0xe0;

export type PackKind = (typeof PACK_KINDS)[number];

/** Does it begin as a gzip stream does? */
function isGzip(head: Uint8Array): boolean {
  return head[0] === 0x1f && head[1] === 0x8b;
}

/**
 * Does it begin with the header of a gzip member, as far as one byte can be told from another? Two bytes alone are the
 * beginning of one raw image in 65 536: what is only guessed at asks for the method (deflate) and the reserved flags too.
 */
export function hasGzipHeader(head: Uint8Array): boolean {
  return isGzip(head) && head[2] === DEFLATE && ((head[3] ?? RESERVED_FLAGS) & RESERVED_FLAGS) === 0;
}

/** The kind of pack a file is, or undefined for an unpacked cowfile and everything else. */
export function packKind(source: ByteSource): PackKind | undefined {
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  const head = block.subarray(0, source.read(block, 0));
  if (isGzip(head)) return "gzip";
  if (isZstd(head)) return "zstd";
  if (!hasCowMagic(head)) return undefined;
  return isPacked(decodeHead(head, source.name)) ? "plain" : undefined;
}

/** @throws CowError `unsuitable` for an unpacked cowfile, `bad-head` if it is not a cowfile at all */
export function requirePack(source: ByteSource): PackKind {
  const kind = packKind(source);
  if (kind) return kind;
  if (source.sizeBytes === 0)
    throw new CowError("bad-head", "is empty, and so no packed cowfile", { file: source.name });
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  decodeHead(block.subarray(0, source.read(block, 0)), source.name);
  throw new CowError("unsuitable", "is a cowfile, but not a packed one", { file: source.name });
}
