/**
 * Proves that what `npm pack` makes is all that is needed: another user installs it into a folder of their own, works with
 * it, and compiles the example project against it with an old TypeScript. Skipped, loudly, where no registry answers.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { skipsLoudly } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** `nobody`, if we may become somebody else. */
const OTHER = process.getuid?.() === 0 ? 65534 : undefined;
const OLDEST_TYPESCRIPT = "5.0.4";

const path = scratchDirectory();
const home = path("home");
const [bin, modules] = [path("home/.local/bin"), path("home/.local/lib/node_modules")];

interface Ran {
  readonly status: number | null;
  readonly text: string;
}

/** Runs a program as the other user, who has nothing but this home. */
function as(user: number | undefined, program: string, ...argv: string[]): Ran {
  const PATH = [bin, join(ROOT, "node_modules/.bin"), dirname(process.execPath), process.env["PATH"]].join(delimiter);
  // What this machine needs to reach a registry stays; what an npm around the tests has set does not.
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_COMPILE|COWTOOL_|XDG_)/.test(name));
  const done = spawnSync(program, argv, {
    cwd: home,
    env: { ...Object.fromEntries(kept), PATH, HOME: home, NO_COLOR: "1", npm_config_update_notifier: "false" },
    encoding: "utf8",
    timeout: 100_000,
    ...(user === undefined ? {} : { uid: user, gid: user }),
  });
  return { status: done.status, text: `${done.stdout}${done.stderr}${done.error ?? ""}` };
}

const npm = (...argv: string[]): Ran => as(OTHER, "npm", "--no-audit", "--no-fund", "--loglevel=error", ...argv);

/** Packs what the tests' set-up has built. */
function pack(): string {
  mkdirSync(home);
  const done = spawnSync("npm", ["pack", "--ignore-scripts", "--pack-destination", home], {
    cwd: ROOT,
    encoding: "utf8",
  });
  expect(done.status, done.stderr).toBe(0);
  if (OTHER !== undefined) spawnSync("chown", ["-R", `${OTHER}:${OTHER}`, home]);
  // mkdtemp makes folders that only their owner may pass.
  spawnSync("chmod", ["755", path(".")]);
  return join(home, readdirSync(home).find((name) => name.endsWith(".tgz")) ?? "");
}

const tarball = pack();
const installed = npm("install", "-g", "--prefix", join(home, ".local"), tarball);
const noRegistry = /ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENETUNREACH/.test(installed.text);
const isSkipped = skipsLoudly(noRegistry, "no npm registry answers: the package is not installed");

describe.skipIf(isSkipped)("the package, installed by another user", () => {
  test("brings koffi and nothing else", () => {
    expect(installed, installed.text).toMatchObject({ status: 0 });
    const inside = readdirSync(join(modules, "cowtool/node_modules")).filter((name) => !name.startsWith("."));
    expect(inside.sort()).toEqual(["@koromix", "koffi"]);
  });

  test("works from any folder", () => {
    writeFileSync(path("home/golden.img"), new Uint8Array(64 * 1024).fill(7));
    const made = as(OTHER, "cowtool", "create", "golden.img", "vm1.cow");
    expect(made, made.text).toMatchObject({ status: 0 });
    expect(as(OTHER, "cowtool", "info", "vm1.cow").text).toMatch(/^state: +clean$/m);
    expect(as(OTHER, "cowtool", "serve", "--help").text).toContain("--socket");
    expect(as(OTHER, "cowtool", "help").text).toContain("verify-fingerprint");
    expect(as(OTHER, "cowtool", "inf", "vm1.cow")).toMatchObject({ status: 16 });
  });

  test("has links in its README that lead to what is in it, or elsewhere", () => {
    const folder = join(modules, "cowtool");
    const targets = [...readFileSync(join(folder, "README.md"), "utf8").matchAll(/\]\(([^)#]+)\)/g)].map(
      ([, to = ""]) => to,
    );
    const local = targets.filter((to) => !to.includes("://"));
    const missing = local.filter((to) => !existsSync(join(folder, to)));
    expect(missing).toEqual([]);
  });

  test(`compiles into the example project with TypeScript ${OLDEST_TYPESCRIPT}, declarations checked, and runs there`, () => {
    const project = join(home, "example");
    cpSync(join(ROOT, "examples/library"), project, { recursive: true });
    if (OTHER !== undefined) spawnSync("chown", ["-R", `${OTHER}:${OTHER}`, project]);
    const got = npm("install", "--prefix", project, tarball, `typescript@${OLDEST_TYPESCRIPT}`);
    expect(got, got.text).toMatchObject({ status: 0 });
    const ran = npm("--prefix", project, "--silent", "start");
    expect(ran.text.split("\n").slice(0, -1)).toEqual([
      "made a cowfile of 4 blocks",
      "cowfile, 65536 bytes, 0 problems",
      "to be repaired: 0",
      "differs from byte 4096, 4096 bytes",
      "4096 bytes in all",
      expect.stringMatching(/^not-found CowError: .*week\.cow: /),
    ]);
  });
});
