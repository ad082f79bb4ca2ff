/** Owns the command line of `merge`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { dryRunFlag, fileArg, forceFlag, outputFlag, replaceFlag, yesFlag } from "../cli/flags.ts";
import { mergeSummary } from "../cli/render/merge-summary.ts";
import type { MergeQuestion } from "../lib/operations/merge/request.ts";

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
    rdofile: fileArg("the base, a file or block device"),
    cowfile: fileArg("a cowfile over it"),
  };
  static override flags = {
    output: outputFlag("write a new image to FILE and leave both inputs unchanged"),
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
    const { rdofile, cowfile } = this.args;
    const { output, force, replace, undo, yes } = this.flags;
    const confirm = async ({ blocks, resumed, givesUp }: MergeQuestion): Promise<void> =>
      this.confirm(
        rdofile,
        givesUp
          ? `give up the interrupted merge of ${cowfile}? ${rdofile} stays as it is, partly merged`
          : `${resumed ? "go on writing" : "write"} ${blocks} ${blocks === 1 ? "block" : "blocks"} of ${cowfile} into ${rdofile}?`,
        yes,
      );
    const result = await merge(
      rdofile,
      cowfile,
      { output, force, replace, undo, dryRun: this.flags["dry-run"], giveUp: this.flags["give-up"], confirm },
      this.context(),
    );
    return { result, exitCode: EXIT.ok, render: () => mergeSummary(result) };
  }
}
