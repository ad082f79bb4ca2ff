/**
 * Owns a qcow2 file as a layer: which clusters are allocated, and where they are. Read-only. Its backing is the layer
 * below, not its own backing file.
 */
import type { ByteSource, Place } from "../../bytes/byte-source.ts";
import { coalesce, type Extent } from "../../bytes/extent.ts";
import type { BaseIdentity, Layer, OpenLayerOptions } from "../format.ts";
import { ClusterMap } from "./cluster-map.ts";
import { CompressedClusters } from "./compressed.ts";
import { compressionOf, requireReadable } from "./features.ts";
import { type Qcow2Header, readHeader } from "./header.ts";
import { SUBCLUSTERS } from "./layout.ts";

export class Qcow2Layer implements Layer {
  readonly formatId = "qcow2";
  readonly granularityBytes: number;
  readonly virtualSizeBytes: number;
  readonly header: Qcow2Header;
  readonly base: BaseIdentity = { blocks: undefined, blockBytes: 1, fingerprint: undefined };
  readonly #source: ByteSource;
  readonly #map: ClusterMap;
  readonly #compressed: ByteSource;
  readonly #zeros: ByteSource;

  /** @throws CowError `bad-head`, `truncated`, `unsupported`, `damaged` */
  constructor(source: ByteSource, options: Pick<OpenLayerOptions, "settings">) {
    const force = options.settings?.has("force") ?? false;
    this.header = readHeader(source);
    requireReadable(this.header, source.name, force);
    this.virtualSizeBytes = this.header.virtualSizeBytes;
    this.granularityBytes = this.header.extendedL2 ? this.header.clusterBytes / SUBCLUSTERS : this.header.clusterBytes;
    this.#source = source;
    this.#map = new ClusterMap(source, this.header, force);
    const compression = compressionOf(this.header) ?? "zlib";
    this.#compressed = new CompressedClusters(source, this.#map, this.header, compression);
    this.#zeros = zeros(source.name, this.virtualSizeBytes);
  }

  get name(): string {
    return this.#source.name;
  }

  extents(from: number, to: number): Iterable<Extent> {
    return coalesce(this.#map.runs(from, to));
  }

  *places(from: number, to: number): Generator<Place> {
    const sources = { data: this.#source, zero: this.#zeros, compressed: this.#compressed };
    for (const { kind, offset, length, at } of this.#map.runs(from, to))
      yield { offset, length, at, source: sources[kind], kind };
  }
}

function zeros(name: string, sizeBytes: number): ByteSource {
  return {
    name,
    sizeBytes,
    allocationUnitBytes: 1,
    seesHoles: true,
    read(target, offsetBytes) {
      const length = Math.max(0, Math.min(target.length, sizeBytes - offsetBytes));
      target.fill(0, 0, length);
      return length;
    },
    dataExtents: () => [],
  };
}
