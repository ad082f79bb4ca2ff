/** Owns the command line of `create`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { abiFlag, fileArg, forceFlag, replaceFlag, stackFlag } from "../cli/flags.ts";
import { createSummary, storeSummary } from "../cli/render/summaries.ts";
import { parseSize } from "../lib/bytes/size.ts";
import { CowError } from "../lib/errors.ts";
import { IDENTITY_MODES, type IdentityMode } from "../lib/operations/identity/modes.ts";

export default class Create extends BaseCommand<typeof Create> {
  static override summary = "make a new cowfile over a base";
  static override description =
    "The new cowfile is empty, byte for byte as the original driver makes it. With --from it holds the blocks in which another image differs from RDOFILE. It appears whole or not at all.";
  static override examples = [
    "<%= config.bin %> create golden.img vm1.cow",
    "<%= config.bin %> create golden.img changes.cow --from changed.img",
    "<%= config.bin %> create golden.img old-sparc.cow --abi be32",
    "<%= config.bin %> create --stack vm1.stack golden.img vm1.cow",
  ];
  static override args = {
    rdofile: fileArg("the base: a file, a block device, or a stack BASE,LAYER,…"),
    cowfile: fileArg("the cowfile to make"),
  };
  static override flags = {
    abi: abiFlag(),
    from: stackFlag("fill it with the blocks in which this image differs from the base"),
    identity: Flags.custom<IdentityMode>({
      description: "how much of RDOFILE the base record beside COWFILE covers, so that later changes are detected",
      options: [...IDENTITY_MODES],
      default: "quick",
    })(),
    stack: Flags.string({
      description: "also make a stack file of RDOFILE and COWFILE, which stack:FILE then names",
      helpValue: "FILE",
    }),
    format: Flags.string({
      description: "what to make: a cowfile, or an exception store as the kernel's snapshot target writes",
      options: ["cowfile", "dm-snapshot"],
      default: "cowfile",
      helpValue: "cowfile|dm-snapshot",
    }),
    "chunk-size": Flags.string({ description: "chunk size of a dm-snapshot store [default: 16k]", helpValue: "SIZE" }),
    force: forceFlag("replace COWFILE if it exists and is one; take layers whose base was changed"),
    replace: replaceFlag(),
  };

  protected async execute(): Promise<Outcome> {
    if (this.flags.format === "dm-snapshot") return this.#createStore();
    if (this.flags["chunk-size"] !== undefined)
      throw new CowError("usage", "--chunk-size goes with --format dm-snapshot");
    const { create } = await import("../lib/operations/create.ts");
    const { abi, from, force, replace, identity, stack: stackFile } = this.flags;
    const request = { abi, from, force, replace, identity, stackFile };
    const result = await create(this.args.rdofile, this.args.cowfile, request, this.context());
    return this.done(result, () => createSummary(result, this.flags.verbose));
  }

  async #createStore(): Promise<Outcome> {
    const { createStoreFile } = await import("../lib/operations/create-store.ts");
    const { from, force, replace, stack: stackFile } = this.flags;
    const chunk = this.flags["chunk-size"];
    const chunkBytes = chunk === undefined ? undefined : parseSize(chunk);
    const { rdofile, cowfile } = this.args;
    const request = { chunkBytes, from, force, replace, stackFile };
    const result = await createStoreFile(rdofile, cowfile, request, this.context());
    return this.done(result, () => storeSummary(result));
  }
}
