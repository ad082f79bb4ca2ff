/**
 * Owns a layer by itself as a source: what it holds, at the offsets of the image. The rest is holes.
 */
import { type ByteSource, readZeroFilled } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";
import type { Layer, Place } from "./format.ts";

export function layerContent(layer: Layer): ByteSource {
  return {
    name: layer.name,
    sizeBytes: layer.virtualSizeBytes,
    allocationUnitBytes: layer.granularityBytes,
    seesHoles: true,
    read(target, offsetBytes) {
      const size = Math.max(0, Math.min(target.length, layer.virtualSizeBytes - offsetBytes));
      let at = offsetBytes;
      for (const place of layer.places(offsetBytes, offsetBytes + size)) {
        const start = place.offset - offsetBytes;
        target.fill(0, at - offsetBytes, start);
        readZeroFilled(place.source, target.subarray(start, start + place.length), place.at);
        at = place.offset + place.length;
      }
      target.fill(0, at - offsetBytes, size);
      return size;
    },
    dataExtents: (from, to) => heldData(layer, from, Math.min(to, layer.virtualSizeBytes)),
  };
}

/** What a layer holds of `[from, to)` and is no hole where its bytes lie. */
export function heldData(layer: Layer, from: number, to: number): Generator<Extent> {
  return dataPlaces(layer.places(from, to));
}

/** What of places is no hole where their bytes are. */
export function* dataPlaces(places: Iterable<Place>): Generator<Place> {
  for (const place of places) {
    const { offset, length, source, at } = place;
    if (length === 0) yield place;
    for (const data of source.dataExtents(at, at + length))
      yield { offset: offset + data.offset - at, length: data.length, source, at: data.offset };
  }
}
