/** Owns the command line of `ctl`. */
import { Args, Flags } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { type CtlFlags, VERBS } from "../cli/ctl/verbs.ts";
import { EXIT } from "../cli/exit-codes.ts";
import { forceFlag } from "../cli/flags.ts";
import { nearest } from "../cli/nearest.ts";
import { CowError } from "../lib/errors.ts";

const list = Object.entries(VERBS).map(([verb, { usage, summary }]) => `${`${verb} ${usage}`.trim()}: ${summary}`);

export default class Ctl extends BaseCommand<typeof Ctl> {
  static override summary = "control a running server";
  static override description = `Speaks to the control socket of \`cowtool serve\`. ${list.join(". ")}.`;
  static override examples = [
    "<%= config.bin %> ctl list",
    "<%= config.bin %> ctl add vm3=golden.img,vm3.cow",
    "<%= config.bin %> ctl remove vm3 --drain",
    "<%= config.bin %> ctl watch vm1 --below 10G",
  ];
  static override strict = false;
  static override args = {
    verb: Args.string({
      required: true,
      ignoreStdin: true,
      description: "what to do",
      options: Object.keys(VERBS),
    }),
    words: Args.string({ required: false, ignoreStdin: true, description: "what the verb takes" }),
  };
  static override flags = {
    server: Flags.string({
      description: "which server: the path of its control socket, or its name",
      helpValue: "NAME",
    }),
    "read-only": Flags.boolean({ default: false, description: "add, reopen: read-only", exclusive: ["ephemeral"] }),
    ephemeral: Flags.boolean({ default: false, description: "add: discard all writes when it is closed" }),
    repair: Flags.boolean({ default: false, description: "add: repair a cowfile that another program left dirty" }),
    reserve: Flags.string({ description: "add: keep at least SIZE free on its file system", helpValue: "SIZE" }),
    force: forceFlag("add: although the base has changed; remove: although clients use it"),
    drain: Flags.boolean({ default: false, description: "remove: wait until its clients have left" }),
    "no-wait": Flags.boolean({ default: false, description: "remove --drain: leave the waiting to a job" }),
    iops: Flags.string({ description: "limit: requests per second, or none", helpValue: "N" }),
    bandwidth: Flags.string({ description: "limit: bytes per second, or none", helpValue: "SIZE" }),
    quota: Flags.string({
      description: "add, limit: the most that its cowfile may allocate, or none",
      helpValue: "SIZE",
    }),
    below: Flags.string({ description: "watch: wait until less than SIZE is free", helpValue: "SIZE" }),
    exec: Flags.string({ description: "watch --below: then run this in a shell", helpValue: "COMMAND" }),
  };

  protected async execute(): Promise<Outcome> {
    const [word = "", ...args] = this.positionals;
    const verb = Object.hasOwn(VERBS, word) ? VERBS[word] : undefined;
    if (!verb) {
      const near = nearest(word, Object.keys(VERBS)).map((each) => `did you mean ${each}?`);
      throw new CowError("usage", `there is no verb ${word}`, { hints: [...near, "see `cowtool ctl --help`"] });
    }
    const [least, most] = verb.args;
    if (args.length < least || args.length > most) {
      const what = args.length < least ? "an argument is missing" : `"${args[most]}" is an argument too many`;
      throw new CowError("usage", `${what}: expected cowtool ctl ${word} ${verb.usage}`.trim());
    }
    const flags: CtlFlags = this.flags;
    const others = Object.keys(VERBS).flatMap((each) => VERBS[each]?.flags ?? []);
    const stray = others.find(
      (flag) => flags[flag] !== undefined && flags[flag] !== false && !verb.flags.includes(flag),
    );
    if (stray !== undefined) throw new CowError("usage", `--${stray} does not go with ctl ${word}`);
    const { connect } = await import("../lib/control/client.ts");
    const client = await connect({ server: this.flags.server });
    const view = { columns: this.terminal.columns };
    const answer = await verb.run({ client, args, flags, view, signal: this.context().signal });
    return { ...answer, exitCode: EXIT.ok };
  }
}
