/**
 * Proves that the completions work in real shells: each is asked for the same lines, and what it offers is compared with
 * the table of commands. bash is always there; where zsh or fish is missing, its tests are skipped, loudly.
 */
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadCommands } from "../../scripts/manual/command-table.ts";
import type { CommandRow } from "../../src/cli/command-row.ts";
import { isInstalled } from "../support/command/documents.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";
import { sampleOf } from "../support/sample.ts";
import { scratchDirectory } from "../support/scratch.ts";

const commands = await loadCommands();
const path = scratchDirectory();
for (const name of ["golden.img", "vm1.cow", "vm2.cow"]) writeFileSync(path(name), "");

const FOLDER = join(ROOT, "completions");
const LIMIT_MS = 20_000;
/** Gives a program a terminal. */
const TERMINAL = "script";

function run(program: string, argv: readonly string[]): string[] {
  const env = { ...process.env, LC_ALL: "C.UTF-8" };
  const done = spawnSync(program, argv, { cwd: path("."), env, encoding: "utf8", timeout: LIMIT_MS });
  expect(done.stderr).toBe("");
  return done.stdout.split("\n").filter((line) => line !== "");
}

/** What bash would put into COMP_WORDS, of lines without quotes. */
function bashWords(line: string): string[] {
  const words = line.split(/(=)|\s+/).filter((word) => word !== undefined && word !== "");
  return /[\s]$/.test(line) ? [...words, ""] : words;
}

/** Each shell's answer to a line: the words that could stand there, whole. */
const SHELLS = {
  bash(line: string): string[] {
    const call = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _cowtool`;
    const script = `${call}; ((\${#COMPREPLY[@]})) && printf '%s\\n' "\${COMPREPLY[@]}"`;
    const offered = run("bash", ["-c", script, "bash", join(FOLDER, "cowtool.bash"), ...bashWords(line)]);
    const [, attached = ""] = /(\S+=)\S*$/.exec(line) ?? [];
    return offered.map((word) => `${attached}${word}`);
  },
  zsh(line: string): string[] {
    const capture = join(ROOT, "test/support/command/capture-completion.zsh");
    return run("zsh", ["-f", capture, FOLDER, line]);
  },
  fish(line: string): string[] {
    const script = 'source $argv[1]; complete --do-complete "$argv[2]"';
    const offered = run("fish", ["--no-config", "-c", script, "--", join(FOLDER, "cowtool.fish"), line]);
    return offered.map((row) => row.split("\t")[0] ?? "");
  },
} as const;

function longFlags({ flags }: CommandRow): string[] {
  return flags.map(({ name }) => `--${name}`);
}

function command(id: string): CommandRow {
  const found = commands.find((row) => row.id === id);
  if (!found) throw new Error(`no command ${id}`);
  return found;
}

const ids = commands.map(({ id }) => id);
const beginWith = (start: string): string[] => ids.filter((id) => id.startsWith(start));

/** Lines, and what must be offered: exactly that. */
const LINES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ["cowtool re", beginWith("re")],
  ["cowtool ver", beginWith("ver")],
  ["cowtool help mer", ["merge"]],
  ["cowtool create --ab", ["--abi"]],
  ["cowtool create --abi ", ["le64", "le32", "be64", "be32"]],
  ["cowtool create --abi be", ["be64", "be32"]],
  ["cowtool create --abi=be", ["--abi=be64", "--abi=be32"]],
  ["cowtool check vm1.cow --progress ", ["auto", "bar", "plain", "json", "none"]],
  ["cowtool pack --format gz", ["gzip"]],
  ["cowtool pack --level ", []],
  ["cowtool info --map=s", ["--map=svg"]],
  ["cowtool verify-fingerprint golden.img,vm", ["golden.img,vm1.cow", "golden.img,vm2.cow"]],
  ["cowtool check --rdofile golden.img,vm2", ["golden.img,vm2.cow"]],
  ["cowtool repair --dry-", ["--dry-run"]],
  ["cowtool merge --dro", []],
  ["cowtool serve golden.img vm1.cow golden.img,vm2", ["golden.img,vm2.cow"]],
  ["cowtool serve --tls ", ["require", "allow"]],
];

describe.each(Object.keys(SHELLS) as (keyof typeof SHELLS)[])("%s", (shell) => {
  const offers = SHELLS[shell];
  const isMissing = skipsLoudly(!isInstalled(shell), `no ${shell} (package ${shell}): its completion is not tried`);

  // Each question starts zsh anew, with a terminal: it gets a sample of them.
  const some = <Item>(items: readonly Item[]): readonly Item[] => (shell === "zsh" ? sampleOf(items, 6) : items);

  test.skipIf(isMissing).each(some(LINES))("answers %s", (line, offered) => {
    const unique = [...new Set(offers(line))];
    expect(unique.sort()).toEqual([...offered].sort());
  });

  test.skipIf(isMissing)("offers every command", () => {
    const offered = offers("cowtool ");
    expect(ids.filter((id) => !offered.includes(id))).toEqual([]);
    expect(offered).toContain("help");
  });

  test.skipIf(isMissing).each(some(ids))("offers every flag of %s, and no other command's", (id) => {
    const offered = offers(`cowtool ${id} --`).map((word) => word.replace(/=$/, ""));
    expect([...new Set(offered)].sort()).toEqual(longFlags(command(id)).sort());
  });

  test.skipIf(isMissing)("takes a command's name for a file behind another command", () => {
    const offered = offers("cowtool info repair --");
    expect(offered).not.toContain("--drop-lost");
  });
});

/** Types into an interactive bash, whose `cowtool` prints what it is given. */
function typeInBash(typed: string): Promise<string> {
  const start = [
    `source '${join(FOLDER, "cowtool.bash")}'`,
    `cowtool() { printf '<%s>' "$@"; echo; exit; }`,
    "PS1='READY '",
  ];
  writeFileSync(path("bashrc"), `${start.join("\n")}\n`);
  const child = spawn(TERMINAL, ["-qec", "bash --noprofile --rcfile bashrc -i", "/dev/null"], {
    cwd: path("."),
    env: { ...process.env, TERM: "dumb" },
  });
  let output = "";
  let isTyped = false;
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
    if (!isTyped && output.includes("READY ")) {
      isTyped = true;
      child.stdin.write(`${typed}\n`);
    }
  });
  const limit = setTimeout(() => child.kill(), LIMIT_MS);
  return new Promise((resolve, reject) => {
    child.once("error", reject).once("close", () => {
      clearTimeout(limit);
      resolve(/^<.*>/m.exec(output)?.[0] ?? output);
    });
  });
}

const noScript = skipsLoudly(!isInstalled(TERMINAL), "no script (package bsdutils): nothing is typed into bash");

test.skipIf(noScript)("typed into bash, a line with tabs becomes the line that was meant", async () => {
  expect(await typeInBash("cowtool inf\tgold\t--map=s\t")).toBe("<info><golden.img><--map=svg>");
  expect(await typeInBash("cowtool merg\tgold\tvm1\t--und\tu.cow")).toBe("<merge><golden.img><vm1.cow><--undo><u.cow>");
});
