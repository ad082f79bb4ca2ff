/** Owns the command line of `verify-fingerprint`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { fingerprintReport } from "../cli/render/fingerprint-report.ts";

export default class VerifyFingerprint extends BaseCommand<typeof VerifyFingerprint> {
  static override summary = "check whether a cowfile belongs to a base";
  static override description =
    "Compares the number of blocks, the fingerprint, and the content with the base record that `create` or `serve` left beside the cowfile. Exit status 0: it belongs; 1: it does not, or the base has changed in blocks that the cowfile has not allocated. The format's fingerprint covers at most four blocks, so without a base record a match proves little.";
  static override examples = [
    "<%= config.bin %> verify-fingerprint golden.img vm1.cow",
    "<%= config.bin %> verify-fingerprint --full golden.img vm1.cow",
  ];
  static override args = {
    rdofile: fileArg("the base, or a stack BASE,LAYER,…"),
    cowfile: fileArg("a cowfile, packed or not"),
  };
  static override flags = {
    full: Flags.boolean({
      default: false,
      description: "compare everything in the base record, however long it takes",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { verifyFingerprint } = await import("../lib/operations/verify-fingerprint.ts");
    const { full, verbose } = this.flags;
    const result = await verifyFingerprint(this.args.rdofile, this.args.cowfile, { full }, this.context());
    return {
      result,
      exitCode: result.match && !result.identity.shows_through ? EXIT.ok : EXIT.no,
      render: () => fingerprintReport(result, { all: verbose }),
    };
  }
}
