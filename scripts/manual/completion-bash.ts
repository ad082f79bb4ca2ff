/**
 * Owns the completion for bash. It needs nothing but bash 4: the package bash-completion only loads it. Names of files
 * are left to readline's own completion, which knows about quoting.
 */
import { type CommandRow, type FlagRow, HELP_FLAG, VERSION_FLAG } from "../../src/cli/command-row.ts";
import { spellings } from "./command-table.ts";
import { header, quoted, takesValue, valueKind } from "./completion-value.ts";

const ACTIONS = {
  choice: ({ options }: FlagRow) => `_cowtool_words ${quoted(options.join(" "))}`,
  directory: () => "_cowtool_directories",
  file: () => "_cowtool_layer",
  nothing: () => "_cowtool_words ''",
} as const;

function longNames(flags: readonly FlagRow[]): string {
  return flags.map(({ name }) => `--${name}`).join(" ");
}

/** Flags whose value may be left out. */
function bareNames(commands: readonly CommandRow[]): string[] {
  const bare = commands.flatMap(({ flags }) => flags.filter(({ bareValue }) => bareValue !== undefined));
  return [...new Set(bare.map(({ name }) => name))];
}

/** What comes after a flag that takes a value; flags of equal meaning on several commands share a line. */
function valueCases(commands: readonly CommandRow[]): string[] {
  const patterns = new Map<string, string[]>();
  for (const { id, flags } of commands) {
    for (const flag of flags.filter(takesValue)) {
      const action = ACTIONS[valueKind(flag)](flag);
      const own = patterns.get(action) ?? [];
      own.push(...spellings(flag).map((spelling) => (flag.isShared ? `*" ${spelling}"` : `"${id} ${spelling}"`)));
      patterns.set(action, own);
    }
  }
  return [...patterns].map(
    ([action, own]) => `    ${[...new Set(own)].join(" | ")})\n      ${action}\n      return\n      ;;`,
  );
}

export function bashCompletion(commands: readonly CommandRow[]): string {
  const names = [...commands.map(({ id }) => id), "help"];
  const first = [...names, ...longNames([HELP_FLAG, VERSION_FLAG]).split(" ")];
  const flagCases = commands.map(({ id, flags }) => `    ${id}) _cowtool_words ${quoted(longNames(flags))} ;;`);
  return `${header("bash", [
    "To install it, copy it to ~/.local/share/bash-completion/completions/cowtool,",
    "or write `source …/cowtool.bash` into ~/.bashrc.".replace("…", "..."),
  ])}

# Offers these words and no files.
_cowtool_words() {
  compopt +o default +o bashdefault 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_cowtool_directories() {
  compopt +o default +o bashdefault -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -d -- "$cur")
}

# Offers the next layer of a stack; for anything else bash completes names of files by itself.
_cowtool_layer() {
  [[ $cur == *,* && -z $(compgen -f -- "$cur") ]] || return
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -P "\${cur%,*}," -f -- "\${cur##*,}")
}

_cowtool() {
  local cur=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]} flag=\${COMP_WORDS[COMP_CWORD - 1]} i attached=
  COMPREPLY=()
  # bash splits --flag=value into three words.
  if [[ $cur == "=" ]]; then
    cur=
    attached=1
  elif [[ $flag == "=" ]]; then
    flag=\${COMP_WORDS[COMP_CWORD - 2]}
    attached=1
  fi
  if ((COMP_CWORD == 1)); then
    _cowtool_words ${quoted(first.join(" "))}
    return
  fi
  if [[ $command == help ]]; then
    ((COMP_CWORD == 2)) && _cowtool_words ${quoted(commands.map(({ id }) => id).join(" "))}
    return
  fi
  for ((i = 2; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} == "--" ]]; then
      _cowtool_layer
      return
    fi
  done
${bareNames(commands)
  .map((name) => `  # The value of --${name} needs the sign.\n  [[ $flag == --${name} && -z $attached ]] && flag=\n`)
  .join("")}  case "$command $flag" in
${valueCases(commands).join("\n")}
  esac
  if [[ $cur != -* ]]; then
    _cowtool_layer
    return
  fi
  case $command in
${flagCases.join("\n")}
  esac
}

complete -o bashdefault -o default -F _cowtool cowtool
`;
}
