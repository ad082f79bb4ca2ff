/** Owns the command line of `verify-fingerprint`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { escapeControls } from "../cli/render/escape.ts";

export default class VerifyFingerprint extends BaseCommand<typeof VerifyFingerprint> {
  static override summary = "tell whether a cowfile belongs to a base";
  static override description =
    "Compares number of blocks and fingerprint. Exit status 0: it does; 1: it does not. The format's fingerprint covers at most four blocks, so that a match proves little.";
  static override examples = ["<%= config.bin %> verify-fingerprint golden.img vm1.cow"];
  static override args = {
    rdofile: fileArg("the base, or a stack BASE,LAYER,…"),
    cowfile: fileArg("a cowfile, packed or not"),
  };

  protected async execute(): Promise<Outcome> {
    const { verifyFingerprint } = await import("../lib/operations/verify-fingerprint.ts");
    const result = await verifyFingerprint(this.args.rdofile, this.args.cowfile, this.context());
    return {
      result,
      exitCode: result.match ? EXIT.ok : EXIT.no,
      render: () => {
        const rdofile = escapeControls(result.rdofile);
        const cowfile = escapeControls(result.cowfile);
        if (result.match)
          return `${cowfile}: belongs to ${rdofile} (fingerprint ${result.fingerprint_actual}, ${result.rdo_blocks_actual} blocks)\n`;
        return (
          `${cowfile}: does not belong to ${rdofile}\n` +
          `  made for  ${result.fingerprint_expected}, ${result.rdo_blocks_expected} blocks\n` +
          `  given     ${result.fingerprint_actual}, ${result.rdo_blocks_actual} blocks\n`
        );
      },
    };
  }
}
