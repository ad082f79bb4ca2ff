/**
 * Owns the list of exports: filtered, sorted, with the rates of the last second. Rows stay in their place while the list is
 * being used, so that none slips away from under the pointer.
 */
import type { PageDocument, PageExport } from "../lib/control/page/page-document.ts";
import { el, setAttribute, setText } from "./dom.ts";
import { count, rate, shownName, size } from "./format.ts";
import { type Histories, spaceLeft } from "./history.ts";
import { Sparkline } from "./plot.ts";

interface Row {
  readonly element: HTMLTableRowElement;
  readonly button: HTMLButtonElement;
  readonly state: HTMLElement;
  readonly cells: readonly HTMLElement[];
  readonly spark: Sparkline;
  /** By column, for sorting. */
  keys: readonly (string | number)[];
}

/** Title, and the class that hides it where there is little room. */
const COLUMNS = [
  ["Export", ""],
  ["Read", ""],
  ["Write", ""],
  ["Req/s", "roomy"],
  ["Clients", "roomy"],
  ["Space left", ""],
] as const;
/** Rows change places at most this often. */
const SORT_MS = 3000;

export class ExportList {
  readonly element = el("div", { class: "exports" });
  readonly #rows = new Map<string, Row>();
  readonly #body = el("tbody");
  readonly #filter = el("input", {
    type: "search",
    placeholder: "Filter",
    "aria-label": "Filter exports by name or state",
  });
  readonly #count = el("span", { class: "count", role: "status" });
  readonly #heads: readonly HTMLTableCellElement[];
  readonly #onChoose: (name: string) => void;
  readonly #syncAll: HTMLElement;
  #sorted = { column: 0, isDown: false };
  #sortedMs = 0;
  #chosen: string | undefined;

  /** @param syncAll the button that is shown beside the filter */
  constructor(onChoose: (name: string) => void, syncAll: HTMLElement) {
    this.#onChoose = onChoose;
    this.#syncAll = syncAll;
    this.#heads = COLUMNS.map(([title, room], column) => {
      const button = el("button", { type: "button" }, title);
      button.addEventListener("click", () => this.#sortBy(column));
      return el("th", { scope: "col", class: `${column > 0 ? "number " : ""}${room}` }, button);
    });
    const trend = el("th", { scope: "col", class: "roomy" }, el("span", {}, "Last minute"));
    const head = el("thead", {}, el("tr", {}, ...this.#heads, trend));
    const table = el("table", { class: "list" }, el("caption", { class: "hidden" }, "Exports"), head, this.#body);
    const bar = el("div", { class: "tools" }, this.#filter, this.#count, this.#syncAll);
    this.element.append(bar, el("div", { class: "scroll" }, table));
    this.#filter.addEventListener("input", () => this.#arrange());
    this.#body.addEventListener("keydown", (event) => this.#move(event));
    this.#markSorted();
  }

  choose(name: string | undefined): void {
    this.#chosen = name;
    for (const [each, { element, button }] of this.#rows) {
      element.classList.toggle("chosen", each === name);
      if (each === name) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  update({ exports, time_ms }: PageDocument, histories: Histories): void {
    const names = new Set(exports.map(({ name }) => name));
    const isNew = exports.some(({ name }) => !this.#rows.has(name));
    let isChanged = isNew;
    for (const [name, { element }] of this.#rows)
      if (!names.has(name)) {
        element.remove();
        this.#rows.delete(name);
        isChanged = true;
      }
    for (const each of exports) this.#updateRow(each, histories);
    if (isNew) this.choose(this.#chosen);
    const isUsed = this.#body.matches(":hover") || this.#body.contains(document.activeElement);
    if (isChanged || (!isUsed && time_ms - this.#sortedMs >= SORT_MS)) {
      this.#sortedMs = time_ms;
      this.#arrange();
    }
  }

  #updateRow(each: PageExport, histories: Histories): void {
    const row = this.#rows.get(each.name) ?? this.#newRow(each.name);
    const history = histories.of(each.name);
    const { readBytes = 0, writtenBytes = 0, reads = 0, writes = 0, flushes = 0 } = history.latest ?? {};
    const left = spaceLeft(each);
    const all = reads + writes + flushes;
    const texts = [rate(readBytes), rate(writtenBytes), count(all), String(each.connections)];
    texts.push(left === undefined ? "–" : size(left));
    for (const [at, text] of texts.entries()) {
      const cell = row.cells[at];
      if (cell) setText(cell, text);
    }
    row.element.classList.toggle("idle", all === 0);
    setText(row.state, each.state === "open" ? (each.access === "writable" ? "" : each.access) : each.state);
    setAttribute(row.state, "class", `state ${each.state}`);
    row.keys = [each.name, readBytes, writtenBytes, all, each.connections, left ?? Number.POSITIVE_INFINITY];
    row.spark.update(history.samples.map((sample) => sample.readBytes + sample.writtenBytes));
  }

  #newRow(name: string): Row {
    const state = el("span", { class: "state" });
    const button = el("button", { type: "button" }, el("bdi", {}, shownName(name)));
    button.addEventListener("click", () => this.#onChoose(name));
    const cells = COLUMNS.slice(1).map(([, room]) => el("td", { class: `number ${room}` }));
    const spark = new Sparkline();
    const element = el(
      "tr",
      {},
      el("th", { scope: "row" }, button, state),
      ...cells,
      el("td", { class: "roomy" }, spark.element),
    );
    element.addEventListener("click", () => this.#onChoose(name));
    const row: Row = { element, button, state, cells, spark, keys: [] };
    this.#rows.set(name, row);
    return row;
  }

  #sortBy(column: number): void {
    const { column: before, isDown } = this.#sorted;
    // Figures are most interesting where they are large, except space.
    this.#sorted = { column, isDown: column === before ? !isDown : column > 0 && column < COLUMNS.length - 1 };
    this.#markSorted();
    this.#arrange();
  }

  #markSorted(): void {
    for (const [column, head] of this.#heads.entries()) {
      const how = this.#sorted.isDown ? "descending" : "ascending";
      setAttribute(head, "aria-sort", column === this.#sorted.column ? how : "none");
    }
  }

  #arrange(): void {
    const wanted = this.#filter.value.trim().toLowerCase();
    const { column, isDown } = this.#sorted;
    const rows = [...this.#rows].filter(([name, { element, state }]) => {
      const isShown = `${shownName(name)} ${state.textContent}`.toLowerCase().includes(wanted);
      element.hidden = !isShown;
      return isShown;
    });
    const collator = new Intl.Collator("en", { numeric: true });
    rows.sort(([, one], [, other]) => {
      const [a = 0, b = 0] = [one.keys[column], other.keys[column]];
      const byKey = typeof a === "number" && typeof b === "number" ? Math.sign(a - b) || 0 : 0;
      const order = typeof a === "string" || typeof b === "string" ? collator.compare(String(a), String(b)) : byKey;
      if (order !== 0) return isDown ? -order : order;
      return collator.compare(String(one.keys[0]), String(other.keys[0]));
    });
    const inOrder = rows.map(([, { element }]) => element);
    const present = [...this.#body.children].filter((each) => !(each as HTMLElement).hidden);
    const isSame = present.length === inOrder.length && inOrder.every((each, at) => each === present[at]);
    if (!isSame) {
      const focused = document.activeElement;
      this.#body.append(...inOrder);
      if (focused instanceof HTMLElement && this.#body.contains(focused)) focused.focus();
    }
    setText(
      this.#count,
      rows.length === this.#rows.size ? `${rows.length} exports` : `${rows.length} of ${this.#rows.size}`,
    );
  }

  /** Arrow keys go from row to row. */
  #move(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    const buttons = [...this.#body.querySelectorAll<HTMLButtonElement>("tr:not([hidden]) button")];
    const next = buttons[buttons.indexOf(event.target as HTMLButtonElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}
