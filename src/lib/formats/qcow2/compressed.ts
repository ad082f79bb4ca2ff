/**
 * Owns compressed clusters as a source at the offsets of the image: each is unpacked when it is first read, and the
 * last few are kept.
 */
import { promisify } from "node:util";
import { constants, inflateRaw, inflateRawSync, type ZstdOptions, zstdDecompress, zstdDecompressSync } from "node:zlib";
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { atByte, CowError } from "../../errors.ts";
import type { ClusterMap } from "./cluster-map.ts";
import type { Compression, Qcow2Header } from "./header.ts";
import { zstdFrameBytes } from "./zstd-frame.ts";

const CACHED_BYTES = 8 << 20;
/** No frame of a cluster needs a larger window than the largest cluster. */
const WINDOW_LOG_MAX = 22;

export class CompressedClusters implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly allocationUnitBytes: number;
  readonly seesHoles = false;
  readonly #source: ByteSource;
  readonly #map: ClusterMap;
  readonly #clusterBytes: number;
  readonly #compression: Compression;
  readonly #kept = new Map<number, Uint8Array>();

  constructor(source: ByteSource, map: ClusterMap, header: Qcow2Header, compression: Compression) {
    this.name = source.name;
    this.sizeBytes = header.virtualSizeBytes;
    this.allocationUnitBytes = header.clusterBytes;
    this.#source = source;
    this.#map = map;
    this.#clusterBytes = header.clusterBytes;
    this.#compression = compression;
  }

  /** Only for compressed parts. */
  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    for (let done = 0; done < length; ) {
      const offset = offsetBytes + done;
      const within = offset % this.#clusterBytes;
      const piece = Math.min(length - done, this.#clusterBytes - within);
      target.set(this.#cluster(offset - within).subarray(within, within + piece), done);
      done += piece;
    }
    return length;
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    const end = Math.min(to, this.sizeBytes);
    if (end > from) yield { offset: from, length: end - from };
  }

  readonly ahead = {
    mostBytes: CACHED_BYTES / 2,
    prepare: (offsetBytes: number, length: number): Promise<void> => this.#prepare(offsetBytes, length),
  };

  async #prepare(offsetBytes: number, length: number): Promise<void> {
    const first = Math.floor(offsetBytes / this.#clusterBytes) * this.#clusterBytes;
    const end = Math.min(offsetBytes + Math.min(length, this.ahead.mostBytes), this.sizeBytes);
    const offsets: number[] = [];
    for (let at = first; at < end; at += this.#clusterBytes) if (!this.#kept.has(at)) offsets.push(at);
    const unpacked = offsets.map((offset) => {
      const packed = this.#packed(offset);
      // A failure here happens again when it is read, and is reported there.
      return this.#inBackground(packed.bytes).then(
        (bytes) => bytes.length === this.#clusterBytes && this.#keep(offset, bytes),
        () => undefined,
      );
    });
    await Promise.all(unpacked);
  }

  #cluster(offset: number): Uint8Array {
    const kept = this.#kept.get(offset);
    if (kept) return kept;
    const { bytes: packed, at } = this.#packed(offset);
    const bytes = this.#decode(packed, at);
    if (bytes.length !== this.#clusterBytes)
      throw this.#damaged(at, `has only ${bytes.length} of ${this.#clusterBytes} bytes`);
    this.#keep(offset, bytes);
    return bytes;
  }

  #keep(offset: number, bytes: Uint8Array): void {
    if ((this.#kept.size + 1) * this.#clusterBytes > CACHED_BYTES)
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    this.#kept.set(offset, bytes);
  }

  /** A cluster as stored, and where. Bytes after the end of the compressed stream do not belong to it. */
  #packed(offset: number): { readonly bytes: Uint8Array; readonly at: number } {
    const place = this.#map.compressedAt(offset);
    const packed = new Uint8Array(Math.min(place.length, this.#source.sizeBytes - place.offset));
    const bytes = packed.subarray(0, this.#source.read(packed, place.offset));
    const isZlib = this.#compression === "zlib";
    return { bytes: isZlib ? bytes : bytes.subarray(0, zstdFrameBytes(bytes)), at: place.offset };
  }

  #decode(packed: Uint8Array, at: number): Uint8Array {
    try {
      if (this.#compression === "zlib") return inflateRawSync(packed, this.#options());
      return zstdDecompressSync(packed, this.#zstdOptions());
    } catch (error) {
      const why = error instanceof Error ? error.message.toLowerCase() : String(error);
      throw this.#damaged(at, `cannot be unpacked: ${why}`, error);
    }
  }

  /** The same on another thread. */
  #inBackground(packed: Uint8Array): Promise<Uint8Array> {
    if (this.#compression === "zlib")
      return promisify<Uint8Array, object, Uint8Array>(inflateRaw)(packed, this.#options());
    return promisify<Uint8Array, ZstdOptions, Uint8Array>(zstdDecompress)(packed, this.#zstdOptions());
  }

  /** Never more than a cluster, in one piece: joining many pieces takes a third of the time. */
  #options(): { readonly maxOutputLength: number; readonly chunkSize: number } {
    return { maxOutputLength: this.#clusterBytes, chunkSize: this.#clusterBytes + 64 };
  }

  #zstdOptions(): ZstdOptions {
    return { ...this.#options(), params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX } };
  }

  #damaged(at: number, message: string, cause?: unknown): CowError {
    return new CowError("damaged", `the compressed cluster at ${atByte(at)} ${message}`, {
      file: this.name,
      details: { offset: at },
      cause,
    });
  }
}
