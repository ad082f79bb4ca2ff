/** Owns the command line of `check`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT, exitOfTally } from "../cli/exit-codes.ts";
import { fileArg, forceShareFlag, manyFilesFlags, stackFlag } from "../cli/flags.ts";
import { partsAsJson, renderChecked } from "../cli/render/chain-report.ts";
import { escapeControls } from "../cli/render/escape.ts";
import {
  isOfAnotherBase,
  kindsOfProblems,
  problemsAsJson,
  renderProblems,
  summariseProblems,
} from "../cli/render/problems.ts";

const TABLE = {
  header: ["STATE", "PROBLEMS"],
  words: { [EXIT.ok]: "sound", [EXIT.no]: "repairable", [EXIT.unsuitable]: "damaged" },
};

export default class Check extends BaseCommand<typeof Check> {
  static override summary = "list every inconsistency of cowfiles";
  static override description =
    "Checks head, allocation bitmap and data area; changes nothing. Exit status 0: nothing wrong (there may be notes); 1: repair can fix everything; 4: it cannot.";
  static override examples = [
    "<%= config.bin %> check vm1.cow",
    "<%= config.bin %> check vm1.cow --rdofile golden.img",
    "<%= config.bin %> check golden.img,vm1.cow,vm2.cow",
    "<%= config.bin %> check vm1.cow vm2.cow vm3.cow --rdofile golden.img --json=lines",
  ];
  static override strict = false;
  static override args = { file: fileArg("a cowfile, or a stack BASE,LAYER,…; or any number of them") };
  static override flags = {
    rdofile: stackFlag("check that it belongs to this base"),
    "force-share": forceShareFlag(),
    ...manyFilesFlags,
  };

  protected async execute(): Promise<Outcome> {
    const { check } = await import("../lib/operations/check.ts");
    const { verbose: all, "force-share": forceShare } = this.flags;
    return await this.eachFile(this.positionals, this.flags.rdofile, TABLE, async (file, rdofile, context) => {
      const { state, problems, worst, parts } = await check(file, { rdofile, forceShare }, context);
      const exitCode = exitOfTally(worst);
      const view = { columns: this.terminal.columns, colour: this.colour, all };
      return {
        result: {
          file,
          state: state ?? null,
          problems: problemsAsJson(problems),
          ...(parts && { layers: partsAsJson(parts) }),
        },
        exitCode,
        isReassurance: exitCode === EXIT.ok,
        row: [state ?? "-", kindsOfProblems(problems)],
        word: isOfAnotherBase(problems) ? "wrong base" : undefined,
        async *render() {
          if (parts) yield* renderChecked(parts, view);
          yield* renderProblems(problems, view);
          yield `${escapeControls(file)}: ${state ? `marked ${state}, ` : ""}${summariseProblems(worst, all)}\n`;
        },
      };
    });
  }
}
