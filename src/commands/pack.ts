/** Owns the command line of `pack`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { fileArg, forceFlag, replaceFlag } from "../cli/flags.ts";
import { packSummary } from "../cli/render/summaries.ts";
import { PACK_KINDS, type PackKind } from "../lib/formats/cowfile/pack/kind.ts";

export default class Pack extends BaseCommand<typeof Pack> {
  static override summary = "compress a cowfile for storage or transfer";
  static override description =
    "Packs a clean cowfile. plain and gzip are the original cowpack's formats, and it can read them. zstd is the same stream in independent frames with checksums: any block can be read without unpacking, and zstd -d decompresses it, too. The same input and flags give the same bytes.";
  static override examples = [
    "<%= config.bin %> pack vm1.cow vm1.packed",
    "<%= config.bin %> pack vm1.cow vm1.packz --format gzip",
    "<%= config.bin %> pack vm1.cow - | ssh host cowtool unpack - vm1.cow",
  ];
  static override outputArg = "packfile";
  static override args = {
    cowfile: fileArg("the cowfile, stack:FILE for its only layer, or - for stdin"),
    packfile: fileArg("the packed file to make, or - for stdout"),
  };
  static override flags = {
    format: Flags.custom<PackKind>({ description: "the packed form", options: [...PACK_KINDS], default: "zstd" })(),
    level: Flags.integer({
      description: "how hard to compress: 1 to 22 for zstd (default 3), 1 to 9 for gzip (default 9)",
      helpValue: "N",
    }),
    threads: Flags.integer({
      description: "how many pieces to compress at once (default: one a processor)",
      helpValue: "N",
    }),
    force: forceFlag("replace PACKFILE if it exists and is a pack"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { pack } = await import("../lib/operations/pack/pack.ts");
    const { cowfile, packfile } = this.args;
    const { format, level, threads, force, replace } = this.flags;
    const result = await pack(
      cowfile,
      packfile,
      { format, level, threads, force, replace, streams: this.streams },
      this.context(),
    );
    return this.done(result, () => packSummary(result, packfile));
  }
}
