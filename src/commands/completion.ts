/** Owns the command line of `completion`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Args } from "@oclif/core";
import { BaseCommand, type Outcome } from "../cli/base-command.ts";
import { EXIT } from "../cli/exit-codes.ts";

const FILES = { bash: "cowtool.bash", zsh: "_cowtool", fish: "cowtool.fish" } as const;
type Shell = keyof typeof FILES;

export default class Completion extends BaseCommand<typeof Completion> {
  static override summary = "print the completion script of a shell";
  static override description =
    "The script makes the shell complete commands, flags, their values, files and the layers of stacks.";
  static override examples = ["<%= config.bin %> completion bash", "<%= config.bin %> completion zsh >_cowtool"];
  static override args = {
    shell: Args.custom<Shell>({
      required: true,
      ignoreStdin: true,
      options: Object.keys(FILES) as Shell[],
      description: "bash, zsh or fish",
    })(),
  };

  protected async execute(): Promise<Outcome> {
    const { shell } = this.args;
    const script = readFileSync(join(this.config.root, "completions", FILES[shell as Shell]), "utf8");
    return { result: { shell, script }, exitCode: EXIT.ok, render: () => script };
  }
}
