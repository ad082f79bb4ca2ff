/** Owns the command line of `check`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { exitOfTally } from "../cli/exit-codes.ts";
import { fileArg, forceShareFlag, stackFlag } from "../cli/flags.ts";
import { escapeControls } from "../cli/render/escape.ts";
import { problemsAsJson, renderProblems, summariseProblems } from "../cli/render/problems.ts";

export default class Check extends BaseCommand<typeof Check> {
  static override summary = "list every inconsistency of a cowfile";
  static override description =
    "Checks head, allocation bitmap and data area; changes nothing. Exit status 0: nothing wrong (there may be notes); 1: repair can fix everything; 4: it cannot.";
  static override examples = [
    "<%= config.bin %> check vm1.cow",
    "<%= config.bin %> check vm1.cow --rdofile golden.img",
  ];
  static override args = { file: fileArg("a cowfile") };
  static override flags = { rdofile: stackFlag("check that it belongs to this base"), "force-share": forceShareFlag() };

  protected async execute(): Promise<Outcome> {
    const { check } = await import("../lib/operations/check.ts");
    const { file } = this.args;
    const { state, problems, worst } = await check(
      file,
      { rdofile: this.flags.rdofile, forceShare: this.flags["force-share"] },
      this.context(),
    );
    const view = { file, colour: this.colour, all: this.flags.verbose };
    return {
      result: { file, state: state ?? null, problems: problemsAsJson(problems) },
      exitCode: exitOfTally(worst),
      render: function* () {
        yield* renderProblems(problems, view);
        yield `${escapeControls(file)}: ${state ? `marked ${state}, ` : ""}${summariseProblems(worst, view.all)}\n`;
      },
    };
  }
}
