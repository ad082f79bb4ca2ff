/** Owns the command line of `verify-fingerprint`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg, manyFilesFlags } from "../cli/flags.ts";
import { baseInWords, fingerprintReport } from "../cli/render/fingerprint-report.ts";

const TABLE = { header: ["MADE FOR", "BASE"], words: { [EXIT.ok]: "match", [EXIT.no]: "mismatch" } };

export default class VerifyFingerprint extends BaseCommand<typeof VerifyFingerprint> {
  static override summary = "check whether cowfiles belong to a base";
  static override description =
    "Compares the number of blocks, the fingerprint, and the content with the base record that `create` or `serve` left beside the cowfile. Exit status 0: it belongs; 1: it does not, or the base has changed in blocks that the cowfile has not allocated. The format's fingerprint covers at most four blocks, so without a base record a match proves little.";
  static override examples = [
    "<%= config.bin %> verify-fingerprint golden.img vm1.cow",
    "<%= config.bin %> verify-fingerprint --full golden.img vm1.cow",
    "<%= config.bin %> verify-fingerprint golden.img vm1.cow vm2.cow vm3.cow",
  ];
  static override strict = false;
  static override args = {
    rdofile: fileArg("the base, or a stack BASE,LAYER,…"),
    cowfile: fileArg("a cowfile, packed or not, or any number of them"),
  };
  static override flags = {
    full: Flags.boolean({
      default: false,
      description: "compare everything in the base record, however long it takes",
    }),
    ...manyFilesFlags,
  };

  protected async execute(): Promise<Outcome> {
    const { verifyFingerprint } = await import("../lib/operations/verify-fingerprint.ts");
    const { full, verbose } = this.flags;
    const [rdofile = "", ...cowfiles] = this.positionals;
    return await this.eachFile(cowfiles, rdofile, TABLE, async (cowfile, base = rdofile, context) => {
      const result = await verifyFingerprint(base, cowfile, { full }, context);
      const exitCode = result.match && !result.identity.shows_through ? EXIT.ok : EXIT.no;
      return {
        result,
        exitCode,
        isReassurance: exitCode === EXIT.ok,
        row: [result.fingerprint_expected, baseInWords(result)],
        render: () => fingerprintReport(result, { all: verbose }),
      };
    });
  }
}
