/**
 * Owns what is shown of the chosen export: figures, plots, its chain, its map, and the space that is left with a forecast.
 */
import type { PageDocument, PageExport } from "../lib/control/page/page-document.ts";
import { BlockMap } from "./block-map.ts";
import { Chain } from "./chain.ts";
import { el, setAttribute, setText } from "./dom.ts";
import { forecast, type SpaceSample } from "./forecast.ts";
import { count, duration, latency, rate, shownName, size, visible } from "./format.ts";
import { type History, type Sample, spaceLeft } from "./history.ts";
import { Plot } from "./plot.ts";

const FIGURES = ["Clients", "Size", "Allocated", "Not flushed", "Errors"] as const;
/** A forecast that is nearer than this is a warning. */
const SOON_MS = 3_600_000;

interface Actions {
  readonly sync: HTMLElement;
  /** Only of what can have checkpoints. */
  readonly checkpoint: HTMLElement;
}

export class ExportView {
  readonly element = el("div", { class: "view" });
  readonly #state = el("span", { class: "state" });
  readonly #uris = el("p", { class: "uris" });
  readonly #error = el("p", { class: "error", role: "alert", hidden: true });
  readonly #figures = FIGURES.map(() => el("dd"));
  readonly #forecast = el("p", { class: "forecast" });
  readonly #throughput: Plot<Sample>;
  readonly #requests: Plot<Sample>;
  readonly #latency: Plot<Sample>;
  readonly #space: Plot<SpaceSample>;
  readonly #chain = new Chain();
  readonly #map = new BlockMap();
  readonly #checkpoint: HTMLElement;

  /** @param actions what can be done to it */
  constructor(name: string, actions: Actions) {
    this.#checkpoint = actions.checkpoint;
    const buttons = el("div", { class: "buttons" }, actions.checkpoint, actions.sync);
    this.#throughput = new Plot<Sample>(
      "Throughput",
      [
        { label: "read", colour: "read", of: ({ readBytes }) => readBytes },
        { label: "write", colour: "write", of: ({ writtenBytes }) => writtenBytes },
      ],
      { format: rate, kind: "bytes" },
    );
    this.#requests = new Plot<Sample>(
      "Requests per second",
      [
        { label: "read", colour: "read", of: ({ reads }) => reads },
        { label: "write", colour: "write", of: ({ writes }) => writes },
        { label: "flush", colour: "flush", of: ({ flushes }) => flushes },
      ],
      { format: count, kind: "decimal" },
    );
    const none = (value: number | undefined): number | undefined => (value === 0 ? undefined : value);
    this.#latency = new Plot<Sample>(
      "Latency",
      [
        { label: "read, 99 %", colour: "read", of: (sample) => none(sample.latency?.read.p99) },
        { label: "read, half", colour: "read", isDashed: true, of: (sample) => none(sample.latency?.read.p50) },
        { label: "write, 99 %", colour: "write", of: (sample) => none(sample.latency?.write.p99) },
        { label: "write, half", colour: "write", isDashed: true, of: (sample) => none(sample.latency?.write.p50) },
        { label: "flush, 99 %", colour: "flush", of: (sample) => none(sample.latency?.flush.p99) },
      ],
      { format: latency, kind: "logarithmic" },
    );
    this.#space = new Plot<SpaceSample>("Space left", [{ label: "left", colour: "space", of: ({ bytes }) => bytes }], {
      format: size,
      kind: "bytes",
    });
    this.#space.element.append(this.#forecast);
    const figures = FIGURES.map((title, at) => el("div", {}, el("dt", {}, title), this.#figures[at] ?? el("dd")));
    const title = el("h2", {}, el("bdi", {}, shownName(name)), this.#state);
    this.element.append(
      el("div", { class: "head" }, title, buttons),
      this.#uris,
      this.#error,
      el("dl", { class: "figures" }, ...figures),
      el(
        "div",
        { class: "plots" },
        this.#throughput.element,
        this.#requests.element,
        this.#latency.element,
        this.#space.element,
        this.#map.element,
        this.#chain.element,
      ),
    );
  }

  update(document: PageDocument, shown: PageExport, history: History): void {
    const { time_ms, looked_at } = document;
    setText(this.#state, shown.state === "open" ? shown.access : shown.state);
    setAttribute(this.#state, "class", `state ${shown.state}`);
    this.#error.hidden = shown.error === null;
    this.#checkpoint.hidden = !shown.can_checkpoint;
    setText(this.#error, visible(shown.error ?? ""));
    const { connections, virtual_size, allocated_bytes, quota_bytes, unflushed_bytes, errors } = shown;
    const quota = quota_bytes === null ? "" : ` of ${size(quota_bytes)}`;
    const texts = [
      String(connections),
      virtual_size === null ? "–" : size(virtual_size),
      allocated_bytes === null ? "–" : `${size(allocated_bytes)}${quota}`,
      size(unflushed_bytes),
      count(errors),
    ];
    for (const [at, text] of texts.entries()) {
      const figure = this.#figures[at];
      if (figure) setText(figure, text);
    }
    for (const plot of [this.#throughput, this.#requests, this.#latency]) plot.update(history.samples, time_ms);
    this.#updateSpace(shown, history, time_ms);
    if (looked_at?.name !== shown.name) return;
    setText(this.#uris, looked_at.uris.join("  "));
    this.#chain.update(looked_at.parts, connections, time_ms);
    this.#map.update(looked_at);
  }

  #updateSpace(shown: PageExport, history: History, nowMs: number): void {
    this.#space.element.hidden = shown.free_bytes === null;
    this.#space.update(history.space, nowMs);
    const left = spaceLeft(shown);
    const expected = forecast(history.space);
    const isSoon = expected?.fullInMs !== undefined && expected.fullInMs < SOON_MS;
    setAttribute(this.#forecast, "class", isSoon || left === 0 ? "forecast soon" : "forecast");
    setText(this.#forecast, forecastText(left, expected));
  }
}

function forecastText(left: number | undefined, expected: ReturnType<typeof forecast>): string {
  if (left === undefined) return "";
  if (left === 0) return "No space is left.";
  if (!expected) return `${size(left)} left. A forecast takes ten seconds.`;
  if (expected.fullInMs === undefined) return `${size(left)} left, and it does not become less.`;
  const perMinute = size(-expected.bytesPerSecond * 60);
  return `${size(left)} left, ${perMinute} less each minute: full in about ${duration(expected.fullInMs)}.`;
}
