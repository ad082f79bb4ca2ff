/**
 * Owns what a server has read of bases, so that each is read once for all cowfiles over it: as long as it is open, and not
 * changed as far as its files' times tell. Of a base without times, such as a block device, it is believed for moments only.
 */
import { createHash } from "node:crypto";
import type { OperationContext } from "../../context.ts";
import type { BaseRecord } from "../../notes/base-record.ts";
import type { LowerStack } from "../../stack/live/shared-lower.ts";
import { storageOf } from "../files.ts";
import { type Comparison, compareContent } from "./content.ts";
import { type Budget, QUICK } from "./sampling.ts";
import { type TakenRecord, takeRecord } from "./take.ts";

/** The user who starts a server waits for it. */
const COMPARE: Budget = { bytes: QUICK.bytes, ms: 500 };
/** How long what was read of a base without times is believed. */
const TIMELESS_MS = 5000;

interface KnownBase {
  readonly until: number;
  /** By the number of blocks. */
  readonly records: Map<number, Promise<TakenRecord>>;
  /** By the digest of the record that it was compared with. */
  readonly comparisons: Map<string, Promise<Comparison>>;
}

export class KnownBases {
  readonly #known = new WeakMap<LowerStack, KnownBase>();

  #of(lower: LowerStack): KnownBase {
    const known = this.#known.get(lower);
    if (known && performance.now() < known.until) return known;
    const until = lower.hasTimes ? Number.POSITIVE_INFINITY : performance.now() + TIMELESS_MS;
    const fresh = { until, records: new Map(), comparisons: new Map() };
    this.#known.set(lower, fresh);
    return fresh;
  }

  /** The base as it is now, to be recorded beside cowfiles of that number of blocks. @throws CowError `io`, `interrupted` */
  record(lower: LowerStack, blocks: number, context: OperationContext): Promise<TakenRecord> {
    const { device: base, paths } = lower.stack;
    const at = { base, paths, blocks, budget: QUICK };
    return once(this.#of(lower).records, blocks, () => takeRecord(storageOf(context), at, context));
  }

  /** A way to compare the base with records. */
  comparing(lower: LowerStack, context: OperationContext): (record: BaseRecord) => Promise<Comparison> {
    return (record) => {
      const { chunk_bytes, data, unread, cowfile } = record;
      const content = JSON.stringify([chunk_bytes, data, unread, cowfile.rdo_blocks]);
      const digest = createHash("sha256").update(content).digest("hex");
      const { comparisons } = this.#of(lower);
      return once(comparisons, digest, () => compareContent(lower.stack.device, record, COMPARE, context));
    };
  }
}

/** What `find` finds is kept; a failure is not. */
function once<Key, Value>(kept: Map<Key, Promise<Value>>, key: Key, find: () => Promise<Value>): Promise<Value> {
  const known = kept.get(key);
  if (known) return known;
  const found = find();
  kept.set(key, found);
  found.catch(() => kept.delete(key));
  return found;
}
