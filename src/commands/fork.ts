/** Owns the command line of `fork`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { fileArg } from "../cli/flags.ts";
import { forkSummary } from "../cli/render/history.ts";

export default class Fork extends BaseCommand<typeof Fork> {
  static override summary = "make a second disk from a checkpoint of a stack file";
  static override description =
    "Makes the stack file NEW over the layers of STACKFILE up to checkpoint CP, with a new, empty cowfile as its top. The layers are shared: neither disk writes or removes them. Without @CP a checkpoint is made now, with the name of NEW.";
  static override examples = [
    "<%= config.bin %> fork vm1.stack@monday test.stack",
    "<%= config.bin %> fork vm1.stack vm2.stack --cowfile /fast/vm2.cow",
  ];
  static override args = {
    stackfile: fileArg("the stack file, perhaps with @ and the name of a checkpoint"),
    new: fileArg("the stack file to make"),
  };
  static override flags = {
    cowfile: Flags.string({
      description: "the cowfile to make [default: beside NEW, with its name]",
      helpValue: "FILE",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { fork, stackFileAt } = await import("../lib/operations/history/fork.ts");
    const { stackFile, checkpoint } = stackFileAt(this.args.stackfile, this.context());
    const request = { output: this.args.new, checkpoint, cowfile: this.flags.cowfile };
    const result = await fork(stackFile, request, this.context());
    return this.done(result, () => forkSummary(result));
  }
}
