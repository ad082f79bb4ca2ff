/** Owns the command line of `invert`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { abiFlag, fileArg, forceFlag, replaceFlag } from "../cli/flags.ts";
import { renderKeyValue } from "../cli/render/key-value.ts";
import { formatSize } from "../lib/bytes/size.ts";

export default class Invert extends BaseCommand<typeof Invert> {
  static override summary = "swap a base and the layer over it";
  static override description =
    "Writes base plus layer as a new base, and a cowfile over it with the old contents of the changed blocks: the two together read as the old base, bit for bit. Turns new data over an old base into old data over a new one, and back. Both inputs stay unchanged.";
  static override examples = [
    "<%= config.bin %> invert golden.img vm1.cow -o new.img --layer old.cow",
    "<%= config.bin %> invert origin.img snapshot.store -o yesterday.img --layer today.cow",
  ];
  static override args = {
    base: fileArg("the base, or a stack BASE,LAYER,…"),
    layer: fileArg("the layer over it"),
  };
  static override flags = {
    output: Flags.string({ char: "o", description: "the new base to make", helpValue: "FILE", required: true }),
    layer: Flags.string({ description: "the new layer to make, a cowfile", helpValue: "FILE", required: true }),
    abi: abiFlag(),
    force: forceFlag("replace the new files if they exist and are an image and a cowfile"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { invert } = await import("../lib/operations/invert.ts");
    const { output, layer, abi, force, replace } = this.flags;
    const request = { output, layer, abi, force, replace };
    const result = await invert(this.args.base, this.args.layer, request, this.context());
    return this.done(result, () =>
      renderKeyValue([
        ...(result.already_done ? [["state", "both files are there already, nothing written"] as const] : []),
        ["new base", result.new_base],
        ["new layer", result.new_layer],
        ["image size", formatSize(result.virtual_size)],
        ["fingerprint", `${result.fingerprint} (of the new base)`],
        ["blocks used", `${result.blocks_used} of ${result.rdo_blocks}`],
      ]),
    );
  }
}
