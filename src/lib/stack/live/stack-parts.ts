/**
 * Owns what a served stack is made of for the time being, in the forms in which it is used: as the parts of an image of the
 * server's own thread, and passed to other threads.
 */
import type { ImageParts } from "./assemble.ts";
import type { CheckpointLevel } from "./checkpoint-level.ts";
import type { FrozenTop } from "./frozen-top.ts";
import { lend } from "./kept-layer.ts";
import { LayerFinder } from "./layer-finder.ts";
import type { LeftLayer } from "./left-layer.ts";
import type { PassedImage, PassedTop } from "./passed-image.ts";
import { type LowerStack, Mappings, passLayer } from "./shared-lower.ts";
import type { Top } from "./top.ts";

/** What a served stack is made of for the time being, bottom to top. */
export interface StackParts {
  readonly lower: LowerStack;
  /** A layer that is only read, and not shared. */
  readonly left: LeftLayer | undefined;
  /** The layer that was the top until the last checkpoint, while it is not one of `lower`. */
  readonly frozen: { readonly layer: FrozenTop; readonly top: Top } | undefined;
  readonly top: Top | undefined;
  /** The oldest first. */
  readonly checkpoints: readonly CheckpointLevel[];
}

/** For this thread. */
export function imagePartsOf(name: string, { lower, left, frozen, top, checkpoints }: StackParts): ImageParts {
  const { base, files } = lower.stack;
  const kept = [...lower.layers, ...(left ? [left.kept] : [])];
  const frozenLayers = frozen ? [frozen.layer.layer()] : [];
  const residents = [...kept.map(({ mappable }) => mappable?.resident), ...frozenLayers];
  return {
    name,
    base,
    layers: [...kept.map(({ layer }) => layer), ...frozenLayers],
    finder: LayerFinder.over(base, residents, lower.owners?.passed),
    checkpoints,
    frozen: frozen?.layer,
    top: top?.writable(),
    files: [
      ...files,
      ...(left ? [left.device] : []),
      ...(frozen ? [frozen.top.device] : []),
      ...(top ? [top.device] : []),
    ],
  };
}

/** A top as it is passed to threads, and its mapping. */
interface LentTop {
  readonly passed: PassedTop;
  readonly mappings: Mappings;
}

/** Passes the parts of one stack. What it maps stays mapped until it is forgotten. */
export class PartsPassing {
  readonly #name: string;
  readonly #mappings = new Mappings();
  readonly #lent = new Map<Top, LentTop>();

  constructor(name: string) {
    this.#name = name;
  }

  /** @returns undefined if a part has no descriptor */
  pass(
    { lower, left: own, frozen: old, top: written, checkpoints }: StackParts,
    epoch: number,
  ): PassedImage | undefined {
    const top = written && this.#lend(written);
    const frozen = old && this.#lend(old.top);
    if ((written && !top) || (old && !frozen)) return undefined;
    const passed = lower.passed();
    const left = passLayer(own?.kept, this.#mappings);
    if (!passed || (own && !left)) return undefined;
    const memory = old?.layer.memory;
    return {
      name: this.#name,
      epoch,
      lower: passed,
      checkpoints,
      left,
      frozen: frozen && memory && { ...frozen, memory },
      top,
    };
  }

  #lend(top: Top): PassedTop | undefined {
    const known = this.#lent.get(top);
    if (known) return known.passed;
    const { cow, journal, config } = top.shared ?? {};
    if (!cow || !config || cow.fd === undefined || (journal && journal.fd === undefined)) return undefined;
    const mappings = new Mappings();
    const mapping = mappings.map(cow.fd, config.dataOffsetBytes + config.sizeBytes);
    const passed = { cow: { ...lend(cow), mapping }, journal: journal && lend(journal), config };
    this.#lent.set(top, { passed, mappings });
    return passed;
  }

  /** No thread uses it any more. */
  forget(top: Top): void {
    this.#lent.get(top)?.mappings.close();
    this.#lent.delete(top);
  }

  close(): void {
    this.#mappings.close();
    for (const { mappings } of this.#lent.values()) mappings.close();
    this.#lent.clear();
  }
}
