/** Owns the command line of `verify-fingerprint`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { fingerprintReport } from "../cli/render/fingerprint-report.ts";

export default class VerifyFingerprint extends BaseCommand<typeof VerifyFingerprint> {
  static override summary = "tell whether a cowfile belongs to a base";
  static override description =
    "Compares number of blocks and fingerprint, and the content with what `create` or `serve` noted of it beside the cowfile. Exit status 0: it does; 1: it does not, or the base was changed in a way that the cowfile does not hide. The format's fingerprint covers at most four blocks, so that without such a note a match proves little.";
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
      description: "read everything that was noted of RDOFILE, however long it takes",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { verifyFingerprint } = await import("../lib/operations/verify-fingerprint.ts");
    const { full, verbose } = this.flags;
    const result = await verifyFingerprint(this.args.rdofile, this.args.cowfile, this.context(), { full });
    return {
      result,
      exitCode: result.match && !result.identity.shows_through ? EXIT.ok : EXIT.no,
      render: () => fingerprintReport(result, { all: verbose }),
    };
  }
}
