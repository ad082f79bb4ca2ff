/**
 * Owns the request and the result of a merge, in place or into a new image.
 */
import type { StackPart } from "../../stack/part.ts";
import type { StackSpec } from "../../stack/spec.ts";

/** The question to the user. */
export interface MergeQuestion {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly blocks: number;
  /** The same in bytes. */
  readonly bytes: number;
  readonly resumed: boolean;
  /** The question is about giving up an interrupted merge. */
  readonly givesUp?: boolean;
}

/** What `merge` is asked for. */
export interface MergeRequest {
  /** Write a new image there, and leave both inputs unchanged. */
  readonly output?: string | undefined;
  /** Replace `output` if it is an image; default: what `force` says. */
  readonly replaceOutput?: boolean;
  /** Replace any kind of `output`, if this is its name. */
  readonly replace?: readonly string[] | undefined;
  readonly dryRun?: boolean;
  /** Override the checks: dirty, another fingerprint, a longer base, lost blocks, free space. */
  readonly force?: boolean;
  /** Save what will be overwritten there, as a cowfile over the merged base. */
  readonly undo?: string | undefined;
  /** Merge nothing: remove the merge journal of an interrupted merge of this cowfile, and leave the base as it is. */
  readonly giveUp?: boolean;
  /** Called once everything was checked, before the first write; throws to decline. */
  readonly confirm?: ((question: MergeQuestion) => Promise<void>) | undefined;
}

/** What `merge` did, or with `dryRun` would do. */
export interface MergeResult {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly mode: "in-place" | "new-file";
  /** The image that now holds the result. */
  readonly output: string;
  readonly blocks_merged: number;
  readonly bytes_merged: number;
  readonly dry_run: boolean;
  /** An interrupted merge was completed. */
  readonly resumed: boolean;
  /** Every block was merged already; nothing was written. */
  readonly already_merged: boolean;
  /** An interrupted merge was taken back by its undo file: the base is as before it. */
  readonly taken_back: boolean;
  readonly undo: string | null;
  /** Other cowfiles over the base no longer match it. */
  readonly fingerprint_changed: boolean;
  /** Unallocated blocks that hold data, which were not merged. */
  readonly unmarked_blocks: number;
  /** An interrupted merge was given up: its merge journal is removed, and the base is as the interruption left it. */
  readonly given_up: boolean;
}

/** A merge of other layers than a cowfile into an image. */
export interface AnyMerge {
  /** As given. */
  readonly rdofile: string;
  readonly cowfile: string;
  /** The backing of the merged layer. */
  readonly below: StackSpec;
  readonly layer: StackPart;
  /** The files of a cowfile over an image. */
  readonly simple?: { readonly rdofile: string; readonly cowfile: string } | undefined;
}

/** The result of a merge's executor. Absent values are zero or false. */
export interface Merged {
  /** The layer's size, in its units and in bytes. */
  readonly units?: number;
  readonly bytes?: number;
  readonly already?: boolean;
  readonly resumed?: boolean;
  readonly takenBack?: boolean;
  readonly givenUp?: boolean;
  readonly undo?: string | undefined;
  readonly fingerprintChanged?: boolean;
  readonly unmarked?: number;
}

/** @param at.output the image with the result */
export function resultOf(
  at: Pick<MergeResult, "rdofile" | "cowfile" | "output">,
  request: MergeRequest,
  done: Merged,
): MergeResult {
  const { units = 0, bytes = 0, already = false, fingerprintChanged = false } = done;
  return {
    rdofile: at.rdofile,
    cowfile: at.cowfile,
    mode: request.output === undefined ? "in-place" : "new-file",
    output: at.output,
    blocks_merged: already ? 0 : units,
    bytes_merged: already ? 0 : bytes,
    dry_run: request.dryRun ?? false,
    resumed: done.resumed ?? false,
    taken_back: done.takenBack ?? false,
    already_merged: already,
    undo: done.undo ?? null,
    fingerprint_changed: !already && fingerprintChanged,
    unmarked_blocks: done.unmarked ?? 0,
    given_up: done.givenUp ?? false,
  };
}
