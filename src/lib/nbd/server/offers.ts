/**
 * Owns what clients can ask for by name: the exports that are open, and their checkpoints.
 */
import { MAX_STRING_BYTES } from "../../protocol/constants.ts";
import type { ExportFacts } from "../handshake/export.ts";
import { AT, nameAt } from "./checkpoint-views.ts";
import type { LiveExport } from "./live-export.ts";
import { descriptionOf, type ServedExport } from "./served-export.ts";

/** The checkpoints in a list have at most this many bytes; the others can be asked for by name. */
const LISTED_BYTES = 2 << 20;
/** Of a line in the list, besides its texts. */
const LINE_BYTES = 24;

type Listed = Pick<ExportFacts, "name" | "description">;

export class Offers {
  readonly #entries: ReadonlyMap<string, LiveExport>;

  constructor(entries: ReadonlyMap<string, LiveExport>) {
    this.#entries = entries;
  }

  /** The exports in the order in which they were added, then their checkpoints. */
  *listed(): Generator<Listed> {
    const all = [...this.#entries.keys()].flatMap((name) => this.#export(name) ?? []);
    for (const { facts } of all) yield facts;
    let left = LISTED_BYTES;
    for (const { facts, stack } of all)
      for (const checkpoint of stack.readable) {
        const name = nameAt(facts.name, checkpoint.name);
        const description = descriptionOf(nameAt(stack.name, checkpoint.name), "read-only");
        left -= Buffer.byteLength(name) + Buffer.byteLength(description) + LINE_BYTES;
        if (left < 0) return;
        if (Buffer.byteLength(name) <= MAX_STRING_BYTES) yield { name, description };
      }
  }

  /** An export that clients may begin to use, by its name; a checkpoint is opened for that. */
  find(name: string): ServedExport | undefined {
    const whole = this.#export(name);
    const at = name.lastIndexOf(AT);
    if (whole || at < 0) return whole;
    const parent = this.#export(name.slice(0, at));
    return parent && this.#entries.get(parent.facts.name)?.views.find(parent.stack, name.slice(at + 1));
  }

  /** The export that a client was told about, unless it was closed or replaced meanwhile. */
  as(facts: ExportFacts): ServedExport | undefined {
    const found = this.find(facts.name);
    return found?.facts === facts ? found : undefined;
  }

  #export(name: string): ServedExport | undefined {
    const { served, state, isPending } = this.#entries.get(name) ?? {};
    return state === "open" && !isPending ? served : undefined;
  }
}
