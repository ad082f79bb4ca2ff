/**
 * Owns what a connection works with: the image of its thread, and its way through the gate to it.
 */
import type { Passage } from "../../stack/live/gate.ts";
import type { LiveImage } from "../../stack/live/image.ts";

export interface Entered {
  readonly image: LiveImage;
  readonly passage: Passage;
}
