/**
 * Proves that what a killed process left of an unfinished file goes when that file is made again, and that nothing else
 * does: not what a living process writes, nor what may be another machine's, nor anybody else's files.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { temporaryName } from "../../../src/lib/device/temporary-name.ts";
import { nodeStorage } from "../../../src/lib/index.ts";
import { ROOT } from "../../support/command/run-command.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
let count = 0;
let dir = "";
beforeEach(() => {
  dir = scratch(`${count++}`);
  mkdirSync(dir);
});

const PROGRAM = `
  import { nodeStorage } from ${JSON.stringify(join(ROOT, "src/lib/index.ts"))};
  nodeStorage.create(process.argv[1]).device.write(Buffer.from("half"), 0);
  console.log("begun");
  setInterval(() => {}, 1000);
`;

/** Starts a process that begins to write a file; `kill` ends it in the midst of that. */
async function begin(file: string): Promise<{ kill(): Promise<void> }> {
  const argv = ["--input-type=module", "--eval", PROGRAM, file];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return {
    kill: async () => {
      child.kill("SIGKILL");
      await once(child, "close");
    },
  };
}

function make(name: string): void {
  const pending = nodeStorage.create(join(dir, name));
  pending.commit({ replace: true });
}

/** The name of a temporary file of this process, with parts of it replaced: process, start, origin, unique. */
function nameWith(parts: readonly (string | undefined)[], of = "new.cow"): string {
  const [, prefix = "", unique = ""] = /^(\..*\.)([^.]*)\.tmp$/.exec(basename(temporaryName(join(dir, of)))) ?? [];
  return `${prefix}${unique
    .split("-")
    .map((part, i) => parts[i] ?? part)
    .join("-")}.tmp`;
}

function put(name: string): string {
  writeFileSync(join(dir, name), "half");
  return name;
}

describe("an unfinished file", () => {
  test("of a process that was killed goes when the same file is made again", async () => {
    const { kill } = await begin(join(dir, "new.cow"));
    expect(readdirSync(dir)).toHaveLength(1);
    make("other.cow");
    await kill();
    make("other.cow");
    expect(readdirSync(dir)).toHaveLength(2);
    make("new.cow");
    expect(readdirSync(dir).sort()).toEqual(["new.cow", "other.cow"]);
  });

  test("of a living process stays, be it another or this one", async () => {
    const { kill } = await begin(join(dir, "new.cow"));
    const ours = nodeStorage.create(join(dir, "new.cow"));
    make("new.cow");
    expect(readdirSync(dir)).toHaveLength(3);
    ours.commit({ replace: true });
    expect(readdirSync(dir)).toHaveLength(2);
    await kill();
    make("new.cow");
    expect(readdirSync(dir)).toEqual(["new.cow"]);
  });

  test("of a process whose number another has got since goes, too", () => {
    put(nameWith([undefined, "1"]));
    make("new.cow");
    expect(readdirSync(dir)).toEqual(["new.cow"]);
  });

  test.each([
    ["of a process whose start nobody knows", () => nameWith([undefined, "0"])],
    ["of another boot, machine or container", () => nameWith([(2 ** 22 + 1).toString(36), "1", "0123456789ab"])],
    ["of a machine that knows no origin", () => nameWith([(2 ** 22 + 1).toString(36), "1", "000000000000"])],
    ["of another file", () => nameWith([undefined, "1"], "new.cow2")],
    ["of a file whose name goes on", () => nameWith([undefined, "1"], "new.cow.bak")],
    ["of somebody else's making", () => ".new.cow.17-9.tmp"],
  ])("%s stays", (_, nameOf) => {
    const name = put(nameOf());
    make("new.cow");
    expect(readdirSync(dir).sort()).toEqual([name, "new.cow"].sort());
  });

  test("is no directory of that name", () => {
    const name = nameWith([undefined, "1"]);
    mkdirSync(join(dir, name));
    make("new.cow");
    expect(readdirSync(dir)).toContain(name);
  });

  test("of a long name in any script has a name of its own that fits", () => {
    const long = `${"\u00e4".repeat(110)} ${"x".repeat(30)}`;
    for (const name of [long, "a b", "-"]) {
      const temporary = basename(temporaryName(join(dir, name)));
      expect(Buffer.byteLength(temporary)).toBeLessThanOrEqual(255);
      renameSync(join(dir, put("x")), join(dir, nameWith([undefined, "1"], name)));
      make(name);
    }
    expect(readdirSync(dir).sort()).toEqual([long, "a b", "-"].sort());
  });
});
