/** Owns the command line of `info`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg, forceShareFlag, stackFlag } from "../cli/flags.ts";
import { renderBlockMap } from "../cli/render/block-map.ts";
import { renderKeyValue } from "../cli/render/key-value.ts";
import { problemsAsJson, renderProblems } from "../cli/render/problems.ts";
import { formatSize } from "../lib/bytes/size.ts";
import type { Info as ImageInfo } from "../lib/operations/info.ts";

export default class Info extends BaseCommand<typeof Info> {
  static override summary = "show what a cowfile is and holds";
  static override description =
    "Reads head and bitmap only, of a cowfile of any ABI, packed or not, and changes nothing. What looks wrong is listed, but is no failure: use check for a verdict.";
  static override examples = [
    "<%= config.bin %> info vm1.cow",
    "<%= config.bin %> info vm1.cow --map",
    "<%= config.bin %> info vm1.cow --json --map",
  ];
  static override args = { file: fileArg("a cowfile, packed or not") };
  static override flags = {
    map: Flags.boolean({ default: false, description: "show where the image's blocks come from" }),
    rdofile: stackFlag("compare with this base"),
    "force-share": forceShareFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { info } = await import("../lib/operations/info.ts");
    const { map, rdofile } = this.flags;
    const found = await info(this.args.file, { map, rdofile, forceShare: this.flags["force-share"] }, this.context());
    const { facts, problems, extents } = found;
    return {
      result: { ...facts, problems: problemsAsJson(problems), ...(extents ? { extents } : {}) },
      exitCode: EXIT.ok,
      render: () => this.#render(found),
    };
  }

  *#render({ facts, problems, extents }: ImageInfo): Generator<string> {
    const used = facts["blocks_used"];
    yield renderKeyValue([
      ["file", facts.file],
      ["format", `${facts.format} version ${facts["version"]}, ABI ${facts["abi"]}`],
      ["state", `${facts["state"]}${facts["packed"] === null ? "" : `, packed (${facts["packed"]})`}`],
      ["image size", facts.virtual_size === null ? "unknown" : formatSize(facts.virtual_size)],
      [
        "blocks used",
        `${used ?? "unknown"} of ${facts["rdo_blocks"]}${typeof used === "number" ? `, ${formatSize(used * 1024)}` : ""}`,
      ],
      ["bitmap", `${facts["map_size"]} bytes at byte 1024`],
      ["data from", `byte ${facts["data_offset"]}`],
      ["fingerprint", `${facts["fingerprint"]} (of the base)`],
      ["file size", `${formatSize(facts.file_size)}, on disk ${formatSize(facts.allocated_size)}`],
    ]);
    yield* renderProblems(problems, { file: facts.file, colour: this.colour, all: this.flags.verbose });
    if (extents) yield* renderBlockMap(extents, facts.virtual_size ?? 0, this.terminal.columns);
  }
}
