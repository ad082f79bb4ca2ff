/**
 * Owns `merge` as callers see it: one cowfile flattened into its base, or with it into a new image.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { OpenFiles } from "../files.ts";
import { mergeInPlace } from "./in-place.ts";
import { mergeIntoNewFile } from "./new-file.ts";

/** What the user is asked to agree to. */
export interface MergeQuestion {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly blocks: number;
  readonly resumed: boolean;
}

export interface MergeRequest {
  /** Write a new image there, and leave both inputs alone. */
  readonly output?: string | undefined;
  /** Replace `output` if it exists; default: what `force` says. */
  readonly replaceOutput?: boolean;
  readonly dryRun?: boolean;
  /** Override the checks: dirty, another fingerprint, a longer base, lost blocks, free space. */
  readonly force?: boolean;
  /** Save what will be overwritten there, as a cowfile over the merged base. */
  readonly undo?: string | undefined;
  /** Called once everything was checked, before the first write; throws to decline. */
  readonly confirm?: ((question: MergeQuestion) => Promise<void>) | undefined;
}

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
  /** The base held every block already; nothing was written. */
  readonly already_merged: boolean;
  readonly undo: string | null;
  /** Other cowfiles over the base no longer match it. */
  readonly fingerprint_changed: boolean;
}

/**
 * Merges `cowfile` into `rdofile`, or into a new image. Everything is checked before the first write. Interrupted in
 * place (SIGKILL, full disk, signal), the same call completes it.
 *
 * @throws CowError `dirty`, `packed`, `truncated`, `damaged`, `bad-head`, `wrong-base`, `unsuitable`, `pending-merge`,
 *   `exists`, `usage`, `locked`, `no-space`, `permission`, `io`, `declined`, `interrupted`
 */
export async function merge(rdofile: string, cowfile: string, request: MergeRequest, context: OperationContext): Promise<MergeResult> {
  const { output } = request;
  if (output !== undefined && request.undo !== undefined) {
    throw new CowError("usage", "--undo goes with a merge in place: with --output the base is not changed");
  }
  return OpenFiles.during(context, (files) =>
    output === undefined ? mergeInPlace(files, rdofile, cowfile, request, context) : mergeIntoNewFile(files, { rdofile, cowfile, output }, request, context),
  );
}
