/** Owns the command line of `unpack`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { fileArg, forceFlag, replaceFlag } from "../cli/flags.ts";
import { packSummary } from "../cli/render/summaries.ts";

export default class Unpack extends BaseCommand<typeof Unpack> {
  static override summary = "unpack a packed cowfile";
  static override description =
    "Detects the packed form by the file's content, verifies every checksum, and writes the cowfile that was packed, byte for byte. It appears whole or not at all.";
  static override examples = [
    "<%= config.bin %> unpack vm1.packed vm1.cow",
    "<%= config.bin %> unpack - vm1.cow <vm1.packz",
  ];
  static override outputArg = "cowfile";
  static override args = {
    packfile: fileArg("the packed file, or - for stdin"),
    cowfile: fileArg("the cowfile to make, or - for stdout"),
  };
  static override flags = {
    threads: Flags.integer({
      description: "how many pieces to decompress at once (default: one a processor)",
      helpValue: "N",
    }),
    force: forceFlag("replace COWFILE if it exists and is one"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { unpack } = await import("../lib/operations/pack/unpack.ts");
    const { packfile, cowfile } = this.args;
    const { threads, force, replace } = this.flags;
    const result = await unpack(packfile, cowfile, { threads, force, replace, streams: this.streams }, this.context());
    return this.done(result, () => packSummary(result, cowfile));
  }
}
