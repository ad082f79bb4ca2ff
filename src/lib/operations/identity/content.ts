/**
 * Owns recording the content of a base, and finding out later which parts have changed.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import {
  coalesce,
  complement,
  type Extent,
  inOrder,
  intersect,
  listed,
  subtract,
  union,
  widen,
} from "../../bytes/extent.ts";
import { interrupted, makePause, type OperationContext, type Pause } from "../../context.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { type BaseRecord, type ContentRecord, DIGEST_DIGITS } from "../../notes/base-record.ts";
import { lookAt, ZERO_DIGEST } from "./chunks.ts";
import { type Budget, chooseChunkBytes, dataOf, spread, totalBytes } from "./sampling.ts";

/** Further runs of changed chunks are only counted. */
const MAX_RUNS = 1 << 17;

/** Records the first `blocks` blocks of a base, as far as the budget allows. Holes cost nothing. */
export async function recordContent(
  base: ByteSource,
  blocks: number,
  budget: Budget,
  context: OperationContext,
): Promise<ContentRecord> {
  const end = blocks * BLOCK_BYTES;
  const data = await dataOf(base, end, pauseOf(base, "nothing was created", context));
  const chunkBytes = chooseChunkBytes(data, end, budget);
  const runs = listed(widen(data, chunkBytes, end));
  const seen: [chunk: number, digest: string][] = [];
  const look = { chunkBytes, end, ms: budget.ms, phase: "recording the base", state: "nothing was created" };
  await lookAt(base, spread(runs, chunkBytes, budget.bytes), look, context, (chunk, digest) => {
    seen.push([chunk, digest]);
  });
  seen.sort(([a], [b]) => a - b);
  const looked = coalesce(seen.map(([chunk]) => ({ offset: chunk * chunkBytes, length: chunkBytes })));
  return {
    chunk_bytes: chunkBytes,
    data: joined(seen),
    unread: listed(subtract(runs, looked)).map(({ offset, length }) => [
      offset / chunkBytes,
      Math.ceil(length / chunkBytes),
    ]),
  };
}

function pauseOf(base: ByteSource, state: string, { signal, pace }: OperationContext): Pause {
  return makePause(signal, () => interrupted(base.name, state), pace);
}

function joined(seen: readonly (readonly [number, string])[]): [number, string][] {
  const runs: { readonly first: number; readonly digests: string[] }[] = [];
  for (const [chunk, digest] of seen) {
    if (digest === ZERO_DIGEST) continue;
    const last = runs.at(-1);
    if (last && last.first + last.digests.length === chunk) last.digests.push(digest);
    else runs.push({ first: chunk, digests: [digest] });
  }
  return runs.map(({ first, digests }) => [first, digests.join("")]);
}

export interface Comparison {
  /** Ascending and joined, in bytes of the image. */
  readonly changed: readonly Extent[];
  /** Changed bytes that are not in the list, because there are too many pieces. */
  readonly omittedBytes: number;
  readonly comparedBytes: number;
  /** Everything in the record was compared. */
  readonly isAll: boolean;
}

/** Compares a base with what was recorded, as far as the budget allows. */
export async function compareContent(
  base: ByteSource,
  record: BaseRecord,
  budget: Budget,
  context: OperationContext,
): Promise<Comparison> {
  const { chunk_bytes: chunkBytes } = record;
  const end = record.cowfile.rdo_blocks * BLOCK_BYTES;
  const { digests, recorded, unread } = tableOf(record, end);
  const zeros = complement(inOrder(recorded, unread), 0, end);
  // Of former zeros, only parts that aren't holes now can have changed.
  const data = await dataOf(base, end, pauseOf(base, "nothing was changed", context));
  const filled = listed(intersect(zeros, widen(data, chunkBytes, end)));
  const total = totalBytes(recorded) + totalBytes(filled);
  const left = Math.max(0, budget.bytes - totalBytes(recorded));
  const plan =
    total <= budget.bytes
      ? listed(union(recorded, filled))
      : [...spread(recorded, chunkBytes, budget.bytes), ...spread(filled, chunkBytes, left)];
  const changed = new ChangedRuns();
  const look = { chunkBytes, end, ms: budget.ms, phase: "comparing the base", state: "nothing was changed" };
  const comparedBytes = await lookAt(base, plan, look, context, (chunk, digest) => {
    if (digest === (digests.get(chunk) ?? ZERO_DIGEST)) return;
    const offset = chunk * chunkBytes;
    changed.add(offset, Math.min(chunkBytes, end - offset));
  });
  return {
    changed: changed.sorted(),
    omittedBytes: changed.omittedBytes,
    comparedBytes,
    isAll: comparedBytes === total,
  };
}

interface Table {
  readonly digests: ReadonlyMap<number, string>;
  readonly recorded: readonly Extent[];
  readonly unread: readonly Extent[];
}

function tableOf({ chunk_bytes: chunkBytes, data, unread }: ContentRecord, end: number): Table {
  const digests = new Map<number, string>();
  const extentOf = (first: number, count: number): Extent => ({
    offset: first * chunkBytes,
    length: Math.min(count * chunkBytes, end - first * chunkBytes),
  });
  const recorded = data.map(([first, text]) => {
    const count = text.length / DIGEST_DIGITS;
    for (let i = 0; i < count; i++) digests.set(first + i, text.slice(i * DIGEST_DIGITS, (i + 1) * DIGEST_DIGITS));
    return extentOf(first, count);
  });
  return { digests, recorded, unread: unread.map(([first, count]) => extentOf(first, count)) };
}

/** Runs of bytes in any order, mostly ascending. */
class ChangedRuns {
  readonly #runs: { readonly offset: number; length: number }[] = [];
  omittedBytes = 0;

  add(offset: number, length: number): void {
    const last = this.#runs.at(-1);
    if (last && last.offset + last.length === offset) last.length += length;
    else if (this.#runs.length < MAX_RUNS) this.#runs.push({ offset, length });
    else this.omittedBytes += length;
  }

  sorted(): Extent[] {
    return listed(coalesce(this.#runs.toSorted((a, b) => a.offset - b.offset)));
  }
}
