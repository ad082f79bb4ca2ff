/** Owns the command line of `attach`. */
import { Args, Flags } from "@oclif/core";
import { attachTarget } from "../cli/attach-target.ts";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { renderAttached } from "../cli/render/attached.ts";
import { CowError } from "../lib/errors.ts";
import type { AttachResult } from "../lib/operations/attach/attach.ts";

const MOST_SECONDS = 86_400;

export default class Attach extends BaseCommand<typeof Attach> {
  static override summary = "attach an export as a block device of this machine";
  static override description =
    "The kernel's NBD client gets a connection to the export, and a new one whenever the server was restarted. Requests wait meanwhile. Prints the device, and stays until it is detached; SIGTERM or SIGINT detaches it, unless it is in use. Needs root and the kernel's module nbd.";
  static override examples = [
    "<%= config.bin %> attach nbd://localhost/vm1 /dev/nbd0",
    "<%= config.bin %> attach /run/vm1.sock",
    "<%= config.bin %> attach --list",
  ];
  static override args = {
    target: Args.string({ ignoreStdin: true, description: "the URI of an export, a server's unix socket, or a name" }),
    device: Args.string({ ignoreStdin: true, description: "the device, /dev/nbdN [default: the first free one]" }),
  };
  static override flags = {
    list: Flags.boolean({ default: false, description: "list the attached devices, orphans too, and attach nothing" }),
    export: Flags.string({ description: "with a unix socket: the name of the export", helpValue: "NAME" }),
    server: Flags.string({ description: "with a name: which server has the export", helpValue: "NAME" }),
    wait: Flags.integer({
      description: "requests fail when the server is gone for this many seconds",
      default: 300,
      min: 1,
      max: MOST_SECONDS,
      helpValue: "N",
    }),
  };

  protected async execute(): Promise<Outcome> {
    const { target, device } = this.args;
    const { list, wait: waitSeconds, export: name, server } = this.flags;
    if (list) return this.#list(target);
    if (target === undefined) throw new CowError("usage", "there is nothing to attach: give a URI, a socket or a name");
    const { attach } = await import("../lib/operations/attach/attach.ts");
    const uri = await attachTarget(target, { name, server });
    const onReady = (result: AttachResult): Promise<void> =>
      this.announce({ result, render: () => `${result.device}\n` });
    await attach(uri, { device, waitSeconds, onReady }, this.context());
    return { result: undefined, exitCode: EXIT.ok, render: () => "" };
  }

  async #list(target: string | undefined): Promise<Outcome> {
    if (target !== undefined) throw new CowError("usage", `"${target}": --list goes without a target`);
    const { listAttached } = await import("../lib/operations/attach/detach.ts");
    const devices = listAttached();
    return {
      result: { devices },
      exitCode: EXIT.ok,
      render: () => renderAttached(devices, { columns: this.terminal.columns }),
    };
  }
}
