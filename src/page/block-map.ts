/**
 * Owns the picture of an image: cells in the colour of the part of the stack that holds most of each, with a dot where it was
 * written lately. The legend is a table of the parts; arrow keys go from cell to cell, and the line below tells what is there.
 */
import type { PageLook, PageMap } from "../lib/control/page/page-document.ts";
import { el, setAttribute, setText, svg } from "./dom.ts";
import { duration, size } from "./format.ts";
import { partColour, partName } from "./part.ts";

const WIDE = 64;
const NARROW = 32;
/** Parts that are named one by one. */
const NAMED_AT_MOST = 12;

export class BlockMap {
  readonly element: HTMLElement;
  readonly #picture = svg("svg", { "aria-hidden": "true" });
  readonly #told = el("p", { class: "told", "aria-live": "polite" });
  readonly #legend = el("tbody");
  readonly #caption = el("p", { class: "note" });
  readonly #box: HTMLElement;
  readonly #narrow = matchMedia("(max-width: 40rem)");
  #cells: { readonly cell: SVGRectElement; readonly dot: SVGCircleElement }[] = [];
  readonly #cursor = svg("rect", { class: "cursor", width: 1, height: 1, visibility: "hidden" });
  #columns = WIDE;
  #at: number | undefined;
  #look: PageLook | undefined;

  constructor() {
    const label = "Block map: arrow keys go from cell to cell";
    this.#box = el("div", { class: "map", tabindex: 0, role: "group", "aria-label": label }, this.#picture);
    const head = ["shows", "size", "share"].map((name) => el("th", { scope: "col" }, name));
    this.element = el(
      "figure",
      { class: "wide" },
      el("figcaption", {}, "Block map"),
      this.#caption,
      this.#box,
      this.#told,
      el("table", { class: "legend" }, el("thead", {}, el("tr", {}, ...head)), this.#legend),
    );
    this.#narrow.addEventListener("change", () => this.#draw());
    this.#listen();
  }

  update(look: PageLook): void {
    this.#look = look;
    this.#draw();
  }

  #draw(): void {
    const { map, parts } = this.#look ?? {};
    if (!map || !parts) {
      this.#cells = [];
      this.#picture.replaceChildren();
      setText(this.#caption, "The map is there while the export is open.");
      this.#legend.replaceChildren();
      return;
    }
    const columns = this.#narrow.matches ? NARROW : WIDE;
    if (columns !== this.#columns || this.#cells.length !== map.levels.length) this.#layOut(map.levels.length, columns);
    for (const [at, { cell, dot }] of this.#cells.entries()) {
      const level = map.levels[at] ?? -2;
      setAttribute(cell, "class", `cell ${partColour(level, parts.length)}`);
      setAttribute(cell, "fill-opacity", level < 0 ? "1" : (0.35 + (0.65 * (map.shares[at] ?? 0)) / 100).toFixed(2));
      const age = map.ages[at] ?? -1;
      setAttribute(dot, "class", age < 0 ? "dot none" : age < 5 ? "dot hot" : age < 60 ? "dot warm" : "dot");
    }
    const written = map.ages.filter((age) => age >= 0 && age < 60).length;
    const isKnown = !map.levels.includes(-2) || map.is_top_only;
    const sizes = `${map.levels.length} cells of ${size(map.cell_bytes)}; ${written} of them written in the last minute, marked by a dot.`;
    const partly = map.is_top_only ? " The base is on another server, and is not asked." : "";
    setText(this.#caption, isKnown ? `${sizes}${partly}` : `${sizes} It is being made.`);
    this.#drawLegend(map, parts);
    this.#tell();
  }

  #drawLegend(map: PageMap, parts: PageLook["parts"]): void {
    const levels = [...parts.keys()].slice(-NAMED_AT_MOST);
    const row = (level: number, name: string): HTMLElement => {
      const cells = map.levels.filter((each) => each === level).length;
      const bytes = parts[level]?.shown_bytes;
      const share = `${Math.round((cells / Math.max(1, map.levels.length)) * 100)} % of cells`;
      const key = el("i", { class: `key ${partColour(level, parts.length)}` });
      const known = typeof bytes === "number" ? size(bytes) : "–";
      return el("tr", {}, el("th", { scope: "row" }, key, name), el("td", {}, known), el("td", {}, share));
    };
    const rows = levels.reverse().map((level) => row(level, partName(parts[level])));
    const rest = map.is_top_only ? row(-2, "what is below") : row(-1, "zeros");
    const fresh = el("tbody", {}, ...rows, rest);
    if (fresh.textContent !== this.#legend.textContent) this.#legend.replaceChildren(...fresh.children);
  }

  #layOut(count: number, columns: number): void {
    this.#columns = columns;
    const lines = Math.max(1, Math.ceil(count / columns));
    this.#picture.setAttribute("viewBox", `0 0 ${columns} ${lines}`);
    this.#cells = Array.from({ length: count }, (_, at) => {
      const [x, y] = [at % columns, Math.floor(at / columns)];
      return {
        cell: svg("rect", { x: x + 0.06, y: y + 0.06, width: 0.88, height: 0.88, rx: 0.14 }),
        dot: svg("circle", { cx: x + 0.5, cy: y + 0.5, r: 0.15 }),
      };
    });
    this.#picture.replaceChildren(...this.#cells.flatMap(({ cell, dot }) => [cell, dot]), this.#cursor);
  }

  #tell(): void {
    const at = this.#at;
    const { map, parts } = this.#look ?? {};
    const level = at === undefined ? undefined : map?.levels[at];
    this.#cursor.setAttribute("visibility", level === undefined ? "hidden" : "visible");
    if (at === undefined || level === undefined || !map || !parts) {
      setText(this.#told, "");
      return;
    }
    this.#cursor.setAttribute("x", String(at % this.#columns));
    this.#cursor.setAttribute("y", String(Math.floor(at / this.#columns)));
    const age = map.ages[at] ?? -1;
    const what = level === -1 ? "zeros" : level < 0 ? "not known yet" : partName(parts[level]);
    const share = level < -1 ? "" : ` (${map.shares[at] ?? 0} %)`;
    const when = age < 0 ? "" : `, written ${duration(age * 1000)} ago`;
    setText(this.#told, `From ${size(at * map.cell_bytes)}: ${what}${share}${when}`);
  }

  #listen(): void {
    const go = (to: number | undefined): void => {
      this.#at = to === undefined ? undefined : Math.min(this.#cells.length - 1, Math.max(0, to));
      this.#tell();
    };
    this.#box.addEventListener("keydown", (event) => {
      const steps: Record<string, number> = {
        ArrowLeft: -1,
        ArrowRight: 1,
        ArrowUp: -this.#columns,
        ArrowDown: this.#columns,
        Home: -this.#cells.length,
        End: this.#cells.length,
      };
      const step = steps[event.key];
      if (step === undefined) return;
      event.preventDefault();
      go(this.#at === undefined ? 0 : this.#at + step);
    });
    this.#box.addEventListener("pointermove", (event) => {
      const { left, top, width } = this.#picture.getBoundingClientRect();
      const cell = width / this.#columns;
      const [x, y] = [Math.floor((event.clientX - left) / cell), Math.floor((event.clientY - top) / cell)];
      go(x < 0 || x >= this.#columns ? undefined : y * this.#columns + x);
    });
    this.#box.addEventListener("pointerleave", () => go(undefined));
    this.#box.addEventListener("blur", () => go(undefined));
  }
}
