/**
 * Owns copying between devices: by the kernel between files, through a buffer otherwise. The caller owns the order of
 * writes and flushes.
 */
import { type ByteSource, readZeroFilled } from "../bytes/byte-source.ts";
import type { BlockDevice } from "./block-device.ts";
import { copyFileRange } from "./sys/kernel-copy.ts";

const BUFFER_BYTES = 256 * 1024;

export interface CopyJob {
  readonly source: ByteSource;
  readonly sourceOffset: number;
  readonly target: BlockDevice;
  readonly targetOffset: number;
  readonly length: number;
}

/** Copies extents, remembering what the kernel cannot do between two files. One copier a job; not reentrant. */
export class Copier {
  #buffer: Uint8Array | undefined;
  #kernelRefused = false;

  /** Copies `length` bytes; beyond the source's end, zeros are written. */
  copy({ source, sourceOffset, target, targetOffset, length }: CopyJob): void {
    let done = this.#kernelRefused ? 0 : this.#copyInKernel(source, sourceOffset, target, targetOffset, length);
    while (done < length) {
      this.#buffer ??= new Uint8Array(BUFFER_BYTES);
      const piece = this.#buffer.subarray(0, Math.min(BUFFER_BYTES, length - done));
      readZeroFilled(source, piece, sourceOffset + done);
      target.write(piece, targetOffset + done);
      done += piece.length;
    }
  }

  #copyInKernel(
    source: ByteSource,
    sourceOffset: number,
    target: BlockDevice,
    targetOffset: number,
    length: number,
  ): number {
    const [from, to] = [(source as Partial<BlockDevice>).file, target.file];
    if (!from || !to || from.isBlockDevice || to.isBlockDevice) return 0;
    let done = 0;
    while (done < length) {
      const result = copyFileRange(
        from.fd,
        sourceOffset + done,
        to.fd,
        targetOffset + done,
        length - done,
        target.name,
      );
      if (result.unsupported) this.#kernelRefused = true;
      if (result.copied === 0) break;
      done += result.copied;
      to.noteWritten(targetOffset + done - result.copied, result.copied);
    }
    return done;
  }
}
