/** Owns the command line of `drop`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { fileArg } from "../cli/flags.ts";
import { dropSummary } from "../cli/render/history.ts";

export default class Drop extends BaseCommand<typeof Drop> {
  static override summary = "take the name of a checkpoint away";
  static override description =
    "The checkpoint is one no longer. Its layer stays in the stack file without a name, until `cowtool squash` joins it with its neighbour.";
  static override examples = ["<%= config.bin %> drop vm1.stack monday"];
  static override args = {
    stackfile: fileArg("the stack file"),
    checkpoint: fileArg("the name of the checkpoint"),
  };

  protected async execute(): Promise<Outcome> {
    const { drop } = await import("../lib/operations/history/drop.ts");
    const result = await drop(this.args.stackfile, this.args.checkpoint, this.context());
    return this.done(result, () => dropSummary(result));
  }
}
