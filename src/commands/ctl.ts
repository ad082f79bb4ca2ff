/** Owns the command line of `ctl`. */
import { Args } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { CTL_FLAGS } from "../cli/ctl/flags.ts";
import type { CtlFlags } from "../cli/ctl/verb.ts";
import { VERBS } from "../cli/ctl/verbs.ts";
import { EXIT } from "../cli/exit-codes.ts";
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
    "<%= config.bin %> ctl checkpoint vm1 vm2 --as monday",
    "<%= config.bin %> ctl fork vm1@monday vm3",
    "<%= config.bin %> ctl rollback vm1 monday --keep before.stack",
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
  static override flags = CTL_FLAGS;

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
    const { signal, onProgress } = this.context();
    const answer = await verb.run({ client, args, flags, view, signal, onProgress });
    return { ...answer, exitCode: EXIT.ok };
  }
}
