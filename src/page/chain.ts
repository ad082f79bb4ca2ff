/**
 * Owns the chain of an export as a tree: the base as its root, each layer over what is below it, and who reads from which.
 */
import type { PagePart } from "../lib/control/page/page-document.ts";
import { el } from "./dom.ts";
import { count, size, visible } from "./format.ts";
import { partColour, partName } from "./part.ts";

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
  update(parts: readonly PagePart[], clients: number): void {
    const shown = JSON.stringify([parts, clients]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const all = parts.reduce((sum, { reads }) => sum + reads, 0);
    const users = el("li", { class: "users" }, clients === 1 ? "1 client" : `${clients} clients`);
    const items = parts.map((part, level) => this.#item(part, level, parts.length, all));
    this.#tree.replaceChildren(...items, users);
  }

  #item(part: PagePart, level: number, parts: number, allReads: number): HTMLElement {
    const { role, reads, shared_by, shown_bytes } = part;
    const facts = [
      ROLES[role],
      ...(shown_bytes === null ? [] : [`shows ${size(shown_bytes)}`]),
      `${count(reads)} reads${allReads > 0 ? ` (${Math.round((reads / allReads) * 100)} %)` : ""}`,
      ...(shared_by > 1 ? [`in ${shared_by} exports`] : []),
    ];
    const name = el("bdi", { title: visible(part.text) }, partName(part));
    const key = el("i", { class: `key ${partColour(level, parts)}` });
    return el("li", {}, key, el("strong", {}, name), el("small", {}, facts.join(" · ")));
  }
}
