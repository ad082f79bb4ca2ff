/**
 * Owns the names of layers that cowtool makes for a stack file by itself: a new top, a squashed layer.
 */
import * as path from "node:path";
import type { Storage } from "../device/storage.ts";

/** A file system takes 255 bytes; journals, records and temporary names add to it. */
const MAX_BYTES = 180;

/**
 * The first name that is not taken: `STEM-LABEL.cow`, `STEM-LABEL-2.cow`, …
 *
 * @param stackFile its path; STEM is its name without `.stack`
 * @param beside the new layer is in the directory of this one
 */
export function newLayerPath(storage: Storage, stackFile: string, beside: string, label: string): string {
  const stem = cut(`${path.basename(stackFile).replace(/\.stack$/, "")}-${label}`);
  for (let number = 1; ; number++) {
    const name = path.join(path.dirname(beside), `${stem}${number === 1 ? "" : `-${number}`}.cow`);
    if (!storage.facts(name, { own: true })) return name;
  }
}

/** Whole characters, as many as fit. */
function cut(text: string): string {
  let bytes = 0;
  let cut = "";
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > MAX_BYTES) break;
    cut += character;
  }
  return cut;
}
