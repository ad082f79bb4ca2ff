/** Owns the command line of `create`. */
import { Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { abiFlag, fileArg, forceFlag, stackFlag } from "../cli/flags.ts";
import { renderKeyValue } from "../cli/render/key-value.ts";
import { formatSize } from "../lib/bytes/size.ts";
import { IDENTITY_MODES, type IdentityMode } from "../lib/operations/identity/modes.ts";

export default class Create extends BaseCommand<typeof Create> {
  static override summary = "make a new cowfile over a base";
  static override description =
    "The new cowfile is empty, byte for byte as the original driver makes it, or with --from holds just the blocks in which another image differs from RDOFILE. It appears whole, or not at all.";
  static override examples = [
    "<%= config.bin %> create golden.img vm1.cow",
    "<%= config.bin %> create golden.img changes.cow --from changed.img",
    "<%= config.bin %> create golden.img old-sparc.cow --abi be32",
  ];
  static override args = {
    rdofile: fileArg("the base: a file, a block device, or a stack BASE,LAYER,…"),
    cowfile: fileArg("the cowfile to make"),
  };
  static override flags = {
    abi: abiFlag(),
    from: stackFlag("make it hold what differs in this image"),
    identity: Flags.custom<IdentityMode>({
      description: "how much of RDOFILE is noted beside COWFILE, so that a change of it is noticed later",
      options: [...IDENTITY_MODES],
      default: "quick",
    })(),
    force: forceFlag("replace COWFILE if it exists"),
  };

  protected async execute(): Promise<Outcome> {
    const { create } = await import("../lib/operations/create.ts");
    const { abi, from, force, identity } = this.flags;
    const result = await create(this.args.rdofile, this.args.cowfile, { abi, from, force, identity }, this.context());
    return {
      result,
      exitCode: EXIT.ok,
      render: () =>
        renderKeyValue([
          ["cowfile", result.cowfile],
          ["over", result.rdofile],
          ["abi", result.abi],
          ["image size", formatSize(result.virtual_size)],
          ["fingerprint", result.fingerprint],
          ["blocks used", `${result.blocks_used} of ${result.rdo_blocks}`],
        ]),
    };
  }
}
