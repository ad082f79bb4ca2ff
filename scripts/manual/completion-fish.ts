/**
 * Owns the completion for fish. A command's flags are offered only where that command is the first word, and not, as
 * with fish's own helper, wherever a file happens to have its name.
 */
import { type CommandRow, type FlagRow, HELP_FLAG, VERSION_FLAG } from "../../src/cli/command-row.ts";
import { header, takesValue, valueKind } from "./completion-value.ts";

const VALUES = {
  choice: ({ options }: FlagRow) => ` --exclusive --arguments ${quoted(options.join(" "))}`,
  directory: () => " --exclusive --arguments '(__fish_complete_directories)'",
  file: () => " --require-parameter --arguments '(__cowtool_layers)'",
  nothing: () => " --exclusive",
} as const;

/** fish's single quotes know two escapes. */
function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}

function flagLine(condition: string, flag: FlagRow): string {
  const short = flag.char === undefined ? "" : ` --short-option ${flag.char}`;
  const whole = takesValue(flag) ? VALUES[valueKind(flag)](flag) : "";
  // A value that may be left out is offered only behind the `=`.
  const value = flag.bareValue === undefined ? whole : whole.replace(" --exclusive", "");
  return `complete --command cowtool --condition ${quoted(condition)}${short} --long-option ${flag.name}${value} --description ${quoted(flag.description)}`;
}

function commandLine(condition: string, id: string, summary: string): string {
  return `complete --command cowtool --no-files --condition ${quoted(condition)} --arguments ${id} --description ${quoted(summary)}`;
}

export function fishCompletion(commands: readonly CommandRow[]): string {
  const shared = commands[0]?.flags.filter(({ isShared }) => isShared) ?? [];
  const isFirst = "__cowtool_is_first";
  const lines = [
    ...commands.map(({ id, summary }) => commandLine(isFirst, id, summary)),
    commandLine(isFirst, "help", "show help on a command"),
    ...[HELP_FLAG, VERSION_FLAG].map((flag) => flagLine(isFirst, flag)),
    "",
    ...commands.map(({ id, summary }) => commandLine("__cowtool_runs help", id, summary)),
    "",
    ...shared.map((flag) => flagLine("not __cowtool_is_first", flag)),
    ...commands.flatMap(({ id, flags }) => [
      "",
      ...flags.filter(({ isShared }) => !isShared).map((flag) => flagLine(`__cowtool_runs ${id}`, flag)),
      `complete --command cowtool --condition ${quoted(`__cowtool_runs ${id}`)} --arguments '(__cowtool_layers)'`,
    ]),
  ];
  return `${header("fish", ["To install it, copy it to ~/.config/fish/completions/cowtool.fish."])}

# Is the word that is being typed the first one behind cowtool?
function __cowtool_is_first
    test (count (commandline --tokenize --cut-at-cursor --current-process)) -eq 1
end

# Is that the command?
function __cowtool_runs --argument-names command
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    test (count $words) -gt 1; and test "$words[2]" = $command
end

# The next layer of a stack, behind its last comma.
function __cowtool_layers
    set --local word (commandline --current-token --cut-at-cursor | string replace --regex '^--[a-z-]+=' '')
    string match --quiet '*,*' -- $word; or return
    set --local below (string replace --regex ',[^,]*$' ',' -- $word)
    for path in (complete --do-complete "'' "(string replace --regex '^.*,' '' -- $word))
        echo $below$path
    end
end

${lines.join("\n")}
`;
}
