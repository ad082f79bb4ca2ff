/**
 * Owns what checkpoints, forks, rollbacks and squashes make of a stack file's document: pure functions, which open nothing.
 * The last layer is the top, which is written; the layers below it are frozen. Layers are named by their index.
 */
import { CowError } from "../errors.ts";
import type { Checkpoint } from "./part.ts";
import {
  isCheckpointName,
  isCheckpointNote,
  type LayerPart,
  NAME_RULE,
  NOTE_RULE,
  type Pending,
  type StackDocument,
} from "./stack-document.ts";

/** Neighbouring layers, both ends included. */
export interface LayerRange {
  readonly from: number;
  readonly to: number;
}

/** A new document, and the layers that it no longer names. Those that no other stack file names are to be removed. */
export interface Shortened {
  readonly document: StackDocument;
  readonly gone: readonly LayerPart[];
}

function without(document: StackDocument, gone: readonly LayerPart[]): Shortened {
  const files = gone.flatMap(({ file, shared }) => (shared ? [] : file));
  const all = [...(document.to_remove ?? []), ...files];
  return { document: all.length > 0 ? { ...document, to_remove: all } : document, gone };
}

/** The files are removed. */
export function removed({ to_remove = [], ...rest }: StackDocument, files: readonly string[]): StackDocument {
  const left = to_remove.filter((file) => !files.includes(file));
  return left.length > 0 ? { ...rest, to_remove: left } : rest;
}

/** The names of its checkpoints, bottom to top. */
export function checkpointNames({ layers }: Pick<StackDocument, "layers">): readonly string[] {
  return layers.flatMap(({ checkpoint }) => checkpoint?.name ?? []);
}

/** The layer that is a checkpoint. @throws CowError `not-found` */
export function checkpointAt(document: StackDocument, name: string, stackFile: string): number {
  const at = document.layers.findIndex(({ checkpoint }) => checkpoint?.name === name);
  if (at >= 0) return at;
  const names = checkpointNames(document);
  throw new CowError("not-found", `has no checkpoint "${name}"`, {
    file: stackFile,
    details: { checkpoint: name },
    hints: [names.length === 0 ? "it has no checkpoints" : `its checkpoints: ${names.join(", ")}`],
  });
}

/** @throws CowError `usage` for what cannot be the name of a checkpoint, or its note */
export function requireCheckpointWords(name: string, note = "", stackFile?: string): void {
  const about = { file: stackFile, details: { checkpoint: name } };
  if (!isCheckpointName(name)) throw new CowError("usage", `"${name}" is no name of a checkpoint: ${NAME_RULE}`, about);
  if (!isCheckpointNote(note)) throw new CowError("usage", `is no note of a checkpoint: ${NOTE_RULE}`, about);
}

/** @throws CowError `usage` for what cannot be the name of a checkpoint, `exists` for one that the stack file has */
export function requireFreeName(document: StackDocument, name: string, stackFile: string): void {
  const about = { file: stackFile, details: { checkpoint: name } };
  requireCheckpointWords(name, undefined, stackFile);
  if (checkpointNames(document).includes(name))
    throw new CowError("exists", `has a checkpoint "${name}" already`, about);
}

/** A checkpoint is being made. */
export function begun(document: StackDocument, pending: Pending): StackDocument {
  return { ...document, pending };
}

/** The pending checkpoint was made: the top is frozen, and the new file is the top. */
export function committed({ pending, layers, ...rest }: StackDocument): StackDocument {
  const top = layers.at(-1);
  if (!pending || !top) throw new Error("no checkpoint is pending");
  const frozen = { ...top, checkpoint: pending.checkpoint };
  return { ...rest, layers: [...layers.slice(0, -1), frozen, { file: pending.file }] };
}

/** As committed(), for a stack file whose replacement decides for those of other disks, too. */
export function committedFor(document: StackDocument, members: readonly string[]): StackDocument {
  const { pending, decided = [] } = document;
  const next = committed(document);
  if (members.length === 0 || !pending) return next;
  const { name, time } = pending.checkpoint;
  return { ...next, decided: [...decided, { name, time, members }] };
}

/** Did the replacement of this stack file decide that the checkpoint was made? Also if it was dropped here since. */
export function hasDecided({ layers, decided = [] }: StackDocument, { name, time }: Checkpoint): boolean {
  const isIt = (each: Checkpoint | undefined): boolean => each?.name === name && each.time === time;
  return decided.some(isIt) || layers.some(({ checkpoint }) => isIt(checkpoint));
}

/** Without those members of which `hasWritten` says that they have written the checkpoint down. */
export function writtenDown(
  { decided = [], ...rest }: StackDocument,
  hasWritten: (member: string, checkpoint: Checkpoint) => boolean,
): StackDocument {
  const left = decided.flatMap((each) => {
    const members = each.members.filter((member) => !hasWritten(member, each));
    return members.length > 0 ? { ...each, members } : [];
  });
  return left.length > 0 ? { ...rest, decided: left } : rest;
}

/** The pending checkpoint was not made. */
export function withdrawn({ pending: _, ...rest }: StackDocument): StackDocument {
  return rest;
}

/** A file is being made: it is to be removed, unless a later document names it as a layer. */
export function announced(document: StackDocument, file: string): StackDocument {
  return { ...document, to_remove: [...(document.to_remove ?? []), file] };
}

/** A new top over the layers up to `at`. @param isKept another stack file names the old chain: nothing is removed */
export function rolledBack(document: StackDocument, at: number, file: string, isKept = false): Shortened {
  const { layers, ...rest } = removed(document, [file]);
  if (isKept) return { document: { ...rest, layers: [...layers.slice(0, at + 1), { file }] }, gone: [] };
  return without({ ...rest, layers: [...layers.slice(0, at + 1), { file }] }, layers.slice(at + 1));
}

/** The layers up to `at` belong to other stack files, too. */
export function sharedUpTo(document: StackDocument, at: number): StackDocument {
  return { ...document, layers: document.layers.map((layer, i) => (i <= at ? { ...layer, shared: true } : layer)) };
}

/** A second stack file over the layers up to `at`, with a top of its own. Names stay relative to the first one. */
export function forked(
  document: StackDocument,
  at: number,
  file: string,
): { readonly parent: StackDocument; readonly child: StackDocument } {
  const parent = sharedUpTo(document, at);
  const { cowtool_stack, base } = parent;
  return { parent, child: { cowtool_stack, base, layers: [...parent.layers.slice(0, at + 1), { file }] } };
}

/**
 * The runs of frozen layers that can be one without the loss of a checkpoint: each ends with the first layer that has a name, or
 * below one that other stack files name, which would be copied and not become less.
 */
export function unnamedRuns({ layers }: Pick<StackDocument, "layers">): readonly LayerRange[] {
  const runs: LayerRange[] = [];
  let from = 0;
  const end = (to: number, next: number): void => {
    if (to > from) runs.push({ from, to });
    from = next;
  };
  const frozen = layers.slice(0, -1);
  for (const [i, { checkpoint, shared }] of frozen.entries()) {
    if (shared) end(i - 1, i + 1);
    else if (checkpoint) end(i, i + 1);
  }
  end(frozen.length - 1, frozen.length);
  return runs;
}

/**
 * The layers above checkpoint FROM up to and including checkpoint TO; without FROM from the lowest on, without TO up to the
 * last frozen one.
 *
 * @throws CowError `not-found`; `usage` if there is no such layer
 */
export function rangeOf(
  document: StackDocument,
  { from, to }: { readonly from?: string | undefined; readonly to?: string | undefined },
  stackFile: string,
): LayerRange {
  const first = from === undefined ? 0 : checkpointAt(document, from, stackFile) + 1;
  const last = to === undefined ? document.layers.length - 2 : checkpointAt(document, to, stackFile);
  if (last >= document.layers.length - 1)
    throw new CowError("usage", `"${to}" is its topmost layer: only layers below that are squashed`, {
      file: stackFile,
    });
  if (first > last)
    throw new CowError("usage", `has no layers above ${from ?? "the base"} up to ${to ?? "the top"}`, {
      file: stackFile,
      hints: ["FROM is the lower checkpoint, TO the upper one"],
    });
  return { from: first, to: last };
}

/** The layers of a range are one, in `file`, which has the name of the topmost of them. */
export function squashed(document: StackDocument, { from, to }: LayerRange, file: string): Shortened {
  const { layers, ...rest } = removed(document, [file]);
  const name = layers[to]?.checkpoint;
  const joined: LayerPart = { file, ...(name && { checkpoint: name }) };
  const next = [...layers.slice(0, from), joined, ...layers.slice(to + 1)];
  return without({ ...rest, layers: next }, layers.slice(from, to + 1));
}

/** The layer has no name any more; it stays. */
export function dropped(document: StackDocument, at: number): StackDocument {
  const unnamed = ({ checkpoint: _, ...rest }: LayerPart): LayerPart => rest;
  return { ...document, layers: document.layers.map((layer, i) => (i === at ? unnamed(layer) : layer)) };
}

/** The base and the layers up to `at` are one raw image, `base`. */
export function flattened(document: StackDocument, at: number, base: string): Shortened {
  const { layers } = document;
  const next = { ...document, base: { file: base, format: "raw" }, layers: layers.slice(at + 1) };
  return without(next, layers.slice(0, at + 1));
}
