/** Owns the command line of `info`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg, forceFlag, forceShareFlag, mapFlag, outputFlag, replaceFlag, stackFlag } from "../cli/flags.ts";
import { renderBlockMap } from "../cli/render/block-map.ts";
import { heldOnly, renderFacts, svgOfInfo } from "../cli/render/info-report.ts";
import { problemsAsJson, renderProblems } from "../cli/render/problems.ts";
import { claimTextFile, writeTextFile } from "../cli/write-file.ts";
import { CowError } from "../lib/errors.ts";
import type { Info as ImageInfo } from "../lib/operations/info.ts";

export default class Info extends BaseCommand<typeof Info> {
  static override summary = "show what a cowfile is and holds";
  static override description =
    "Reads head and bitmap only, of a cowfile of any ABI, packed or not, and changes nothing. Problems are listed, but do not change the exit status: use check for a verdict.";
  static override examples = [
    "<%= config.bin %> info vm1.cow",
    "<%= config.bin %> info vm1.cow --map",
    "<%= config.bin %> info vm1.cow --map=svg -o vm1.svg",
    "<%= config.bin %> info vm1.cow --json --map",
  ];
  static override args = { file: fileArg("a cowfile, packed or not") };
  static override flags = {
    map: mapFlag("show where the image's blocks come from, in the terminal or as SVG"),
    output: outputFlag("with --map=svg: write the picture there"),
    rdofile: stackFlag("compare with this base"),
    force: forceFlag("replace the picture if it exists and is one"),
    replace: replaceFlag(),
    "force-share": forceShareFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { info } = await import("../lib/operations/info.ts");
    const { map, rdofile, output, force, replace } = this.flags;
    if (output !== undefined && map !== "svg") throw new CowError("usage", "--output goes with --map=svg");
    if (output !== undefined)
      claimTextFile(output, [this.args.file, ...(rdofile === undefined ? [] : [rdofile])], { force, replace });
    const found = await info(
      this.args.file,
      { map: map !== undefined, rdofile, forceShare: this.flags["force-share"] },
      this.context(),
    );
    const { facts, problems, extents } = found;
    try {
      if (extents && output !== undefined) await writeTextFile(output, svgOfInfo(found, extents), { force, replace });
    } finally {
      if (output !== undefined) found.close();
    }
    const onlyPicture = map === "svg" && output === undefined;
    return {
      result: { ...facts, problems: problemsAsJson(problems), ...(extents && map === "text" ? { extents } : {}) },
      exitCode: EXIT.ok,
      render: () => (extents && onlyPicture ? svgOfInfo(found, extents) : this.#render(found)),
    };
  }

  async *#render({ facts, problems, extents, mapBytes }: ImageInfo): AsyncGenerator<string> {
    yield renderFacts(facts);
    yield* renderProblems(problems, { file: facts.file, colour: this.colour, all: this.flags.verbose });
    const { columns, env } = this.terminal;
    if (extents && this.flags.map === "text")
      yield* renderBlockMap(heldOnly(extents), mapBytes, {
        columns,
        env,
        none: "from the base",
        all: facts.format === "cowfile" ? "allocated in the cowfile" : "allocated in the layer",
      });
  }
}
