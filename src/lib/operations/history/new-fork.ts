/**
 * Owns making the two files of a fork, with a server or without one: what can be known is refused before anything is changed, and
 * what was made is taken back where the rest fails.
 */
import * as path from "node:path";
import { CowError } from "../../errors.ts";
import { claimOutput, NEVER } from "../../output/claim.ts";
import { forked } from "../../stack/chain.ts";
import { removeEmptyTop } from "../../stack/pending.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { type OpenFiles, refuseSameFile } from "../files.ts";
import { specOf } from "./hold.ts";
import { claimSecond, type SecondStackFile } from "./second-stack-file.ts";

export class NewFork {
  /** The new stack file. */
  readonly stackFile: string;
  /** Its top. */
  readonly cowfile: string;
  readonly #files: OpenFiles;
  readonly #held: HeldStackFile;
  readonly #second: SecondStackFile;
  /** The cowfile, as the parent would name it. */
  readonly #stored: string;
  /** Undoes what make() did, or began. */
  #takeBack: () => void = () => undefined;

  /**
   * @param cowfile default: beside the new stack file, with its name
   * @throws CowError `usage` for names that are no two new files; `exists` for a stack file's name that another file has
   */
  constructor(files: OpenFiles, held: HeldStackFile, stackFile: string, cowfile: string | undefined) {
    const { storage } = files;
    this.#files = files;
    this.#held = held;
    this.#second = claimSecond(files, held, stackFile);
    this.stackFile = this.#second.name;
    this.cowfile = cowfile ?? path.join(path.dirname(this.stackFile), `${stemOf(this.stackFile)}.cow`);
    refuseSameFile(storage, this.cowfile, [...specOf(held).files, this.stackFile]);
    this.#refuseName(this.stackFile, "is to be both the stack file and the cowfile of the fork");
    const real = storage.realPath(this.cowfile);
    const isBeside = path.dirname(real) === path.dirname(storage.realPath(this.stackFile));
    // Beside the stack file it is found wherever both are moved to.
    const isFixed = path.isAbsolute(this.cowfile) && !isBeside;
    this.#stored = isFixed ? real : path.relative(path.resolve(path.dirname(held.path)), path.resolve(real));
  }

  /** Is the new stack file there already, over layer `at`? */
  isNamed(at: number): boolean {
    return this.#second.says(forked(this.#held.document, at, this.#stored).child);
  }

  /**
   * Changes nothing.
   *
   * @param isNamed the stack file is there, and says what it should: only its cowfile is missing
   * @param newTop the file that the parent gets as its top before
   * @throws CowError `exists` for a file that is there; `usage` for the name of the new top; `not-found`, `permission`, `io` for a
   *   directory in which no file can be made
   */
  requireFree(isNamed: boolean, newTop: string | undefined): void {
    const { storage } = this.#files;
    if (!isNamed && storage.facts(this.stackFile))
      throw new CowError("exists", "already exists", { file: this.stackFile });
    claimOutput(this.#files, this.cowfile, NEVER, "cowfile");
    if (newTop !== undefined) this.#refuseName(newTop, `is to be the new top of ${this.#held.name}`);
    for (const file of isNamed ? [this.cowfile] : [this.stackFile, this.cowfile])
      storage.create(file, { inputs: [this.#held.path] }).abandon();
  }

  /**
   * Marks the layers up to `at` as shared, then makes the stack file, then its cowfile. What fails takes it all back.
   *
   * @param makeTop makes the cowfile, whole and durable
   */
  async make(at: number, makeTop: () => void | Promise<void>): Promise<void> {
    const held = this.#held;
    const { storage } = this.#files;
    const before = held.document;
    const { parent, child } = forked(before, at, this.#stored);
    let isMaking = false;
    this.#takeBack = () => {
      // One that holds anything stays, and so does what names it.
      if (isMaking && storage.facts(this.cowfile) && !removeEmptyTop(storage, this.cowfile)) return;
      this.#second.remove(child);
      if (held.document === parent) held.replace(before);
    };
    try {
      // From now on the layers are not removed. The new stack file comes before its cowfile: it says whose that is.
      held.replace(parent);
      this.#second.write(child);
      isMaking = true;
      await makeTop();
    } catch (error) {
      this.takeBack();
      throw error;
    }
  }

  /** Removes both files, unless the cowfile holds anything. What fails here stays: the same fork completes it, or says what is there. */
  takeBack(): void {
    const takeBack = this.#takeBack;
    this.#takeBack = () => undefined;
    try {
      takeBack();
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
    }
  }

  #refuseName(other: string, what: string): void {
    const { storage } = this.#files;
    const placeOf = (file: string): string => path.resolve(storage.realPath(path.dirname(file)), path.basename(file));
    const taken = [this.cowfile, ...(other === this.stackFile ? [] : [this.stackFile])];
    const file = taken.find((each) => placeOf(each) === placeOf(other));
    if (file !== undefined) throw new CowError("usage", `${what}: choose another name`, { file });
  }
}

export function stemOf(stackFile: string): string {
  return path.basename(stackFile).replace(/\.stack$/, "");
}
