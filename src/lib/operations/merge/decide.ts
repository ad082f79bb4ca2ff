/**
 * Owns the decisions of a merge in place: pure functions of facts that were gathered before the first write.
 * in-place.ts gathers the facts and has one executor for each state. docs/internals/in-place.md has the picture.
 */

/** Facts that need reading are functions, called only if the answer matters. */
export interface Facts {
  /**
   * The owner of the merge journal of an interrupted merge into this base: this cowfile; a merge whose undo file this
   * cowfile is; another merge.
   */
  readonly journal: "none" | "ours" | "undo" | "other";
  readonly force: boolean;
  /** Allocated blocks of the cowfile. */
  readonly blocks: number;
  /** Does our merge journal explain the base as it is? Asked only if there is one. */
  explained(): Promise<boolean>;
  /** Is it the base that the cowfile was made for? */
  matches(): Promise<boolean>;
  /** Does the base have every block of the cowfile already? Reads both. */
  holdsAll(): Promise<boolean>;
}

/**
 * - `fresh`: a merge begins
 * - `resume`: an interrupted one is completed
 * - `insist`: a merge into another base begins, as the user wants it
 * - `complete`: the base has all blocks already
 * - `take-back`: the cowfile is the undo file of an interrupted merge
 * - `refuse-pending`: another merge into the base was interrupted
 * - `refuse-wrong-base`
 */
export type State = "fresh" | "resume" | "insist" | "complete" | "take-back" | "refuse-pending" | "refuse-wrong-base";

/** @throws CowError what the facts throw */
export async function decide(facts: Facts): Promise<State> {
  const { journal, force, blocks } = facts;
  if (journal === "undo") return "take-back";
  if (journal === "other" && !force) return "refuse-pending";
  if (journal === "ours" && (await facts.explained())) return "resume";
  // A merge journal that does not explain the base is of another base of that name.
  const matches = await facts.matches();
  // An empty cowfile is contained in every base: that proves nothing.
  if (blocks > 0 && (await facts.holdsAll())) return "complete";
  if (matches) return "fresh";
  return force ? "insist" : "refuse-wrong-base";
}

export interface UndoFacts {
  /** Real path of the undo file that was asked for. */
  readonly asked: string | undefined;
  /** The file of that name: none; one that looks like the undo file of this very merge; another. */
  readonly there: "nothing" | "same" | "other";
  /** The merge journal of the merge that is completed; undefined for a new merge. */
  readonly journal: { readonly undo: string | null; readonly undo_saved: boolean } | undefined;
}

/** `path` is the undo file that the merge has, null for none; `make` says whether it is written now. */
export type UndoPlan =
  | { readonly path: string | null; readonly make: false }
  | { readonly path: string; readonly make: true; readonly replace: boolean };

/**
 * Why there can be no such undo file: the blocks that it needs are overwritten; another file has its place; the name is
 * taken.
 */
export type UndoRefusal = "too-late" | "not-the-saved-one" | "exists";

/** Decides which undo file a merge writes or has. None is made for a partly merged base. */
export function decideUndo({ asked, there, journal }: UndoFacts): UndoPlan | UndoRefusal {
  if (asked === undefined) return { path: journal?.undo_saved ? journal.undo : null, make: false };
  if (journal && journal.undo !== asked) return "too-late";
  if (journal?.undo_saved) return there === "same" ? { path: asked, make: false } : "not-the-saved-one";
  // The base was not touched between the undo file's appearance and its completion in the merge journal.
  if (there === "other" || (there === "same" && !journal)) return "exists";
  return { path: asked, make: true, replace: there === "same" };
}
