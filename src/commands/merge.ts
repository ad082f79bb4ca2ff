/** Owns the command line of `merge`. */
import { Args, Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { dryRunFlag, fileArg, forceFlag, outputFlag, replaceFlag, yesFlag } from "../cli/flags.ts";
import { mergeQuestion, mergeSummary } from "../cli/render/merge-summary.ts";
import { threeWaySummary } from "../cli/render/summaries.ts";
import { CowError } from "../lib/errors.ts";
import type { MergeQuestion } from "../lib/operations/merge/request.ts";
import type { Preferred } from "../lib/operations/three-way.ts";

export default class Merge extends BaseCommand<typeof Merge> {
  static override summary = "flatten a cowfile into its base";
  static override description =
    "Writes the cowfile's blocks into RDOFILE, or with --output into a new image. Everything is checked before the first write. The same command resumes a merge in place, whatever interrupted it.";
  static override examples = [
    "<%= config.bin %> merge golden.img vm1.cow --undo before.cow",
    "<%= config.bin %> merge golden.img before.cow",
    "<%= config.bin %> merge golden.img vm1.cow --output vm1.img",
  ];
  static override args = {
    rdofile: fileArg("the base, a file or block device; or a stack"),
    cowfile: Args.string({ ignoreStdin: true, description: "a cowfile over it; not needed with --output and a stack" }),
    sibling: Args.string({ ignoreStdin: true, description: "a second one: both become one cowfile, --output" }),
  };
  static override flags = {
    output: outputFlag("write a new image to FILE and leave both inputs unchanged; with SIBLING, a cowfile"),
    prefer: Flags.custom<Preferred>({
      description: "with SIBLING: which of the two to take where both changed, COWFILE or SIBLING",
      options: ["a", "b"],
    })(),
    yes: yesFlag(),
    "dry-run": dryRunFlag(),
    force: forceFlag("merge despite a failed check; with --output, replace FILE if it is an image"),
    replace: replaceFlag(),
    undo: Flags.string({
      description:
        "first save the blocks to be overwritten in FILE, a cowfile over the merged base: merging FILE undoes the merge",
      helpValue: "FILE",
    }),
    "give-up": Flags.boolean({
      default: false,
      description:
        "merge nothing: remove the merge journal of an interrupted merge whose COWFILE and undo file are lost",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { merge } = await import("../lib/operations/merge/merge.ts");
    const { rdofile, cowfile, sibling } = this.args;
    if (sibling !== undefined || this.flags.prefer !== undefined) return this.#threeWay(sibling);
    const { output, force, replace, undo, yes } = this.flags;
    const confirm = async (question: MergeQuestion): Promise<void> =>
      this.confirm(rdofile, mergeQuestion(question.rdofile, question.cowfile, question, undo), yes);
    const result = await merge(
      rdofile,
      cowfile,
      { output, force, replace, undo, dryRun: this.flags["dry-run"], giveUp: this.flags["give-up"], confirm },
      this.context(),
    );
    return this.done(result, () => mergeSummary(result));
  }

  async #threeWay(sibling: string | undefined): Promise<Outcome> {
    if (sibling === undefined) throw new CowError("usage", "--prefer goes with a second cowfile, SIBLING");
    const { mergeSiblings } = await import("../lib/operations/three-way.ts");
    const { output, undo, prefer, force, replace } = this.flags;
    if (undo !== undefined || this.flags["give-up"])
      throw new CowError("usage", "--undo and --give-up go with one cowfile, not with a second one", { file: sibling });
    if (output === undefined)
      throw new CowError("usage", "is a second cowfile: merging two makes a new one, so --output FILE is needed", {
        file: sibling,
      });
    const request = { output, prefer, force, replace, dryRun: this.flags["dry-run"] };
    const result = await mergeSiblings(this.args.rdofile, this.args.cowfile ?? "", sibling, request, this.context());
    const isRefused = result.bytes_in_conflict > 0 && prefer === undefined;
    const render = () => threeWaySummary(result, { all: this.flags.verbose });
    return { result, exitCode: isRefused ? EXIT.no : EXIT.ok, render };
  }
}
