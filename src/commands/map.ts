/** Owns the command line of `map`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { renderMap, svgOfStack } from "../cli/render/map-entries.ts";

export default class MapCommand extends BaseCommand<typeof MapCommand> {
  static override summary = "list which file of a stack each part of its image comes from";
  static override description =
    "Reads metadata only, and changes nothing. With --json the list is that of `qemu-img map --output=json`.";
  static override examples = [
    "<%= config.bin %> map golden.img,vm1.cow",
    "<%= config.bin %> map golden.img,vm1.cow --json",
    "<%= config.bin %> map golden.img,monday.cow,tuesday.cow --svg >week.svg",
  ];
  static override args = { stack: fileArg("the stack BASE[,LAYER]…, or an image") };
  static override flags = {
    svg: Flags.boolean({ default: false, description: "draw it as an SVG picture on stdout, a colour for each layer" }),
  };

  protected async execute(): Promise<Outcome> {
    const { map } = await import("../lib/operations/map.ts");
    const found = await map(this.args.stack, this.context());
    const { names, entries } = found;
    const picture = () => svgOfStack(this.args.stack, found);
    return {
      result: entries,
      exitCode: EXIT.ok,
      render: () => (this.flags.svg ? picture() : renderMap(names, entries)),
    };
  }
}
