/** Owns the command line of `repair`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT, exitOfTally } from "../cli/exit-codes.ts";
import { dryRunFlag, fileArg, forceFlag, manyFilesFlags, stackFlag } from "../cli/flags.ts";
import { renderProblems } from "../cli/render/problems.ts";
import { repairAsJson, repairRow, repairSummary } from "../cli/render/repair-summary.ts";

const TABLE = {
  header: ["WAS", "IS", "MARKED", "FOUND"],
  words: { [EXIT.ok]: "sound", [EXIT.no]: "repairable", [EXIT.unsuitable]: "damaged" },
};

export default class Repair extends BaseCommand<typeof Repair> {
  static override summary = "repair cowfiles after a crash";
  static override description =
    "Sets the bitmap bits of all blocks that hold data, corrects the block count and clears the dirty flag, in an order that survives a crash at any point. A dirty file needs no -f; a clean one is examined only with -f, or when its head is visibly wrong. Every bit that is cleared is reported.";
  static override examples = [
    "<%= config.bin %> repair vm1.cow",
    "<%= config.bin %> repair -n -v vm1.cow",
    "<%= config.bin %> repair -f vm1.cow --rdofile golden.img",
    "<%= config.bin %> repair vm1.cow vm2.cow vm3.cow --json=lines",
  ];
  static override strict = false;
  static override args = {
    cowfile: fileArg("the cowfile, or any number of them; or stack:FILE for the layers of a stack file"),
  };
  static override flags = {
    "dry-run": dryRunFlag(),
    force: forceFlag("examine a clean file, too"),
    rdofile: stackFlag("check first that it belongs to this base"),
    "drop-lost": Flags.boolean({
      default: false,
      description: "clear the bitmap bits of blocks whose data is beyond the end of the file: the loss is final",
    }),
    ...manyFilesFlags,
  };

  protected async execute(): Promise<Outcome> {
    const { repair } = await import("../lib/operations/repair.ts");
    const { layersToRepair } = await import("../lib/operations/history/layers-to-repair.ts");
    const { "dry-run": dryRun, "drop-lost": dropLost, force, verbose } = this.flags;
    const files = this.positionals.flatMap((file) =>
      file.startsWith("stack:") ? layersToRepair(file, { dryRun, force }, this.context()) : [file],
    );
    return await this.eachFile(files, this.flags.rdofile, TABLE, async (cowfile, rdofile, context) => {
      const report = await repair(cowfile, { dryRun, force, dropLost, rdofile }, context);
      const left = dropLost ? 0 : report.worst.unfixable;
      const fixedWord = dryRun ? "would fix" : "fixed";
      const view = { columns: this.terminal.columns, colour: this.colour, all: verbose, fixedWord };
      const exitCode = dryRun
        ? exitOfTally({ ...report.worst, unfixable: left, fixable: report.changed ? 1 : 0 })
        : left > 0
          ? EXIT.unsuitable
          : EXIT.ok;
      return {
        result: repairAsJson(cowfile, report, dryRun),
        exitCode,
        isReassurance: exitCode === EXIT.ok,
        row: repairRow(report),
        word: exitCode === EXIT.ok && report.changed ? "repaired" : undefined,
        async *render() {
          yield* renderProblems(report.problems, view);
          yield* repairSummary(cowfile, report, { dryRun, verbose, dropLost });
        },
      };
    });
  }
}
