/** Owns the command line of `squash`. */
import { Args, Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { abiFlag, fileArg, forceFlag, replaceFlag } from "../cli/flags.ts";
import { squashChainSummary } from "../cli/render/history.ts";
import { renderKeyValue } from "../cli/render/key-value.ts";
import { formatSize } from "../lib/bytes/size.ts";

export default class Squash extends BaseCommand<typeof Squash> {
  static override summary = "combine several layers of a stack into one";
  static override description =
    "Writes a cowfile with all blocks that layers FROM to TO of a stack have allocated, over the same backing. Layers may be of any format; they stay unchanged. The new cowfile appears whole or not at all. Of a stack file, without COWFILE, it joins frozen layers in place.";
  static override examples = [
    "<%= config.bin %> squash golden.img,monday.cow,tuesday.cow week.cow",
    "<%= config.bin %> squash golden.img,a.cow,b.cow,c.cow upper.cow --from 2 --to 3",
    "<%= config.bin %> squash vm1.stack",
  ];
  static override args = {
    stack: fileArg("the stack BASE,LAYER,…, or a stack file"),
    cowfile: Args.string({
      ignoreStdin: true,
      description: "the cowfile to make; of a stack file the checkpoints FROM..TO [default: layers without a name]",
    }),
  };
  static override flags = {
    from: Flags.integer({ description: "the lowest layer, from 1 [default: the first]", helpValue: "N" }),
    to: Flags.integer({ description: "the highest layer [default: the last]", helpValue: "N" }),
    abi: abiFlag(),
    force: forceFlag("replace COWFILE if it exists and is one; take layers whose base was changed"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { from, to, abi, force, replace } = this.flags;
    const { stack, cowfile } = this.args;
    const { rangeIn, squashChain } = await import("../lib/operations/history/squash-chain.ts");
    const range = rangeIn(stack, cowfile);
    if (cowfile === undefined || range) {
      const chain = await squashChain(stack, { range, abi, force }, this.context());
      return this.done(chain, () => squashChainSummary(chain));
    }
    const { squash } = await import("../lib/operations/squash.ts");
    const result = await squash(stack, cowfile, { from, to, abi, force, replace }, this.context());
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
