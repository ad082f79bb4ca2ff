/**
 * Owns how the demo talks, runs programs and holds them to what it expects. Must not know what is being shown.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Debian puts mke2fs and its kin where only root looks for programs. */
const PATH = [process.env.PATH, "/usr/sbin", "/sbin"].filter(Boolean).join(delimiter);

/** A machine under load may need some time. */
const LIMIT_MS = 60_000;

/** Something did not come out as it must: ends the demo. */
export class FailedExpectation extends Error {}

/** A line as a shell takes it: what has more than plain characters is quoted. */
function asTyped(words) {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

export function isInstalled(program) {
  return PATH.split(delimiter).some((folder) => existsSync(join(folder, program)));
}

/** A temporary directory with a commentator in it. */
export class Stage {
  directory = mkdtempSync(join(tmpdir(), "cowtool-demo-"));
  #step = 0;
  #held = 0;

  /** How many expectations were held. */
  get held() {
    return this.#held;
  }

  path(name) {
    return join(this.directory, name);
  }

  read(name) {
    return readFileSync(this.path(name));
  }

  step(title) {
    this.#step++;
    console.log(`\n== ${this.#step}. ${title}`);
  }

  say(...lines) {
    for (const line of lines) console.log(line === "" ? "" : `   ${line}`);
  }

  /** Ends the demo unless `holds`. @param what the expectation, as a sentence */
  expect(holds, what, found = "") {
    if (!holds) throw new FailedExpectation(found === "" ? what : `${what}\nfound:\n${found}`);
    this.#held++;
  }

  expectSame(actual, wanted, what) {
    this.expect(Buffer.compare(Buffer.from(actual), Buffer.from(wanted)) === 0, what);
    this.say(`ok: ${what}`);
  }

  /** Where and how programs run here. */
  get surroundings() {
    return { cwd: this.directory, env: { ...process.env, PATH, LC_ALL: "C.UTF-8", NO_COLOR: "1" } };
  }

  /** Shows a command of cowtool, for somebody else to start: program, arguments, options. */
  commandOf(words) {
    this.show(`cowtool ${asTyped(words)}`);
    return [process.execPath, [join(ROOT, "bin", "run.js"), ...words], this.surroundings];
  }

  /** Shows a command of cowtool and its output, and expects an exit status and words in the output. */
  cowtool(words, { exit = 0, shows = [] } = {}) {
    const [program, args] = this.commandOf(words);
    const ran = this.#spawn(program, args);
    process.stdout.write(ran.stdout + ran.stderr);
    if (exit !== 0) this.say(`(exit status ${ran.status})`);
    const text = ran.stdout + ran.stderr;
    this.expect(ran.status === exit, `exit status ${exit} of \`cowtool ${asTyped(words)}\`, not ${ran.status}`, text);
    for (const wanted of shows) {
      this.expect(text.includes(wanted), `"${wanted}" in the output of \`cowtool ${asTyped(words)}\``, text);
    }
  }

  /** Runs another program, shows the command unless `quietly`, and expects it to end well. Its output is only returned. */
  run(words, { quietly = false, encoding = "utf8" } = {}) {
    if (!quietly) this.show(asTyped(words));
    const ran = this.#spawn(words[0], words.slice(1), encoding);
    this.expect(
      ran.status === 0,
      `exit status 0 of \`${asTyped(words)}\`, not ${ran.status ?? ran.error?.message ?? ran.signal}`,
      `${ran.stdout ?? ""}${ran.stderr ?? ""}`,
    );
    return ran.stdout;
  }

  /** The output of a command of cowtool that is not shown. */
  quietly(words) {
    return this.run([process.execPath, join(ROOT, "bin", "run.js"), ...words], { quietly: true });
  }

  /** Waits for what programs take a moment for. @param what the expectation, as a sentence */
  async until(isThere, what) {
    const stopMs = performance.now() + LIMIT_MS;
    while (!isThere()) {
      this.expect(performance.now() < stopMs, what);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  clear() {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Shows what could be typed. */
  show(line) {
    console.log(`\n$ ${line}`);
  }

  #spawn(program, args, encoding = "utf8") {
    const stdio = ["ignore", "pipe", "pipe"];
    return spawnSync(program, args, { ...this.surroundings, encoding, stdio, maxBuffer: 64 << 20 });
  }
}
