/**
 * Owns compressed clusters as a source that is read at the offsets of the image: each is unpacked when it is first asked
 * for, and the last few are kept.
 */
import { constants, inflateRawSync, zstdDecompressSync } from "node:zlib";
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

  /** Only to be asked for parts that are compressed. */
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

  #cluster(offset: number): Uint8Array {
    const kept = this.#kept.get(offset);
    if (kept) return kept;
    const bytes = this.#unpack(offset);
    if ((this.#kept.size + 1) * this.#clusterBytes > CACHED_BYTES)
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    this.#kept.set(offset, bytes);
    return bytes;
  }

  #unpack(offset: number): Uint8Array {
    const place = this.#map.compressedAt(offset);
    const packed = new Uint8Array(Math.min(place.length, this.#source.sizeBytes - place.offset));
    const got = this.#source.read(packed, place.offset);
    const bytes = this.#decode(packed.subarray(0, got), place.offset);
    if (bytes.length === this.#clusterBytes) return bytes;
    throw this.#damaged(place.offset, `has only ${bytes.length} of ${this.#clusterBytes} bytes`);
  }

  /** What stands behind the end of the compressed stream, in its last sector, is no part of it. */
  #decode(packed: Uint8Array, at: number): Uint8Array {
    const maxOutputLength = this.#clusterBytes;
    try {
      if (this.#compression === "zlib") return inflateRawSync(packed, { maxOutputLength });
      return zstdDecompressSync(packed.subarray(0, zstdFrameBytes(packed)), {
        maxOutputLength,
        params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
      });
    } catch (error) {
      const why = error instanceof Error ? error.message.toLowerCase() : String(error);
      throw this.#damaged(at, `cannot be unpacked: ${why}`, error);
    }
  }

  #damaged(at: number, message: string, cause?: unknown): CowError {
    return new CowError("damaged", `the compressed cluster at ${atByte(at)} ${message}`, {
      file: this.name,
      details: { offset: at },
      cause,
    });
  }
}
