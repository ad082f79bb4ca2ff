/**
 * Owns the chain of an export as a tree: the base as its root, each layer over what is below it, and who reads from which.
 */
import type { PagePart } from "../lib/control/page/page-document.ts";
import { el } from "./dom.ts";
import { count, duration, size, visible } from "./format.ts";
import { partColour, partFile } from "./part.ts";

const ROLES: Readonly<Record<PagePart["role"], string>> = {
  base: "base",
  layer: "layer",
  written: "layer, written",
  discarded: "writes that are discarded",
};

export class Chain {
  readonly element: HTMLElement;
  readonly #tree = el("ul", { class: "tree" });
  #shown = "";

  constructor() {
    this.element = el("figure", { class: "wide" }, el("figcaption", {}, "Chain, base first"), this.#tree);
  }

  /** @param clients that use the export */
  update(parts: readonly PagePart[], clients: number, nowMs: number): void {
    const ages = parts.map(({ checkpoint_ms }) => ageOf(checkpoint_ms, nowMs));
    const shown = JSON.stringify([parts, clients, ages]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const all = parts.reduce((sum, { reads }) => sum + reads, 0);
    const users = el("li", { class: "users" }, clients === 1 ? "1 client" : `${clients} clients`);
    const items = parts.map((part, level) => this.#item(part, level, parts.length, all, ages[level]));
    this.#tree.replaceChildren(...items, users);
  }

  #item(part: PagePart, level: number, parts: number, allReads: number, age: string | undefined): HTMLElement {
    const { role, reads, shared_by, shown_bytes, held_bytes, checkpoint } = part;
    const facts = [
      checkpoint === null ? ROLES[role] : `checkpoint, ${age}`,
      ...(held_bytes === null ? [] : [`holds ${size(held_bytes)}`]),
      ...(shown_bytes === null ? [] : [`shows ${size(shown_bytes)}`]),
      `${count(reads)} reads${allReads > 0 ? ` (${Math.round((reads / allReads) * 100)} %)` : ""}`,
      ...(shared_by > 1 ? [`in ${shared_by} exports`] : []),
    ];
    const name = el("bdi", { title: visible(part.text) }, partFile(part));
    const key = el("i", { class: `key ${partColour(level, parts)}` });
    const badge = checkpoint === null ? [] : [el("bdi", { class: "checkpoint" }, `@${visible(checkpoint)}`)];
    return el("li", {}, key, el("strong", {}, name), ...badge, el("small", {}, facts.join(" · ")));
  }
}

/** `3 h 20 min old` */
function ageOf(madeMs: number | null, nowMs: number): string {
  return madeMs === null ? "" : `${duration(Math.max(0, nowMs - madeMs))} old`;
}
