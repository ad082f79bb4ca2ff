/**
 * Owns the page in the browser: takes the server's documents as they come, and hands them to the list and to the view of the
 * export that was chosen.
 */
import type { PageDocument } from "../lib/control/page/page-document.ts";
import { checkpointForm, syncButton, takeToken } from "./actions.ts";
import { byId, el, setAttribute, setText } from "./dom.ts";
import { ExportList } from "./export-list.ts";
import { ExportView } from "./export-view.ts";
import { count, duration, rate, segment } from "./format.ts";
import { Histories } from "./history.ts";

const TOTALS = ["Read", "Write", "Requests/s", "Clients", "Up"] as const;

class Page {
  readonly #histories = new Histories();
  readonly #list = new ExportList((name) => this.#choose(name), syncButton(undefined));
  readonly #totals = TOTALS.map(() => el("dd"));
  #source: EventSource | undefined;
  #chosen: string | undefined;
  #view: ExportView | undefined;
  #latest: PageDocument | undefined;

  constructor(chosen: string | undefined) {
    byId("list").append(this.#list.element);
    byId("totals").append(
      ...TOTALS.map((title, at) => el("div", {}, el("dt", {}, title), this.#totals[at] ?? el("dd"))),
    );
    this.#chosen = chosen;
    this.#listen();
    // A page that is not seen is not sent anything.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#source?.close();
      else this.#listen();
    });
  }

  #listen(): void {
    this.#source?.close();
    const query = this.#chosen === undefined ? "" : `?${new URLSearchParams({ name: segment(this.#chosen) })}`;
    const source = new EventSource(`data${query}`);
    this.#source = source;
    source.addEventListener("open", () => this.#link("live", "live"));
    source.addEventListener("error", () => {
      const isOver = source.readyState === EventSource.CLOSED;
      this.#link("lost", isOver ? "the server refuses" : "connection lost, trying again");
      if (isOver) setTimeout(() => source === this.#source && this.#listen(), 5000);
    });
    source.addEventListener("message", ({ data }: MessageEvent<string>) =>
      this.#show(JSON.parse(data) as PageDocument),
    );
  }

  #link(state: string, text: string): void {
    setText(byId("link"), text);
    setAttribute(byId("link"), "class", state);
  }

  #choose(name: string): void {
    if (name === this.#chosen && this.#view) return;
    this.#chosen = name;
    history.replaceState(null, "", `#${new URLSearchParams({ export: name })}`);
    this.#open(name);
    this.#listen();
  }

  #open(name: string): void {
    this.#view = new ExportView(name, { sync: syncButton(name), checkpoint: checkpointForm(name) });
    byId("detail").replaceChildren(this.#view.element);
    this.#list.choose(name);
    this.#showView();
  }

  #show(page: PageDocument): void {
    this.#latest = page;
    this.#histories.add(page);
    this.#showTotals(page);
    this.#list.update(page, this.#histories);
    const isThere = page.exports.some(({ name }) => name === this.#chosen);
    const [first] = page.exports;
    if (this.#chosen === undefined && first) this.#choose(first.name);
    else if (isThere && this.#chosen !== undefined && !this.#view) this.#open(this.#chosen);
    else if (!isThere) {
      this.#view = undefined;
      const text = first
        ? "There is no such export any more: choose another one."
        : "There are no exports. `cowtool ctl add NAME=STACK` adds one.";
      byId("detail").replaceChildren(el("p", { class: "empty" }, text));
    }
    this.#showView();
  }

  #showView(): void {
    const shown = this.#latest?.exports.find(({ name }) => name === this.#chosen);
    if (this.#latest && shown) this.#view?.update(this.#latest, shown, this.#histories.of(shown.name));
  }

  #showTotals({ exports, server, time_ms }: PageDocument): void {
    const latest = exports.map(({ name }) => this.#histories.of(name).latest);
    const sum = (of: (sample: NonNullable<(typeof latest)[number]>) => number): number =>
      latest.reduce((total, sample) => total + (sample ? of(sample) : 0), 0);
    const texts = [
      rate(sum(({ readBytes }) => readBytes)),
      rate(sum(({ writtenBytes }) => writtenBytes)),
      count(sum(({ reads, writes, flushes }) => reads + writes + flushes)),
      String(server.connections),
      duration(time_ms - server.started_ms),
    ];
    for (const [at, text] of texts.entries()) {
      const cell = this.#totals[at];
      if (cell) setText(cell, text);
    }
    setText(document.head.querySelector("title") ?? el("title"), `cowtool on ${server.host}`);
    setAttribute(byId("bar"), "title", `process ${server.pid} on ${server.host}`);
  }
}

new Page(takeToken().get("export") ?? undefined);
