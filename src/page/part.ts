/**
 * Owns how a part of a stack is named and coloured, the same in the tree and on the map. Pure, without the browser.
 */
import type { PagePart } from "../lib/control/page/page-document.ts";
import { visible } from "./format.ts";

/** The class of a part's colour: the base, the topmost, and five for those between, again and again. */
export function partColour(level: number, parts: number): string {
  if (level === -1) return "zeros";
  if (level < 0) return "unknown";
  if (level === 0) return "base";
  return level === parts - 1 ? "top" : `layer-${(level - 1) % 5}`;
}

/** The last part of its file's name. */
export function partFile({ role, text }: PagePart): string {
  return role === "discarded" ? "discarded writes" : visible(text.slice(text.lastIndexOf("/") + 1));
}

/** The same with the checkpoint that it is. */
export function partName(part: PagePart | undefined): string {
  if (!part) return "";
  return part.checkpoint === null ? partFile(part) : `${partFile(part)} @${visible(part.checkpoint)}`;
}
