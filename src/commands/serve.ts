/** Owns the command line of `serve`. */
import { Args, Flags } from "@oclif/core";
import { isActivated, keepBlocking } from "../cli/activated.ts";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { forceFlag } from "../cli/flags.ts";
import { renderExports } from "../cli/render/exports.ts";
import { LOG_LEVELS, type LogLevel, openLog } from "../cli/serve-log.ts";
import { serveRequest } from "../cli/serve-request.ts";
import { preferSoonFast } from "../cli/soon-fast.ts";
import type { Ready } from "../lib/nbd/server/serve-request.ts";

export default class Serve extends BaseCommand<typeof Serve> {
  static override summary = "serve a stack as a block device over NBD";
  static override description =
    "The base is only read; clients' writes go to the last cowfile. A write that was answered survives a killed server; a flushed write survives a power cut. Without a cowfile the export is read-only. Prints the NBD URI of each export when ready; SIGTERM or SIGINT stops it cleanly.";
  static override examples = [
    "<%= config.bin %> serve golden.img vm1.cow --socket /run/vm1.sock",
    "<%= config.bin %> serve golden.img --ephemeral --listen 127.0.0.1:10809",
    "<%= config.bin %> serve --export vm1=golden.img,vm1.cow --export vm2=golden.img,vm2.cow",
  ];
  static override strict = false;
  static override args = {
    rdofile: Args.string({ required: false, ignoreStdin: true, description: "the base of the default export" }),
    cowfiles: Args.string({ required: false, ignoreStdin: true, description: "its layers, bottom to top" }),
  };
  static override flags = {
    socket: Flags.string({ description: "listen on a unix socket that only you may use", helpValue: "PATH" }),
    listen: Flags.string({ description: "listen on TCP [default: 127.0.0.1:10809]", helpValue: "HOST:PORT" }),
    stdio: Flags.boolean({ default: false, description: "serve one client on standard input and output" }),
    export: Flags.string({ multiple: true, description: "serve a stack under a name", helpValue: "NAME=STACK" }),
    "read-only": Flags.boolean({ default: false, description: "export read-only", exclusive: ["ephemeral"] }),
    ephemeral: Flags.boolean({ default: false, description: "discard all writes when the server ends" }),
    repair: Flags.boolean({ default: false, description: "repair a cowfile that was left dirty by another program" }),
    reserve: Flags.string({ description: "keep at least SIZE free on the cowfile's file system", helpValue: "SIZE" }),
    quota: Flags.string({ description: "the most that a cowfile's blocks may take", helpValue: "SIZE" }),
    "warn-below": Flags.string({ description: "warn when less is free there [default: 256M]", helpValue: "SIZE" }),
    "tls-certificates": Flags.string({ description: "TLS with server-{cert,key}.pem from DIR", helpValue: "DIR" }),
    "tls-psk": Flags.string({ description: "TLS with the pre-shared keys in this file", helpValue: "FILE" }),
    tls: Flags.string({
      description: "whether clients must use TLS",
      options: ["require", "allow"],
      helpValue: "require|allow",
    }),
    "max-connections": Flags.string({ description: "connections at a time [default: 256]", helpValue: "N" }),
    "max-depth": Flags.string({ description: "squash layers without a name beyond N layers", helpValue: "N" }),
    "exit-last": Flags.boolean({ default: false, description: "end when the last client has left" }),
    "pid-file": Flags.string({ description: "write the process id here once it is ready", helpValue: "FILE" }),
    force: forceFlag("serve although the base has changed in blocks that the cowfile has not allocated"),
    control: Flags.string({ description: "the path of its control socket, or none", helpValue: "PATH" }),
    state: Flags.string({ description: "keep the exports that are added here, for the next start", helpValue: "DIR" }),
    log: Flags.custom<LogLevel>({
      description: "log what happens to stderr",
      options: [...LOG_LEVELS],
      helpValue: "LEVEL",
    })(),
    dashboard: Flags.string({ description: "serve a page that shows it all in a browser", helpValue: "HOST:PORT" }),
    insecure: Flags.boolean({ default: false, description: "allow a public address without TLS" }),
  };

  /** With --stdio it is the client's. */
  protected override get stdoutIsData(): boolean {
    return this.argv.includes("--stdio");
  }

  protected async execute(): Promise<Outcome> {
    const request = serveRequest(this.positionals, this.flags);
    const { serve } = await import("../lib/control/serve.ts");
    preferSoonFast();
    if (isActivated()) keepBlocking();
    const toStderr = this.flags.stdio || isActivated();
    const render = (result: Ready) => renderExports(result, this.terminal.stdoutIsTerminal);
    const onReady = (result: Ready) => this.announce({ result, toStderr, render: () => render(result) });
    const log = this.flags.log && { onEvent: await openLog(this.flags.log, this.terminal) };
    await serve({ ...request, ...log, onReady }, { ...this.context(), ...(log && { onNotice: undefined }) });
    return { result: undefined, exitCode: EXIT.ok, render: () => "" };
  }
}
