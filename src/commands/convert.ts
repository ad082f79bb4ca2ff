/** Owns the command line of `convert`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { dryRunFlag, fileArg, forceFlag, replaceFlag } from "../cli/flags.ts";
import { outputFormatFlags, outputFormatOf } from "../cli/output-format.ts";
import { convertSummary } from "../cli/render/summaries.ts";

export default class Convert extends BaseCommand<typeof Convert> {
  static override summary = "convert a stack to another format";
  static override description =
    "The output shows what the stack shows. With --base it holds only what differs from that. What the new format cannot express is reported as a loss. The output appears whole or not at all; the same command resumes an interrupted conversion.";
  static override examples = [
    "<%= config.bin %> convert golden.img,vm1.cow vm1.qcow2 --to qcow2",
    "<%= config.bin %> convert golden.img,vm1.cow vm1.qcow2 --to qcow2 --base golden.img",
    "<%= config.bin %> convert qcow2:vm1.qcow2 vm1.img --to raw",
  ];
  static override args = {
    stack: fileArg("what to convert, BASE[,LAYER]…; a cowfile alone can become one of another ABI"),
    output: fileArg("the file to make"),
  };
  static override flags = {
    ...outputFormatFlags(),
    flatten: Flags.boolean({
      default: false,
      description: "combine the layers into one without reporting that as a loss",
    }),
    "dry-run": dryRunFlag(),
    force: forceFlag("replace OUTPUT if it exists and is of that format; take layers whose base was changed"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { convert } = await import("../lib/operations/convert/convert.ts");
    const { flatten, force, replace } = this.flags;
    const request = { ...outputFormatOf(this.flags), flatten, force, replace, dryRun: this.flags["dry-run"] };
    const result = await convert(this.args.stack, this.args.output, request, this.context());
    return this.done(result, () => convertSummary(result));
  }
}
