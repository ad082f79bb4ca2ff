/** Owns the command line of `rebase`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { dryRunFlag, fileArg, forceFlag } from "../cli/flags.ts";
import { rebaseSummary } from "../cli/render/summaries.ts";

export default class Rebase extends BaseCommand<typeof Rebase> {
  static override summary = "put a cowfile over another base";
  static override description =
    "The cowfile shows over NEWBASE what it showed over OLDBASE, byte for byte: blocks that differ between the two are copied up into it. A new cowfile takes the place of the old one; an interruption leaves one of them.";
  static override examples = [
    "<%= config.bin %> rebase vm1.cow --from golden-05.img --to golden-06.img",
    "<%= config.bin %> rebase vm1.cow --from golden-05.img --to golden-06.img --drop-equal",
    "<%= config.bin %> rebase vm1.cow --to moved.img --unsafe",
  ];
  static override args = { cowfile: fileArg("the cowfile") };
  static override flags = {
    from: Flags.string({ description: "what COWFILE is over, a stack; needed unless --unsafe", helpValue: "OLDBASE" }),
    to: Flags.string({
      description: "what it is to be over, a stack of the same size",
      helpValue: "NEWBASE",
      required: true,
    }),
    "drop-equal": Flags.boolean({ default: false, description: "give up blocks that are the same in NEWBASE" }),
    unsafe: Flags.boolean({
      default: false,
      description:
        "copy nothing and only note NEWBASE in COWFILE: it then shows something else wherever the bases differ",
    }),
    "dry-run": dryRunFlag(),
    force: forceFlag("rebase despite a failed check"),
  };

  protected async execute(): Promise<Outcome> {
    const { rebase } = await import("../lib/operations/rebase.ts");
    const { from, to, unsafe, force } = this.flags;
    const request = { from, to, unsafe, force, dropEqual: this.flags["drop-equal"], dryRun: this.flags["dry-run"] };
    const result = await rebase(this.args.cowfile, request, this.context());
    return this.done(result, () => rebaseSummary(result));
  }
}
