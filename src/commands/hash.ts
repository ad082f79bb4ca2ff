/** Owns the command line of `hash`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { fileArg } from "../cli/flags.ts";
import { escapeControls } from "../cli/render/escape.ts";
import { parseSize } from "../lib/bytes/size.ts";
import { HASH_DIGESTS, type HashDigest } from "../lib/operations/hash-request.ts";

export default class HashCommand extends BaseCommand<typeof HashCommand> {
  static override summary = "print the checksum of what a stack shows";
  static override description =
    "The checksum is a blkhash, as blksum and nbdcopy print it: the same for the same image, in whatever format. Holes are not read.";
  static override examples = ["<%= config.bin %> hash golden.img,vm1.cow", "<%= config.bin %> hash golden.img --json"];
  static override args = { stack: fileArg("the stack BASE[,LAYER]…, or an image") };
  static override flags = {
    digest: Flags.custom<HashDigest>({
      description: "the digest of blocks and of the whole",
      options: [...HASH_DIGESTS],
      default: "sha256",
    })(),
    "block-size": Flags.string({
      description: "a power of two: another size gives another checksum",
      helpValue: "SIZE",
      default: "64k",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { hash } = await import("../lib/operations/hash.ts");
    const request = { digest: this.flags.digest, blockBytes: parseSize(this.flags["block-size"]) };
    const result = await hash(this.args.stack, request, this.context());
    return { result, exitCode: EXIT.ok, render: () => `${result.hash}  ${escapeControls(result.stack)}\n` };
  }
}
