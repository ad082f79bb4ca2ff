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
  static override summary = "convert a stack to another format";
  static override description =
    "The output shows what the stack shows. With --base it holds only what differs from that. What the new format cannot express is reported as a loss. The output appears whole or not at all; the same command resumes an interrupted conversion.";
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
      "OUTPUT holds only the differences from this base (cowfile, dm-snapshot, dm-cow: default the stack's base); in qcow2 it becomes the backing file",
    ),
    "chunk-size": Flags.string({ description: "chunk size of a dm-snapshot store; default 16k", helpValue: "SIZE" }),
    "cluster-size": Flags.string({
      description: "cluster size of a qcow2 file, 512 to 2m; default 64k",
      helpValue: "SIZE",
    }),
    abi: Flags.custom<CowAbi>({ description: "the machine a cowfile is for; default le64", options: [...ABI_NAMES] })(),
    flatten: Flags.boolean({
      default: false,
      description: "combine the layers into one without reporting that as a loss",
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
