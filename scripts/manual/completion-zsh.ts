/**
 * Owns the completion for zsh: a function for zsh's own completion system, found by its name, _cowtool.
 */
import { type CommandRow, type FlagRow, HELP_FLAG, VERSION_FLAG } from "../../src/cli/command-row.ts";
import { spellings } from "./command-table.ts";
import { header, quoted, valueKind } from "./completion-value.ts";

const ACTIONS = {
  choice: ({ options }: FlagRow) => `(${options.join(" ")})`,
  directory: () => "_files -/",
  file: () => "_cowtool_files",
  nothing: () => " ",
} as const;

/** What _arguments would read as its own marks. */
function marked(text: string): string {
  return text.replace(/[\\[\]:]/g, "\\$&");
}

/** `'(-o --output)'{-o+,--output=}'[…]:FILE:_cowtool_files'`, or without braces for a flag with one name. */
function flagSpec(flag: FlagRow): string {
  const names = spellings(flag);
  const isValue = flag.valueName !== undefined;
  const isBare = flag.bareValue !== undefined;
  const value = isValue
    ? `${isBare ? "::" : ":"}${marked(flag.valueName ?? "")}:${ACTIONS[valueKind(flag)](flag)}`
    : "";
  const rest = quoted(`[${marked(flag.description)}]${value}`);
  const forms = names.map((name) =>
    isValue ? `${name}${name.startsWith("--") ? `=${isBare ? "-" : ""}` : "+"}` : name,
  );
  const excluded = flag.name === "help" ? "- *" : names.join(" ");
  const lead = flag.isRepeatable ? "'*'" : quoted(`(${excluded})`);
  return forms.length === 1 ? `${lead}${forms[0]}${rest}` : `${lead}{${forms.join(",")}}${rest}`;
}

function argSpecs({ args, isVariadic }: CommandRow): string[] {
  return args.map(({ name, required }, index) => {
    const place = isVariadic && index === args.length - 1 ? "*" : `${index + 1}${required ? "" : ":"}`;
    return quoted(`${place}:${marked(name.toLowerCase())}:_cowtool_files`);
  });
}

function commandCase(command: CommandRow): string {
  const specs = [...command.flags.map(flagSpec), ...argSpecs(command)];
  return `        ${command.id})\n          _arguments -s -S : \\\n${specs.map((spec) => `            ${spec}`).join(" \\\n")}\n          ;;`;
}

export function zshCompletion(commands: readonly CommandRow[]): string {
  const described = commands.map(({ id, summary }) => `    ${quoted(`${id}:${summary.replaceAll(":", "\\:")}`)}`);
  return `#compdef cowtool
${header("zsh", [
  "To install it, copy it, under the name _cowtool, to a directory of $fpath that is named before compinit runs.",
])}

# A file, or the next layer of a stack.
_cowtool_files() {
  _files && return
  compset -P '*,' && _files
}

_cowtool() {
  local curcontext=$curcontext context state state_descr line ret=1
  typeset -A opt_args
  local -a commands=(
${described.join("\n")}
    'help:show help on a command'
  )
  _arguments -C \\
    ${flagSpec(HELP_FLAG)} \\
    ${flagSpec({ ...VERSION_FLAG })} \\
    '1: :->command' \\
    '*:: :->arguments' && ret=0
  case $state in
    command)
      _describe -t commands command commands && ret=0
      ;;
    arguments)
      curcontext=\${curcontext%:*:*}:cowtool-$words[1]:
      case $words[1] in
        help)
          _arguments '1: :(${commands.map(({ id }) => id).join(" ")})'
          ;;
${commands.map(commandCase).join("\n")}
      esac
      ret=$?
      ;;
  esac
  return ret
}

_cowtool "$@"
`;
}
