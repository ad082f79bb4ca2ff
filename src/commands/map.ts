/** Owns the command line of `map`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { renderMap } from "../cli/render/map-entries.ts";

export default class MapCommand extends BaseCommand<typeof MapCommand> {
  static override summary = "list which file of a stack each part of its image comes from";
  static override description =
    "Reads metadata only, and changes nothing. With --json the list is that of `qemu-img map --output=json`.";
  static override examples = [
    "<%= config.bin %> map golden.img,vm1.cow",
    "<%= config.bin %> map golden.img,vm1.cow --json",
  ];
  static override args = { stack: fileArg("the stack BASE[,LAYER]…, or an image") };
  static override flags = {};

  protected async execute(): Promise<Outcome> {
    const { map } = await import("../lib/operations/map.ts");
    const { names, entries } = await map(this.args.stack, this.context());
    return { result: entries, exitCode: EXIT.ok, render: () => renderMap(names, entries) };
  }
}
