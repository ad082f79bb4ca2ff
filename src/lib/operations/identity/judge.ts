/**
 * Owns the answer to "is the base as recorded, and if not, does the cowfile hide the change?", for commands that were
 * given both.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { atByte } from "../../errors.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { cowProblem } from "../../formats/cowfile/problems.ts";
import type { BaseIdentity, Layer, Problem } from "../../formats/format.ts";
import type { BaseRecord } from "../../notes/base-record.ts";
import { areUntouched, readSidecar } from "../../notes/sidecar.ts";
import { type Comparison, compareContent } from "./content.ts";
import { type Budget, QUICK } from "./sampling.ts";

/** Has the cowfile allocated all of a part, so that its backing doesn't show? */
export type Hidden = "yes" | "partly" | "no";

export interface ChangedExtent extends Extent {
  readonly hidden: Hidden;
}

/**
 * - `unknown`: there is no record of this cowfile's base
 * - `unchanged`: its times are the same, or its content was compared and is the same
 * - `touched`: its times have changed, its compared content has not
 * - `merged`: it has changed where the cowfile was merged into it, and nowhere else
 * - `changed`
 */
export type Verdict = "unknown" | "unchanged" | "touched" | "merged" | "changed";

export interface BaseJudgement {
  readonly verdict: Verdict;
  readonly record: BaseRecord | undefined;
  /** The record's path, why it is not used, and whether a new one may replace it. */
  readonly ignored: { readonly path: string; readonly why: string; readonly mayReplace: boolean } | undefined;
  /** `times`: nothing was read, because the files' times suffice; `part`, `all`: of what was recorded. */
  readonly compared: "nothing" | "times" | "part" | "all";
  readonly comparedBytes: number;
  /** In bytes of the image. */
  readonly changed: readonly ChangedExtent[];
}

/** A base, its files, and the cowfile over it. */
export interface Question {
  readonly base: ByteSource;
  readonly paths: readonly string[];
  readonly cowfile: string;
  readonly identity: BaseIdentity;
  /** The cowfile, opened only if needed; undefined if it can't be. */
  readonly layer: () => Promise<Pick<Layer, "extents"> | undefined>;
  /** Read it, whatever the times say. */
  readonly always?: boolean;
  /** How much is read; default: what users do not notice. */
  readonly budget?: Budget;
  /** How the base is compared with its record; default: it is read. */
  readonly compare?: (record: BaseRecord) => Promise<Comparison>;
}

/** @throws CowError `io`, `interrupted` */
export async function judgeRecorded(
  storage: Storage,
  { base, paths, cowfile, identity, layer, always, budget = QUICK, compare }: Question,
  context: OperationContext,
): Promise<BaseJudgement> {
  const sidecar = readSidecar(storage, cowfile, identity);
  const nothing = { compared: "nothing", comparedBytes: 0, changed: [] } as const;
  if (sidecar.state !== "own") {
    const ignored = sidecar.state === "ignored" ? sidecar : undefined;
    return { ...nothing, verdict: "unknown", record: undefined, ignored };
  }
  const { record } = sidecar;
  const untouched = areUntouched(storage, paths, record);
  if (untouched && !always) return { ...nothing, verdict: "unchanged", record, ignored: undefined, compared: "times" };
  const { changed, omittedBytes, comparedBytes, isAll } = await (compare?.(record) ??
    compareContent(base, record, budget, context));
  const found = changed.length === 0 ? [] : [...hiddenParts(changed, record, await layer())];
  if (omittedBytes > 0) {
    const offset = (changed.at(-1)?.offset ?? 0) + (changed.at(-1)?.length ?? 0);
    found.push({ offset, length: omittedBytes, hidden: "no" });
  }
  // A merge writes the cowfile's allocated blocks, and nothing else.
  const unexplained = record.merged ? found.filter(({ hidden }) => hidden === "no") : found;
  const same = untouched === false ? "touched" : "unchanged";
  const verdict = unexplained.length > 0 ? "changed" : found.length > 0 ? "merged" : same;
  const compared = isAll ? "all" : "part";
  return { verdict, record, ignored: undefined, compared, comparedBytes, changed: unexplained };
}

/** Has the base changed in blocks that the cowfile has not allocated, or perhaps not? */
export function showsThrough({ changed }: BaseJudgement): boolean {
  return changed.some(({ hidden }) => hidden !== "yes");
}

function* hiddenParts(
  changed: readonly Extent[],
  { chunk_bytes: chunkBytes }: BaseRecord,
  layer: Pick<Layer, "extents"> | undefined,
): Generator<ChangedExtent> {
  let open: { offset: number; length: number; hidden: Hidden } | undefined;
  for (const { offset, length } of changed) {
    for (let at = offset; at < offset + length; at += chunkBytes) {
      const size = Math.min(chunkBytes, offset + length - at);
      const hidden = hiddenBy(layer, at, at + size);
      if (open && open.hidden === hidden && open.offset + open.length === at) open.length += size;
      else {
        if (open) yield open;
        open = { offset: at, length: size, hidden };
      }
    }
  }
  if (open) yield open;
}

function hiddenBy(layer: Pick<Layer, "extents"> | undefined, from: number, to: number): Hidden {
  let held = 0;
  for (const { offset, length } of layer?.extents(from, to) ?? [])
    held += Math.max(0, Math.min(to, offset + length) - Math.max(from, offset));
  if (held === 0) return "no";
  return held === to - from ? "yes" : "partly";
}

/** `blocks 4 to 7`, at the byte of the image where they begin. */
function partText({ offset, length }: Extent): string {
  const first = offset / BLOCK_BYTES;
  const last = Math.ceil((offset + length) / BLOCK_BYTES) - 1;
  return `${first === last ? `block ${first}` : `blocks ${first} to ${last}`} at ${atByte(offset)}`;
}

const NAMED_PARTS = 3;

/** The first few of them, and how many more there are. */
function partsText(parts: readonly Extent[]): string {
  const named = parts.slice(0, NAMED_PARTS).map(partText).join(", ");
  return parts.length > NAMED_PARTS ? `${named} and ${parts.length - NAMED_PARTS} more parts` : named;
}

/** The warning about a base whose change shows through; its file is the base. */
export function changedText({ record, changed }: BaseJudgement, cowfile: string): string {
  const seen = changed.filter(({ hidden }) => hidden !== "yes");
  return `was changed since ${record?.recorded ?? "then"}, and ${cowfile} does not hide that: ${partsText(seen)}`;
}

const HIDING: Readonly<Record<Hidden, string>> = {
  yes: "the cowfile hides that",
  partly: "the cowfile holds a part of these blocks, and may or may not hide it",
  no: "the cowfile does not hide that",
};

/** A judgement as problems of the cowfile; places are where it has these blocks, or would. */
export function* baseProblems(
  { record, ignored, changed }: BaseJudgement,
  base: string,
  dataOffsetBytes: number,
): Generator<Problem> {
  if (ignored)
    yield cowProblem(
      "base-record-ignored",
      { offset: 0, length: 0 },
      `what ${ignored.path} says of the base is ignored: ${ignored.why}`,
    );
  for (const part of changed) {
    yield cowProblem(
      part.hidden === "yes" ? "base-changed-hidden" : "base-changed",
      { offset: dataOffsetBytes + part.offset, length: part.length },
      `${base} was changed since ${record?.recorded ?? "then"}, in ${partText(part)}: ${HIDING[part.hidden]}`,
    );
  }
}
