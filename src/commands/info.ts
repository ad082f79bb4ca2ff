/** Owns the command line of `info`. */
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import {
  fileArg,
  forceFlag,
  forceShareFlag,
  manyFilesFlags,
  mapFlag,
  outputFlag,
  replaceFlag,
  stackFlag,
} from "../cli/flags.ts";
import { chainAsJson } from "../cli/render/chain-report.ts";
import { infoRow, renderInfo, svgOfInfo } from "../cli/render/info-report.ts";
import { problemsAsJson } from "../cli/render/problems.ts";
import { claimTextFile, writeTextFile } from "../cli/write-file.ts";
import { CowError } from "../lib/errors.ts";

const TABLE = { header: ["FORMAT", "STATE", "SIZE", "ON DISK", "PROBLEMS"], words: { [EXIT.ok]: "read" } };

export default class Info extends BaseCommand<typeof Info> {
  static override summary = "show what an image, a cowfile or a stack is and holds";
  static override description =
    "Reads metadata only and changes nothing: of a cowfile of any ABI, packed or not, of a file of another format, a raw image, a device, an export by its URI, or a stack. Problems are listed, but do not change the exit status: use check for a verdict.";
  static override examples = [
    "<%= config.bin %> info vm1.cow",
    "<%= config.bin %> info vm1.cow --map",
    "<%= config.bin %> info vm1.cow --map=svg -o vm1.svg",
    "<%= config.bin %> info vm1.cow --json --map",
    "<%= config.bin %> info golden.img,vm1.cow",
    "<%= config.bin %> info vm1.cow vm2.cow vm3.cow",
  ];
  static override strict = false;
  static override args = {
    file: fileArg("an image of any format, a device, a URI, or a stack BASE,LAYER,…; or any number of them"),
  };
  static override flags = {
    map: mapFlag("show where the image's blocks come from, in the terminal or as SVG"),
    output: outputFlag("with --map=svg: write the picture there"),
    rdofile: stackFlag("compare with this base"),
    force: forceFlag("replace the picture if it exists and is one"),
    replace: replaceFlag(),
    "force-share": forceShareFlag(),
    ...manyFilesFlags,
  };

  protected async execute(): Promise<Outcome> {
    const { info } = await import("../lib/operations/info.ts");
    const { map, rdofile, output, force, replace, "force-share": forceShare } = this.flags;
    const files = this.positionals;
    if (output !== undefined && map !== "svg") throw new CowError("usage", "--output goes with --map=svg");
    if (map !== undefined && files.length > 1) throw new CowError("usage", "--map shows one file");
    const reads = rdofile === undefined ? files : [...files, rdofile];
    if (output !== undefined) claimTextFile(output, reads, { force, replace });
    return await this.eachFile(files, rdofile, TABLE, async (file, base, context) => {
      const found = await info(file, { map: map !== undefined, rdofile: base, forceShare }, context);
      const { facts, chain, problems, extents } = found;
      try {
        if (extents && output !== undefined) await writeTextFile(output, svgOfInfo(found, extents), { force, replace });
      } finally {
        if (output !== undefined) found.close();
      }
      const { columns, env } = this.terminal;
      const view = { columns, env, colour: this.colour, all: this.flags.verbose, map: map === "text" };
      const onlyPicture = map === "svg" && output === undefined;
      return {
        result: {
          ...facts,
          ...(chain && { chain: chainAsJson(chain) }),
          problems: problemsAsJson(problems),
          ...(extents && map === "text" ? { extents } : {}),
        },
        exitCode: EXIT.ok,
        row: infoRow(found),
        render: () => (extents && onlyPicture ? svgOfInfo(found, extents) : renderInfo(found, view)),
      };
    });
  }
}
