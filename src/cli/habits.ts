/**
 * Owns what users of qemu-img and its kin type by habit, and the command or flag of cowtool that does it. Asked only once a
 * command line was refused.
 */

/** By the first word: what to type instead. @internal */
export const COMMANDS: Readonly<Record<string, string>> = {
  amend: "`cowtool convert STACK NEW --to FORMAT` makes a file with other options",
  blksum: "`cowtool hash STACK` prints the same checksum",
  checksum: "`cowtool hash STACK` prints the checksum of an image",
  commit: "`cowtool merge RDOFILE COWFILE` merges a cowfile into its base",
  compare: "`cowtool diff A B` compares two images",
  copy: "`cowtool convert STACK OUTPUT --to raw` copies an image",
  dd: "`cowtool convert STACK OUTPUT --to raw` copies an image",
  export: "`cowtool serve STACK` serves an image as an NBD disk",
  flatten: "`cowtool merge RDOFILE COWFILE` merges a cowfile into its base, with --output into a new image",
  ls: "`cowtool info STACK` shows what an image is; `cowtool serve STACK` serves it, to be mounted by the NBD client of the kernel",
  nbd: "`cowtool serve STACK` serves an image as an NBD disk",
  snapshot:
    "`cowtool create BASE,COWFILE NEW` makes a new layer: what is below it stays as it is, and `cowtool squash` joins layers",
};

/** By command and flag, as far as it has to be typed; `*` stands for every command. @internal */
export const FLAGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "*": { "--output=json": "--json prints the result as JSON", "-p": "--progress=bar shows progress" },
  check: { "-r": "`cowtool repair FILE` repairs it", "-U": "--force-share reads a file that is in use" },
  convert: {
    "-O": "--to FORMAT is the format of OUTPUT",
    "-B": "--base STACK is what OUTPUT is over",
    "-b": "--base STACK is what OUTPUT is over",
    "-c": "cowtool writes qcow2 files uncompressed; `cowtool pack` compresses a cowfile",
  },
  create: {
    "-b": "the base is the first argument: `cowtool create BASE COWFILE`",
    "-F": "the format of a base is a part of its name: raw:FILE, qcow2:FILE",
    "-o": "the new file is the second argument: `cowtool create BASE COWFILE`",
  },
  info: {
    "--backing-chain": "name the layers: `cowtool info BASE,LAYER,…` shows all of them",
    "-U": "--force-share reads a file that is in use",
  },
  measure: { "-O": "--to FORMAT is the format that is measured" },
  resize: { "--preallocation": "a cowfile takes space when it is written, and not before" },
  rebase: {
    "-b": "--to NEWBASE is the new base, and --from OLDBASE the old one",
    "-F": "the format of a base is a part of its name: raw:FILE, qcow2:FILE",
    "-u": "--unsafe only writes the identity of the new base",
  },
};

/** What qemu-img takes behind -f. */
const NAMED_FORMATS = ["qcow2", "raw"];

/** For `-f qcow2 FILE`, where -f is --force or no flag at all. @param missing a file that is not there; else any will do */
export function formatHabit(argv: readonly string[], missing?: string): readonly string[] {
  const format = argv.find((word, i) => argv[i - 1] === "-f" && NAMED_FORMATS.includes(word));
  if (format === undefined || (missing !== undefined && missing !== format)) return [];
  return [`a format is a part of the file's name, as in ${format}:FILE`];
}

/** Own keys only: a word may be the name of anything. */
function lookUp<Value>(table: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

/** What to type instead of a word that is no command, or undefined. */
export function commandHabit(word: string): string | undefined {
  return lookUp(COMMANDS, word);
}

/** Is it that flag, alone or with a value attached? */
function isFlag(word: string, flag: string): boolean {
  if (word === flag) return true;
  return flag.startsWith("--") ? word.startsWith(`${flag}=`) : word.startsWith(flag);
}

/** What to type instead of flags that a command does not have. */
export function flagHabits(command: string, argv: readonly string[]): readonly string[] {
  const known = { ...FLAGS["*"], ...lookUp(FLAGS, command) };
  const own = Object.entries(known).flatMap(([flag, hint]) => (argv.some((word) => isFlag(word, flag)) ? [hint] : []));
  return [...own, ...formatHabit(argv)];
}
