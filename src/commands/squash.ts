/** Owns the command line of `squash`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { abiFlag, fileArg, forceFlag, replaceFlag } from "../cli/flags.ts";
import { renderKeyValue } from "../cli/render/key-value.ts";
import { formatSize } from "../lib/bytes/size.ts";

export default class Squash extends BaseCommand<typeof Squash> {
  static override summary = "combine several layers of a stack into one";
  static override description =
    "Writes a cowfile with all blocks that layers FROM to TO of a stack have allocated, over the same backing. Layers may be of any format; they stay unchanged. The new cowfile appears whole or not at all.";
  static override examples = [
    "<%= config.bin %> squash golden.img,monday.cow,tuesday.cow week.cow",
    "<%= config.bin %> squash golden.img,a.cow,b.cow,c.cow upper.cow --from 2 --to 3",
  ];
  static override args = {
    stack: fileArg("the stack BASE,LAYER,…"),
    cowfile: fileArg("the cowfile to make"),
  };
  static override flags = {
    from: Flags.integer({ description: "the lowest layer, from 1 [default: the first]", helpValue: "N" }),
    to: Flags.integer({ description: "the highest layer [default: the last]", helpValue: "N" }),
    abi: abiFlag(),
    force: forceFlag("replace COWFILE if it exists and is one; take layers whose base was changed"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { squash } = await import("../lib/operations/squash.ts");
    const { from, to, abi, force, replace } = this.flags;
    const request = { from, to, abi, force, replace };
    const result = await squash(this.args.stack, this.args.cowfile, request, this.context());
    return this.done(result, () =>
      renderKeyValue([
        ["cowfile", result.output],
        ["over", result.over],
        ["layers", result.from === result.to ? `${result.from}` : `${result.from} to ${result.to}`],
        ["image size", formatSize(result.virtual_size)],
        ["fingerprint", result.fingerprint],
        ["blocks used", `${result.blocks_used} of ${result.rdo_blocks}`],
      ]),
    );
  }
}
