/** Owns the command line of `checkpoint`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { fileArg } from "../cli/flags.ts";
import { checkpointSummary } from "../cli/render/history.ts";

export default class Checkpoint extends BaseCommand<typeof Checkpoint> {
  static override summary = "freeze the top of a stack file under a name";
  static override description =
    "The written layer of STACKFILE becomes a checkpoint: a frozen layer with a name. A new, empty cowfile over it is written from now on. `cowtool ctl checkpoint` does the same with a disk that is being served.";
  static override examples = [
    "<%= config.bin %> checkpoint vm1.stack --as monday",
    "<%= config.bin %> checkpoint vm1.stack --as v2 --note before-the-upgrade",
  ];
  static override args = { stackfile: fileArg("the stack file") };
  static override flags = {
    as: Flags.string({ description: "the name of the checkpoint", helpValue: "CP", required: true }),
    note: Flags.string({ description: "what is to be remembered about it", helpValue: "TEXT" }),
  };

  protected async execute(): Promise<Outcome> {
    const { checkpoint } = await import("../lib/operations/history/checkpoint.ts");
    const { as, note } = this.flags;
    const result = await checkpoint(this.args.stackfile, { as, note }, this.context());
    return this.done(result, () => checkpointSummary(result));
  }
}
