/**
 * Owns `hash`: the checksum of what a stack shows, as `blksum` computes it: the digest of the digests of
 * all blocks, and of the image's length. A block in a hole is neither read nor hashed anew.
 *
 * https://github.com/nirs/blkhash: H(H(block 1) ‖ … ‖ H(block N) ‖ length), the length in 8 bytes, little-endian; the last
 * block may be shorter than the others.
 */
import { createHash, type Hash } from "node:crypto";
import { readZeroFilled } from "../bytes/byte-source.ts";
import { complement, inOrder, widen } from "../bytes/extent.ts";
import { isZero } from "../bytes/zero.ts";
import { interrupted, makePause, type OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import { LayeredImage } from "../formats/layered-image.ts";
import type { StackSpec } from "../stack/spec.ts";
import { OpenFiles } from "./files.ts";
import type { HashDigest, HashRequest, HashResult } from "./hash-request.ts";

const USUAL_BLOCK_BYTES = 64 * 1024;
const MAX_BLOCK_BYTES = 64 << 20;
/** How many digests of zero blocks are passed to the outer digest in one call. */
const ZEROS_AT_ONCE = 4096;

/** @throws CowError `usage` for a block size, as for opening a stack; `io`, `interrupted` */
export async function hash(
  stack: string | StackSpec,
  request: HashRequest = {},
  context: OperationContext = {},
): Promise<HashResult> {
  const { digest = "sha256", blockBytes = USUAL_BLOCK_BYTES } = request;
  if (!Number.isInteger(Math.log2(blockBytes)) || blockBytes > MAX_BLOCK_BYTES)
    throw new CowError("usage", `a block size of ${blockBytes} bytes is no power of two up to ${MAX_BLOCK_BYTES}`);
  return OpenFiles.during(context, async (files) => {
    const spec = files.stackSpec(stack);
    const { device, base, layers } = await files.openStack(spec);
    const { sizeBytes } = device;
    const view = new LayeredImage(base.name, base, layers);
    const pause = makePause(context.signal, () => interrupted(spec.text, "nothing was changed"));
    const blocks = new BlockDigests(digest, blockBytes, sizeBytes);
    const data = () => widen(view.dataExtents(0, sizeBytes), blockBytes, sizeBytes);
    const parts = inOrder(marked(data(), true), marked(complement(data(), 0, sizeBytes), false));
    const buffer = new Uint8Array(Math.max(blockBytes, 1 << 20));
    let read = 0;
    for (const { offset, length, isData } of parts) {
      await pause();
      if (!isData) blocks.zeros(offset, length);
      for (let at = offset; isData && at < offset + length; at += buffer.length) {
        const piece = buffer.subarray(0, Math.min(buffer.length, offset + length - at));
        readZeroFilled(device, piece, at);
        blocks.data(piece);
        read += piece.length;
        context.onProgress?.({ phase: "hashing", done: at + piece.length, total: sizeBytes, unit: "bytes" });
        await pause();
      }
    }
    const about = { stack: spec.text, algorithm: "blkhash", digest, block_size: blockBytes } as const;
    return { ...about, virtual_size: sizeBytes, hash: blocks.finish(), bytes_read: read };
  });
}

function* marked(extents: Iterable<{ readonly offset: number; readonly length: number }>, isData: boolean) {
  for (const { offset, length } of extents) yield { offset, length, isData };
}

/** The digests of blocks, ascending, and the digest of all of them. */
class BlockDigests {
  readonly #digest: HashDigest;
  readonly #blockBytes: number;
  readonly #sizeBytes: number;
  readonly #outer: Hash;
  readonly #zeroBlock: Buffer;
  readonly #zeroBlocks: Buffer;

  constructor(digest: HashDigest, blockBytes: number, sizeBytes: number) {
    this.#digest = digest;
    this.#blockBytes = blockBytes;
    this.#sizeBytes = sizeBytes;
    this.#outer = createHash(digest);
    this.#zeroBlock = this.#of(new Uint8Array(blockBytes));
    this.#zeroBlocks = Buffer.alloc(this.#zeroBlock.length * ZEROS_AT_ONCE, this.#zeroBlock);
  }

  #of(block: Uint8Array): Buffer {
    return createHash(this.#digest).update(block).digest();
  }

  /** Whole blocks; the image's last one may be shorter. */
  data(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; at += this.#blockBytes) {
      const block = piece.subarray(at, at + this.#blockBytes);
      const isUsualZero = block.length === this.#blockBytes && isZero(block);
      this.#outer.update(isUsualZero ? this.#zeroBlock : this.#of(block));
    }
  }

  zeros(offset: number, length: number): void {
    const whole = Math.floor(length / this.#blockBytes);
    for (let done = 0; done < whole; done += ZEROS_AT_ONCE)
      this.#outer.update(this.#zeroBlocks.subarray(0, Math.min(ZEROS_AT_ONCE, whole - done) * this.#zeroBlock.length));
    const rest = length % this.#blockBytes;
    if (rest > 0) this.#outer.update(this.#of(new Uint8Array(Math.min(rest, this.#sizeBytes - offset))));
  }

  finish(): string {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(this.#sizeBytes));
    return this.#outer.update(length).digest("hex");
  }
}
