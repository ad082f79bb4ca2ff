/** Owns the command line of `detach`. */
import { Args, Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { dryRunFlag } from "../cli/flags.ts";
import { detachSummary } from "../cli/render/attached.ts";

export default class Detach extends BaseCommand<typeof Detach> {
  static override summary = "detach a block device of the kernel's NBD client";
  static override description =
    "A device that is mounted, swapped to, part of something else, or open in a process is refused. The `attach` that kept it ends. Needs root.";
  static override examples = [
    "<%= config.bin %> detach /dev/nbd0",
    "<%= config.bin %> detach vm1",
    "<%= config.bin %> detach --orphans --dry-run",
  ];
  static override args = {
    device: Args.string({ ignoreStdin: true, description: "the device, /dev/nbdN; or the URI or name of its export" }),
  };
  static override flags = {
    orphans: Flags.boolean({
      default: false,
      description: "all devices that no process keeps connected and nothing uses",
    }),
    "dry-run": dryRunFlag(),
  };

  protected async execute(): Promise<Outcome> {
    const { detach } = await import("../lib/operations/attach/detach.ts");
    const { orphans, "dry-run": dryRun } = this.flags;
    const result = await detach(this.args.device, { orphans, dryRun });
    return { result, exitCode: EXIT.ok, isReassurance: true, render: () => detachSummary(result) };
  }
}
