/** Owns the command line of `repair`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT, exitOfTally } from "../cli/exit-codes.ts";
import { dryRunFlag, fileArg, forceFlag, stackFlag } from "../cli/flags.ts";
import { problemsAsJson, renderProblems } from "../cli/render/problems.ts";
import { repairSummary } from "../cli/render/repair-summary.ts";

export default class Repair extends BaseCommand<typeof Repair> {
  static override summary = "repair a cowfile after a crash";
  static override description =
    "Sets the bitmap bits of all blocks that hold data, corrects the block count and clears the dirty flag, in an order that survives a crash at any point. A dirty file needs no -f; a clean one is examined only with -f, or when its head is visibly wrong. Every bit that is cleared is reported.";
  static override examples = [
    "<%= config.bin %> repair vm1.cow",
    "<%= config.bin %> repair -n -v vm1.cow",
    "<%= config.bin %> repair -f vm1.cow --rdofile golden.img",
  ];
  static override args = { cowfile: fileArg("the cowfile") };
  static override flags = {
    "dry-run": dryRunFlag(),
    force: forceFlag("examine a clean file, too"),
    rdofile: stackFlag("check first that it belongs to this base"),
    "drop-lost": Flags.boolean({
      default: false,
      description: "clear the bitmap bits of blocks whose data is beyond the end of the file: the loss is final",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { repair } = await import("../lib/operations/repair.ts");
    const { cowfile } = this.args;
    const dryRun = this.flags["dry-run"];
    const dropLost = this.flags["drop-lost"];
    const request = { dryRun, force: this.flags.force, dropLost, rdofile: this.flags.rdofile };
    const report = await repair(cowfile, request, this.context());
    const left = dropLost ? 0 : report.worst.unfixable;
    const { verbose } = this.flags;
    const view = { file: cowfile, colour: this.colour, all: verbose, fixWords: dryRun ? "would be fixed" : "fixed" };
    return {
      result: {
        cowfile,
        state_before: report.stateBefore,
        state: report.state,
        corrections: report.marked.totalBytes / 1024,
        blocks_used: report.blocksUsed,
        suspects: report.suspects,
        marked: report.marked,
        cleared: report.cleared,
        lost: report.lost,
        unflushed: report.setAside,
        unflushed_file: report.setAsideFile ?? null,
        unmarked_blocks: report.unmarkedBlocks,
        examined: report.examined,
        changed: report.changed,
        dry_run: dryRun,
        problems: problemsAsJson(report.problems),
      },
      exitCode: dryRun
        ? exitOfTally({ ...report.worst, unfixable: left, fixable: report.changed ? 1 : 0 })
        : left > 0
          ? EXIT.unsuitable
          : EXIT.ok,
      render: function* () {
        yield* renderProblems(report.problems, view);
        yield* repairSummary(cowfile, report, { dryRun, verbose, dropLost });
      },
    };
  }
}
