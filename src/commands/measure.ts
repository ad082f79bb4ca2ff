/** Owns the command line of `measure`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { outputFormatFlags, outputFormatOf } from "../cli/output-format.ts";
import { renderKeyValue } from "../cli/render/key-value.ts";
import { formatSize } from "../lib/bytes/size.ts";

export default class Measure extends BaseCommand<typeof Measure> {
  static override summary = "tell how large a converted stack would be";
  static override description =
    "Reads the stack as convert would, and writes nothing: the length of the file, its length if it held the whole image, and the space that it would take on disk.";
  static override examples = [
    "<%= config.bin %> measure golden.img,vm1.cow --to qcow2",
    "<%= config.bin %> measure golden.img,vm1.cow --to qcow2 --base golden.img",
  ];
  static override args = { stack: fileArg("what would be converted, BASE[,LAYER]…") };
  static override flags = outputFormatFlags();

  protected async execute(): Promise<Outcome> {
    const { measure } = await import("../lib/operations/convert/measure.ts");
    const result = await measure(this.args.stack, outputFormatOf(this.flags), this.context());
    return {
      result,
      exitCode: EXIT.ok,
      render: () =>
        renderKeyValue([
          ["stack", result.stack],
          ["to", result.base === null ? result.to : `${result.to} over ${result.base}`],
          ["image size", formatSize(result.virtual_size)],
          ["required", formatSize(result.required)],
          ["fully allocated", formatSize(result.fully_allocated)],
          ["on disk", formatSize(result.allocated_size)],
        ]),
    };
  }
}
