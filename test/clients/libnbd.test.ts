/**
 * What a careful client never sends, sent by libnbd with its own checks off: the cases are in libnbd_cases.py and
 * libnbd_options.py, each of them a test here.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { cowtool, isClean, MIB, makeBase } from "../support/clients/images.ts";
import { runClient } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The distribution's own: python3-libnbd is for no other. */
const PYTHON = "/usr/bin/python3";
const [SCRIPT, MORE] = ["libnbd_cases.py", "libnbd_options.py"].map((name) =>
  fileURLToPath(new URL(name, import.meta.url)),
) as [string, string];
/** Found in the text, so that a case that was not run is a test that fails. */
const CASES = [SCRIPT, MORE].flatMap((file) =>
  [...readFileSync(file, "utf8").matchAll(/^@case\ndef (\w+)/gm)].map(([, name = ""]) => name.replaceAll("_", " ")),
);

const isMissing = skipsLoudly(
  spawnSync(PYTHON, ["-c", "import nbd"]).status !== 0,
  "libnbd's strict mode is not turned off: no python3-libnbd",
);

describe.skipIf(isMissing)("libnbd", () => {
  const path = scratchDirectory();
  let served: Served;
  let outcome: Readonly<Record<string, string | null>> = {};

  beforeAll(async () => {
    makeBase(path("base"), 32 * MIB, 96 * MIB);
    writeFileSync(path("odd"), Buffer.alloc(MIB + 777, 0x6f));
    makeBase(path("small"), MIB);
    await cowtool("create", path("base"), path("top.cow"));
    await cowtool("create", path("small"), path("small.cow"));
    const named = { ro: path("small"), odd: path("odd"), "d e/ü": `${path("small")},${path("small.cow")}` };
    served = await startServe([
      ...[path("base"), path("top.cow"), "--socket", path("s.sock")],
      ...Object.entries(named).flatMap(([name, stack]) => ["--export", `${name}=${stack}`]),
    ]);
    const { stdout, stderr, status } = await runClient(PYTHON, ["-B", SCRIPT, path("s.sock")]);
    if (status !== 0) throw new Error(`${SCRIPT} ended with ${status}: ${stderr}`);
    outcome = JSON.parse(stdout) as typeof outcome;
  });

  test("runs them all", () => {
    expect(CASES.length).toBeGreaterThan(25);
    expect(Object.keys(outcome).sort()).toEqual([...CASES].sort());
  });

  test.each(CASES)("%s", (name) => {
    expect(outcome[name] ?? "").toBe("");
  });

  test("left the server and its cowfile in order", async () => {
    expect(served.complained()).toBe("");
    expect(await served.stop()).toMatchObject({ status: 0 });
    expect(await isClean(path("base"), path("top.cow"))).toBe(true);
  });
});
