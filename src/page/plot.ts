/**
 * Owns a plot of lines over five minutes. Its legend is a table with the latest, mean and largest value of each line, which
 * is also what a screen reader reads; the cursor, by pointer or arrow keys, shows other times there.
 */
import { el, setAttribute, setText, svg } from "./dom.ts";
import { duration } from "./format.ts";
import { WINDOW_MS } from "./history.ts";

const WIDTH = 600;
const HEIGHT = 100;
/** Shown from the beginning on, when there is little to show. */
const LEAST_WINDOW_MS = 60_000;
/** A gap between samples that is longer than this is not drawn. */
const GAP_MS = 5000;

export interface Line<Sample> {
  readonly label: string;
  /** Of its colour in page.css. */
  readonly colour: string;
  readonly isDashed?: boolean;
  /** Undefined where nothing is known. */
  readonly of: (sample: Sample) => number | undefined;
}

export interface Scale {
  readonly format: (value: number) => string;
  /** How its largest value is rounded: sizes in powers of two, others in powers of ten. Logarithmic begins at 1. */
  readonly kind: "bytes" | "decimal" | "logarithmic";
}

interface Timed {
  readonly timeMs: number;
}

export class Plot<Sample extends Timed> {
  readonly element: HTMLElement;
  readonly #title: string;
  readonly #lines: readonly Line<Sample>[];
  readonly #scale: Scale;
  readonly #paths: readonly SVGPathElement[];
  readonly #rows: readonly (readonly HTMLElement[])[];
  readonly #most = el("span", { class: "most" });
  readonly #from = el("span", { class: "from" });
  readonly #when: HTMLElement;
  readonly #box: HTMLElement;
  readonly #cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  /** How long ago the cursor's time was; undefined while there is no cursor. */
  #agoMs: number | undefined;
  #samples: readonly Sample[] = [];
  #nowMs = 0;
  #windowMs = LEAST_WINDOW_MS;

  constructor(title: string, lines: readonly Line<Sample>[], scale: Scale) {
    this.#title = title;
    this.#lines = lines;
    this.#scale = scale;
    this.#paths = lines.map(({ colour, isDashed }) =>
      svg("path", { class: `line ${colour}${isDashed ? " dashed" : ""}`, "vector-effect": "non-scaling-stroke" }),
    );
    const grid = [0.25, 0.5, 0.75].map((part) =>
      svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: part * HEIGHT, y2: part * HEIGHT }),
    );
    const picture = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      ...grid,
      ...this.#paths,
      this.#cursor,
    );
    this.#box = el("div", { class: "plot", tabindex: 0, role: "img" }, picture, this.#most);
    this.#box.append(this.#from, el("span", { class: "to" }, "now"));
    if (scale.kind === "logarithmic") this.#box.append(el("span", { class: "least" }, scale.format(1)));
    this.#rows = lines.map(() => [el("td"), el("td"), el("td")]);
    this.#when = el("th", { scope: "col" }, "now");
    const head = el(
      "tr",
      {},
      el("td"),
      this.#when,
      el("th", { scope: "col" }, "mean"),
      el("th", { scope: "col" }, "most"),
    );
    const body = lines.map(({ label, colour, isDashed }, at) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, el("i", { class: `key ${colour}${isDashed ? " dashed" : ""}` }), label),
        ...(this.#rows[at] ?? []),
      ),
    );
    this.element = el(
      "figure",
      {},
      el("figcaption", {}, title),
      this.#box,
      el("table", { class: "legend" }, el("thead", {}, head), el("tbody", {}, ...body)),
    );
    this.#listen();
  }

  update(samples: readonly Sample[], nowMs: number): void {
    this.#samples = samples;
    this.#nowMs = nowMs;
    this.#windowMs = Math.min(WINDOW_MS, Math.max(LEAST_WINDOW_MS, nowMs - (samples[0]?.timeMs ?? nowMs)));
    setText(this.#from, `−${duration(this.#windowMs)}`);
    const valuesOf = this.#lines.map(({ of }) => samples.map(of));
    const most = roundUp(Math.max(0, ...valuesOf.flat().map((value) => value ?? 0)), this.#scale.kind);
    setText(this.#most, this.#scale.format(most));
    for (const [at, values] of valuesOf.entries()) this.#draw(this.#paths[at], values, most);
    this.#tell();
    for (const [at, values] of valuesOf.entries()) {
      const known = values.filter((value) => value !== undefined);
      const mean = known.length === 0 ? 0 : known.reduce((sum, value) => sum + value, 0) / known.length;
      const [, meanCell, mostCell] = this.#rows[at] ?? [];
      if (meanCell) setText(meanCell, this.#scale.format(mean));
      if (mostCell) setText(mostCell, this.#scale.format(Math.max(0, ...known)));
    }
  }

  #draw(path: SVGPathElement | undefined, values: readonly (number | undefined)[], most: number): void {
    let text = "";
    let lastMs = Number.NEGATIVE_INFINITY;
    for (const [at, value] of values.entries()) {
      const timeMs = this.#samples[at]?.timeMs ?? 0;
      if (value === undefined) continue;
      const x = WIDTH * (1 - (this.#nowMs - timeMs) / this.#windowMs);
      const y = HEIGHT - 1 - this.#partOf(value, most) * (HEIGHT - 2);
      text += `${timeMs - lastMs > GAP_MS ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
      lastMs = timeMs;
    }
    path?.setAttribute("d", text);
  }

  #partOf(value: number, most: number): number {
    if (most === 0) return 0;
    return this.#scale.kind === "logarithmic" ? Math.log(Math.max(1, value)) / Math.log(most) : value / most;
  }

  /** The values at the cursor, or now. */
  #tell(): void {
    const atMs = this.#nowMs - (this.#agoMs ?? 0);
    const near = this.#samples.reduce<Sample | undefined>(
      (best, each) => (best && Math.abs(best.timeMs - atMs) <= Math.abs(each.timeMs - atMs) ? best : each),
      undefined,
    );
    setText(this.#when, this.#agoMs === undefined ? "now" : `${duration(this.#agoMs)} ago`);
    const told = this.#lines.map(({ label, of }, at) => {
      const value = near === undefined ? undefined : of(near);
      const text = value === undefined ? "–" : this.#scale.format(value);
      const [cell] = this.#rows[at] ?? [];
      if (cell) setText(cell, text);
      return `${label} ${text}`;
    });
    setAttribute(this.#box, "aria-label", `${this.#title}, ${this.#when.textContent}: ${told.join(", ")}`);
    const x = String(WIDTH * (1 - (this.#agoMs ?? 0) / this.#windowMs));
    this.#cursor.setAttribute("x1", x);
    this.#cursor.setAttribute("x2", x);
    this.#cursor.setAttribute("visibility", this.#agoMs === undefined ? "hidden" : "visible");
  }

  #listen(): void {
    const set = (agoMs: number | undefined): void => {
      this.#agoMs = agoMs === undefined ? undefined : Math.min(this.#windowMs, Math.max(0, agoMs));
      this.#tell();
    };
    this.#box.addEventListener("pointermove", (event) => {
      const { left, width } = this.#box.getBoundingClientRect();
      set(this.#windowMs * (1 - (event.clientX - left) / width));
    });
    this.#box.addEventListener("pointerleave", () => set(undefined));
    this.#box.addEventListener("blur", () => set(undefined));
    this.#box.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 5000, ArrowRight: -5000, PageUp: 30_000, PageDown: -30_000 }[event.key];
      if (step === undefined && event.key !== "Escape") return;
      event.preventDefault();
      const agoMs = (this.#agoMs ?? 0) + (step ?? 0);
      set(step === undefined || agoMs < 0 ? undefined : agoMs);
    });
  }
}

/** The end of a scale: the next even value. */
function roundUp(value: number, kind: Scale["kind"]): number {
  if (value <= 0) return 0;
  const base = kind === "bytes" ? 2 : 10;
  const power = base ** Math.floor(Math.log(value) / Math.log(base) + 1e-9);
  const steps = { bytes: [1, 1.25, 1.5, 1.75, 2], decimal: [1, 1.5, 2, 3, 4, 5, 6, 8, 10], logarithmic: [10] }[kind];
  return (steps.find((each) => each * power >= value) ?? base) * power;
}

/** A small picture of the last minute without axes. */
export class Sparkline {
  readonly element: SVGSVGElement;
  readonly #path = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });

  constructor() {
    const box = { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" };
    this.element = svg("svg", box, this.#path);
  }

  update(values: readonly number[]): void {
    const shown = values.slice(-60);
    const most = Math.max(1, ...shown);
    const points = shown.map((value, at) => `${60 - shown.length + at + 1} ${(19 - (value / most) * 18).toFixed(1)}`);
    this.#path.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
  }
}
