/**
 * Proves that what users of qemu-img type by habit gets a hint: with commands and flags that there are, and only where there
 * is no such command or flag.
 */
import { describe, expect, test } from "vitest";
import { loadCommands } from "../../scripts/manual/command-table.ts";
import { COMMANDS, commandHabit, FLAGS, flagHabits } from "../../src/cli/habits.ts";
import { expectErrorJson, expectErrorLine, run } from "../support/command/harness.ts";

const commands = await loadCommands();
const ids = commands.map(({ id }) => id);
const hints = [...Object.values(COMMANDS), ...Object.values(FLAGS).flatMap((flags) => Object.values(flags))];

describe("the tables", () => {
  test.each(hints)("%s", (hint) => {
    const named = [...hint.matchAll(/`cowtool ([a-z-]+)/g)].map(([, id = ""]) => id);
    expect(ids).toEqual(expect.arrayContaining(named));
    const known = commands.flatMap(({ flags }) => flags.map(({ name }) => `--${name}`));
    for (const [flag] of hint.matchAll(/--[a-z][a-z-]*/g)) expect(known).toContain(flag);
    expect(hint).toMatch(/^[`a-z-].*[^.]$/);
  });

  test("name nothing that is there", () => {
    expect(Object.keys(COMMANDS).filter((word) => ids.includes(word))).toEqual([]);
    for (const { id, flags } of commands) {
      const own = flags.flatMap(({ name, char }) => [`--${name}`, `-${char}`]);
      expect(
        Object.keys(FLAGS[id] ?? {}).filter((flag) => own.includes(flag)),
        id,
      ).toEqual([]);
    }
    expect(Object.keys(FLAGS).filter((id) => id !== "*" && !ids.includes(id))).toEqual([]);
  });

  test("are asked for own words only", () => {
    expect(commandHabit("toString")).toBeUndefined();
    expect(flagHabits("constructor", ["-O"])).toEqual([]);
    expect(flagHabits("convert", ["-Oqcow2", "a", "b"])).toHaveLength(1);
  });
});

test("the hint comes with the error, in both forms", async () => {
  const ran = await run("convert", ["-O", "qcow2", "a.img", "b.qcow2"]);
  expectErrorLine(ran, 16);
  expect(ran.stderr).toContain("cowtool: hint: --to FORMAT is the format of OUTPUT\n");
  const error = expectErrorJson(await run("info", ["--backing-chain", "a.img", "--json"]), 16);
  expect(error.hints[0]).toMatch(/^name the layers: /);
  expect((await run("info", ["none.img", "-U"])).status).toBe(16);
});

test.each([
  ["info", "a.qcow2"],
  ["check", "a.qcow2"],
  ["convert", "a.qcow2", "b.img"],
])("-f qcow2 gives the hint with %s", async (name, ...files) => {
  const ran = await run(name, ["-f", "qcow2", ...files]);
  expect(ran.status).not.toBe(0);
  expect(ran.stderr).toContain("cowtool: hint: a format is a part of the file's name, as in qcow2:FILE\n");
  expect((await run("info", ["-f", "none.img", "raw"])).stderr).not.toContain("a part of the file's name");
});
