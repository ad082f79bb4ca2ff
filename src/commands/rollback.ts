/** Owns the command line of `rollback`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { fileArg, yesFlag } from "../cli/flags.ts";
import { rollbackSummary } from "../cli/render/history.ts";

export default class Rollback extends BaseCommand<typeof Rollback> {
  static override summary = "take a stack file back to a checkpoint";
  static override description =
    "A new, empty cowfile over checkpoint CP becomes the top of STACKFILE. What was written since is removed, or with --keep stays in a stack file of its own. `cowtool ctl rollback` does the same with a disk that is being served.";
  static override examples = [
    "<%= config.bin %> rollback vm1.stack monday --yes",
    "<%= config.bin %> rollback vm1.stack monday --keep vm1-broken.stack",
  ];
  static override args = {
    stackfile: fileArg("the stack file"),
    checkpoint: fileArg("the name of the checkpoint"),
  };
  static override flags = {
    keep: Flags.string({
      description: "make this stack file, which names all layers as they are now",
      helpValue: "FILE",
    }),
    discard: Flags.boolean({ default: false, description: "also remove checkpoints that are later than CP" }),
    yes: yesFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { rollback } = await import("../lib/operations/history/rollback.ts");
    const { stackfile, checkpoint } = this.args;
    const { keep, discard, yes } = this.flags;
    const confirm = async (files: readonly string[]): Promise<void> =>
      this.confirm(stackfile, `remove what was written since "${checkpoint}" (${files.join(", ")})?`, yes);
    const result = await rollback(stackfile, { checkpoint, keep, discard, confirm }, this.context());
    return this.done(result, () => rollbackSummary(result));
  }
}
