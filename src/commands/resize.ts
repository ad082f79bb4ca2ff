/** Owns the command line of `resize`. */
import { Args, Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { dryRunFlag, fileArg, forceFlag } from "../cli/flags.ts";
import { resizeSummary } from "../cli/render/summaries.ts";
import { parseSize } from "../lib/bytes/size.ts";

export default class Resize extends BaseCommand<typeof Resize> {
  static override summary = "give a cowfile's image another size";
  static override description =
    "The image keeps what it shows. Beyond the base it reads as zeros; the base stays as it is. A new cowfile takes the place of the old one; an interruption leaves one of them.";
  static override examples = [
    "<%= config.bin %> resize vm1.cow 20G",
    "<%= config.bin %> resize vm1.cow +512M",
    "<%= config.bin %> resize vm1.cow 4G --shrink -n",
  ];
  static override args = {
    cowfile: fileArg("the cowfile"),
    size: Args.string({
      required: true,
      ignoreStdin: true,
      description: "the new size of the image, or with a + in front how much is added",
    }),
  };
  static override flags = {
    shrink: Flags.boolean({ default: false, description: "allow a smaller size: what is beyond it is lost" }),
    "dry-run": dryRunFlag(),
    force: forceFlag("resize despite a failed check"),
  };

  protected async execute(): Promise<Outcome> {
    const { resize } = await import("../lib/operations/resize.ts");
    const { size } = this.args;
    const { shrink, force } = this.flags;
    const wanted = size.startsWith("+") ? { addBytes: parseSize(size.slice(1)) } : { sizeBytes: parseSize(size) };
    const request = { ...wanted, shrink, force, dryRun: this.flags["dry-run"] };
    const result = await resize(this.args.cowfile, request, this.context());
    return this.done(result, () => resizeSummary(result));
  }
}
