/**
 * Owns what a merge in place does about what it finds: pure decisions, each from facts that were gathered before the first
 * write. in-place.ts gathers the facts and has one executor for each state. docs/internals/in-place.md has the picture.
 */

/** Facts that cost reading are functions, asked only where the answer counts. */
export interface Facts {
  /**
   * Whose the journal of an interrupted merge into this base is: of this cowfile; of a merge whose undo file this cowfile
   * is; of another merge.
   */
  readonly journal: "none" | "ours" | "undo" | "other";
  readonly force: boolean;
  /** Blocks that the cowfile holds. */
  readonly blocks: number;
  /** Does our journal explain the base as it is? Asked only where there is one. */
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
  // A journal that does not explain the base is about another one that was here before.
  const matches = await facts.matches();
  // Every base has all of no blocks: that says nothing.
  if (blocks > 0 && (await facts.holdsAll())) return "complete";
  if (matches) return "fresh";
  return force ? "insist" : "refuse-wrong-base";
}

export interface UndoFacts {
  /** Real path of the undo file that was asked for. */
  readonly asked: string | undefined;
  /** What has that name: nothing; what looks like the undo file of this very merge; anything else. */
  readonly there: "nothing" | "same" | "other";
  /** What the journal says of the merge that is completed; undefined where one begins. */
  readonly journal: { readonly undo: string | null; readonly undo_saved: boolean } | undefined;
}

/** `path` is the undo file that the merge has, null for none; `make` says whether it is written now. */
export type UndoPlan =
  | { readonly path: string | null; readonly make: false }
  | { readonly path: string; readonly make: true; readonly replace: boolean };

/** Why there can be no such undo file: what it would hold is overwritten; another file has its place; the name is taken. */
export type UndoRefusal = "too-late" | "not-the-saved-one" | "exists";

/** Which undo file a merge writes or has. One is never made of a base that is partly merged. */
export function decideUndo({ asked, there, journal }: UndoFacts): UndoPlan | UndoRefusal {
  if (asked === undefined) return { path: journal?.undo_saved ? journal.undo : null, make: false };
  if (journal && journal.undo !== asked) return "too-late";
  if (journal?.undo_saved) return there === "same" ? { path: asked, make: false } : "not-the-saved-one";
  // Between the undo file's appearance and the journal's word that it is complete, the base was not touched.
  if (there === "other" || (there === "same" && !journal)) return "exists";
  return { path: asked, make: true, replace: there === "same" };
}
