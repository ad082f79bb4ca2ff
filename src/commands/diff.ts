/** Owns the command line of `diff`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg, forceFlag, mapFlag, outputFlag, replaceFlag, stackFlag } from "../cli/flags.ts";
import { renderBlockMap } from "../cli/render/block-map.ts";
import { diffAsJson, renderDiff } from "../cli/render/diff-report.ts";
import { renderSvgMap } from "../cli/render/svg-map.ts";
import { claimTextFile, writeTextFile } from "../cli/write-file.ts";
import type { DiffResult } from "../lib/operations/diff/request.ts";

export default class Diff extends BaseCommand<typeof Diff> {
  static override summary = "show where two images differ";
  static override description =
    "Compares two stacks, images or cowfiles of one base, in blocks of 1024 bytes. Allocation bitmaps are compared first: blocks that no layer has allocated are not read. Exit status 0: identical; 1: different.";
  static override examples = [
    "<%= config.bin %> diff golden.img,vm1.cow golden.img,vm2.cow",
    "<%= config.bin %> diff vm1.cow vm2.cow --rdofile golden.img --hexdump 4",
    "<%= config.bin %> diff golden.img,vm1.cow changed.img -o delta.cow",
  ];
  static override args = {
    a: fileArg("a stack BASE,LAYER,…, an image, or a cowfile"),
    b: fileArg("what to compare it with"),
  };
  static override flags = {
    rdofile: stackFlag("read cowfiles by themselves over this base"),
    output: outputFlag("write a cowfile over A that makes it B; with --map=svg, the picture"),
    hexdump: Flags.integer({
      description: "show the bytes of the first N differences",
      helpValue: "N",
      default: 0,
      min: 0,
      max: 100_000,
    }),
    map: mapFlag("draw where they differ, in the terminal or as SVG"),
    force: forceFlag(
      "replace the output if it exists and is a cowfile, or a picture; take layers whose base was changed",
    ),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { diff } = await import("../lib/operations/diff/diff.ts");
    const { a, b } = this.args;
    const { rdofile, output, hexdump, map, force, replace } = this.flags;
    const asSvg = map === "svg";
    const reads = [a, b, ...(rdofile === undefined ? [] : [rdofile])];
    const allowed = { force, replace };
    if (asSvg && output !== undefined) claimTextFile(output, reads, allowed);
    const request = { rdofile, hexdump, ...allowed, delta: asSvg ? undefined : output };
    const result = await diff(a, b, request, this.context());
    if (asSvg && output !== undefined) await writeTextFile(output, this.#picture(result), allowed);
    return {
      result: diffAsJson(a, b, result),
      exitCode: result.identical ? EXIT.ok : EXIT.no,
      render: () => (asSvg && output === undefined ? this.#picture(result) : this.#render(result)),
    };
  }

  #picture(result: DiffResult): AsyncIterable<string> {
    const { a, b } = this.args;
    return renderSvgMap({
      title: `${a} and ${b}`,
      sizeBytes: result.virtualSizeBytes,
      rest: "the same",
      parts: [{ words: "different", extents: result.extents }],
      redundant: result.redundant,
    });
  }

  async *#render(result: DiffResult): AsyncGenerator<string> {
    const { columns, env } = this.terminal;
    const view = { columns, env, none: "the same", all: "different" };
    if (this.flags.map === "text") yield* renderBlockMap(result.extents, result.virtualSizeBytes, view);
    yield* renderDiff(this.args.a, this.args.b, result, { all: this.flags.verbose, columns });
  }
}
