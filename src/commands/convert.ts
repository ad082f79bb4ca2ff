/** Owns the command line of `convert`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { dryRunFlag, fileArg, forceFlag, replaceFlag, stackFlag } from "../cli/flags.ts";
import { convertSummary } from "../cli/render/convert-summary.ts";
import { parseSize } from "../lib/bytes/size.ts";
import { ABI_NAMES, type CowAbi } from "../lib/formats/cowfile/layout.ts";
import { CONVERT_FORMATS, type ConvertFormat } from "../lib/operations/convert/request.ts";

export default class Convert extends BaseCommand<typeof Convert> {
  static override summary = "make a file of another format of a stack";
  static override description =
    "The output shows what the stack shows. With --base it holds only what differs from that. What it cannot tell any more is reported. It appears whole, or not at all; interrupted, the same command goes on.";
  static override examples = [
    "<%= config.bin %> convert golden.img,vm1.cow vm1.qcow2 --to qcow2",
    "<%= config.bin %> convert golden.img,vm1.cow vm1.qcow2 --to qcow2 --base golden.img",
    "<%= config.bin %> convert qcow2:vm1.qcow2 vm1.img --to raw",
  ];
  static override args = {
    stack: fileArg("what to convert, BASE[,LAYER]…; a cowfile alone can become one of another ABI"),
    output: fileArg("the file to make"),
  };
  static override flags = {
    to: Flags.custom<ConvertFormat>({
      description: "the format of OUTPUT",
      options: [...CONVERT_FORMATS],
      required: true,
    })(),
    base: stackFlag(
      "OUTPUT holds only what differs from this (cowfile, dm-snapshot, dm-cow: by default from the stack's base); in qcow2 it is the backing file",
    ),
    "chunk-size": Flags.string({ description: "of a dm-snapshot store; default 16k", helpValue: "SIZE" }),
    "cluster-size": Flags.string({ description: "of a qcow2 file, 512 to 2m; default 64k", helpValue: "SIZE" }),
    abi: Flags.custom<CowAbi>({ description: "the machine a cowfile is for; default le64", options: [...ABI_NAMES] })(),
    flatten: Flags.boolean({
      default: false,
      description: "join layers into one; without it that is reported as a loss",
    }),
    "dry-run": dryRunFlag(),
    force: forceFlag("replace OUTPUT if it exists and is of that format"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { convert } = await import("../lib/operations/convert/convert.ts");
    const { to, base, abi, flatten, force, replace } = this.flags;
    const size = (text: string | undefined): number | undefined => (text === undefined ? undefined : parseSize(text));
    const request = {
      to,
      base,
      abi,
      flatten,
      force,
      replace,
      chunkBytes: size(this.flags["chunk-size"]),
      clusterBytes: size(this.flags["cluster-size"]),
      dryRun: this.flags["dry-run"],
    };
    const result = await convert(this.args.stack, this.args.output, request, this.context());
    return { result, exitCode: EXIT.ok, render: () => convertSummary(result) };
  }
}
