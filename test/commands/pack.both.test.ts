/** Proves the command lines of `pack` and `unpack`: what they say, `-` on both sides, and what they refuse. */
import { copyFileSync, linkSync, lstatSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { fakeTerminal } from "../support/command/fake-terminal.ts";
import { HELD, pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, expectJson, expectPlainLines, run } from "../support/command/harness.ts";
import { noise } from "../support/random.ts";

const at = useImages();
const FORMATS = ["zstd", "gzip", "plain"] as const;

async function resultOf(name: "pack" | "unpack", argv: readonly string[]): Promise<Record<string, unknown>> {
  const ran = await run(name, [...argv, "--json"]);
  expect(ran.status, ran.stdout).toBe(0);
  expect(ran.stderr).toBe("");
  return expectJson(ran.stdout, name);
}

function size(name: string): number {
  return lstatSync(at(name)).size;
}

describe("pack and unpack", () => {
  test.each(FORMATS)("%s: the cowfile comes back, and both say what they did", async (format) => {
    const made = await resultOf("pack", [at("vm.cow"), at("vm.pack"), `--format=${format}`]);
    expect(made).toEqual({
      cowfile: at("vm.cow"),
      packfile: at("vm.pack"),
      format,
      blocks: HELD.length,
      bytes_in: size("vm.cow"),
      bytes_out: size("vm.pack"),
    });
    const back = await resultOf("unpack", [at("vm.pack"), at("back.cow")]);
    expect(back).toEqual({
      packfile: at("vm.pack"),
      cowfile: at("back.cow"),
      format,
      blocks: HELD.length,
      bytes_in: size("vm.pack"),
      bytes_out: size("vm.cow"),
    });
    expect(readFileSync(at("back.cow")).equals(readFileSync(at("vm.cow")))).toBe(true);
  });

  test("say in words what they did, with exact figures", async () => {
    const made = await run("pack", [at("vm.cow"), at("vm.pack")]);
    expect(made.stdout).toMatch(/^\S+vm\.pack: 10 blocks \(zstd\), \d+ \([\d.]+ KiB\) in, \d+ \([\d.]+ KiB\) out\n$/);
    const back = await run("unpack", [at("vm.pack"), at("back.cow")]);
    expect(back.stdout).toMatch(/^\S+back\.cow: 10 blocks \(zstd\), /);
    expect([made.stderr, back.stderr]).toEqual(["", ""]);
  });

  test("zstd is what pack makes unasked, in the driver's own and in any other layout", async () => {
    expect(await resultOf("pack", [at("be32.cow"), at("a")])).toMatchObject({ format: "zstd" });
    await resultOf("unpack", [at("a"), at("b")]);
    expect(readFileSync(at("b")).equals(readFileSync(at("be32.cow")))).toBe(true);
  });

  test("plain and gzip are the original's", async () => {
    await resultOf("pack", [at("vm.cow"), at("ours.pack"), "--format=plain"]);
    expect(readFileSync(at("ours.pack")).equals(readFileSync(at("plain.pack")))).toBe(true);
    for (const original of ["plain.pack", "gzip.pack"]) {
      await resultOf("unpack", [at(original), at(`from-${original}`)]);
      expect(readFileSync(at(`from-${original}`)).equals(readFileSync(at("vm.cow")))).toBe(true);
    }
  });

  test("the name says nothing: a pack called .cow is a pack (U14)", async () => {
    copyFileSync(at("gzip.pack"), at("lies.cow"));
    expect(await resultOf("unpack", [at("lies.cow"), at("back.gz")])).toMatchObject({ format: "gzip" });
    expectErrorLine(await run("pack", [at("lies.cow"), at("new.pack")]), 4);
  });

  test.each(FORMATS)("%s: progress goes from nothing to all of it", async (format) => {
    for (const [name, from, to] of [
      ["pack", "vm.cow", "vm.pack"],
      ["unpack", "vm.pack", "back.cow"],
    ] as const) {
      const argv = [at(from), at(to), ...(name === "pack" ? [`--format=${format}`] : []), "--progress=json"];
      const lines = (await run(name, argv)).stderr.trimEnd().split("\n");
      const last = JSON.parse(lines.at(-1) ?? "") as { phase: string; done: number; total: number; percent: number };
      expect(last, name).toMatchObject({ phase: `${name}ing`, percent: 100 });
      expect(last.done).toBeGreaterThan(0);
    }
  });

  test("-f replaces a longer file, of which nothing stays (U12)", async () => {
    const packed = readFileSync(at("gzip.pack"));
    writeFileSync(at("old"), Buffer.concat([packed, Buffer.alloc(2_000_000, 1)]));
    const refused = await run("pack", [at("vm.cow"), at("old")]);
    expect(expectErrorLine(refused, 8)).toContain(at("old"));
    expect(refused.stderr).toContain("cowtool: hint: --force replaces it\n");
    for (const format of FORMATS) {
      await resultOf("pack", [at("vm.cow"), at("old"), "-f", "--format", format]);
      await resultOf("pack", [at("vm.cow"), at(`new.${format}`), "--format", format]);
      expect(readFileSync(at("old")).equals(readFileSync(at(`new.${format}`)))).toBe(true);
    }
    writeFileSync(at("old.cow"), Buffer.concat([readFileSync(at("vm.cow")), Buffer.alloc(2_000_000, 1)]));
    expectErrorLine(await run("unpack", [at("plain.pack"), at("old.cow")]), 8);
    await resultOf("unpack", [at("plain.pack"), at("old.cow"), "-f"]);
    expect(readFileSync(at("old.cow")).equals(readFileSync(at("vm.cow")))).toBe(true);
  });

  test("what is to be replaced stays where the input is no good", async () => {
    writeFileSync(at("precious"), "precious");
    const named = ["--replace", at("precious")];
    expectErrorLine(await run("pack", [at("dirty.cow"), at("precious"), ...named]), 4);
    expectErrorLine(await run("unpack", [at("vm.cow"), at("precious"), ...named]), 4);
    writeFileSync(at("cut.pack"), readFileSync(at("gzip.pack")).subarray(0, -20));
    expectErrorLine(await run("unpack", [at("cut.pack"), at("precious"), ...named]), 4);
    expect(readFileSync(at("precious"), "utf8")).toBe("precious");
  });

  test.each([
    ["pack", "dirty.cow", "dirty"],
    ["pack", "lost.cow", "damaged"],
    ["pack", "hostile.cow", "damaged"],
    ["pack", "plain.pack", "packed"],
    ["pack", "gzip.pack", "packed"],
    ["pack", "random.img", "bad-head"],
    ["pack", "zero.img", "bad-head"],
    ["pack", "empty.img", "bad-head"],
    ["unpack", "vm.cow", "unsuitable"],
    ["unpack", "dirty.cow", "unsuitable"],
    ["unpack", "random.img", "bad-head"],
    ["unpack", "zero.img", "bad-head"],
    ["unpack", "empty.img", "bad-head"],
  ])("%s refuses %s, and no file appears (U13, U15)", async (name, input, code) => {
    at(input);
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run(name, [at(input), at("new")]), 4)).toContain(at(input));
    expect(expectErrorJson(await run(name, [at(input), at("new"), "--json"]), 4).code).toBe(code);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("a cut pack is an error that fits its schema, in every form", async () => {
    for (const format of FORMATS) {
      await resultOf("pack", [at("vm.cow"), at(`whole.${format}`), "--format", format]);
      const bytes = readFileSync(at(`whole.${format}`));
      for (const length of [2, 60, 900, 3000, bytes.length - 1]) {
        writeFileSync(at("cut"), bytes.subarray(0, length));
        const error = expectErrorJson(await run("unpack", [at("cut"), at("new"), "--json"]), 4);
        expect(error.details["file"]).toBe(at("cut"));
      }
    }
  });

  test("a whole stream with too little inside is such an error, too", async () => {
    const payload = gunzipSync(readFileSync(at("gzip.pack")));
    for (const length of [20, 1000, payload.length - 1]) {
      writeFileSync(at("short"), gzipSync(payload.subarray(0, length)));
      const error = expectErrorJson(await run("unpack", [at("short"), at("new"), "--json"]), 4);
      expect(error).toMatchObject({ code: "truncated", message: expect.stringContaining(`${length} bytes`) });
    }
  });

  test.each(["pack", "unpack"])("%s: an output that is the input by any name is refused (U15)", async (name) => {
    const input = name === "pack" ? "vm.cow" : "gzip.pack";
    linkSync(at(input), at("hard"));
    symlinkSync(input, at("soft"));
    const before = pictureOf(at(""));
    for (const output of [at(input), at("hard"), at("soft"), `${at("")}/../${at("").split("/").pop()}/${input}`])
      for (const flags of [[], ["-f"]])
        expect(expectErrorLine(await run(name, [at(input), output, ...flags]), 16)).toMatch(/an output must not be/);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.each([
    ["--level=0", /level/],
    ["--level=23", /1 to 22/],
    ["--level=x", /level/],
    ["--format=gzip --level=10", /1 to 9/],
    ["--format=plain --level=3", /plain/],
    ["--format=rar", /zstd.*gzip.*plain/],
    ["--threads=0", /threads/],
    ["--threads=-1", /threads/],
  ])("pack %s is a usage error", async (flags, message) => {
    expect(expectErrorLine(await run("pack", [at("vm.cow"), at("new"), ...flags.split(" ")]), 16)).toMatch(message);
    expect(Object.keys(pictureOf(at("")))).not.toContain("new");
  });

  test.each(["--threads=0", "--threads=-1", "--threads=x"])("unpack %s is a usage error", async (flag) => {
    expect(expectErrorLine(await run("unpack", [at("gzip.pack"), at("new"), flag]), 16)).toMatch(/threads/);
    expect(Object.keys(pictureOf(at("")))).not.toContain("new");
  });
});

describe("a mark behind the end of the image", () => {
  test.each(FORMATS)("%s: is packed as zeros with a warning where the file has no data for it", async (format) => {
    const bytes = readFileSync(at("vm.cow"));
    bytes[1024 + 39] = 0x03; // blocks 312 and 313
    bytes.writeBigUInt64LE(12n, 48);
    writeFileSync(at("beyond.cow"), bytes);
    const ran = await run("pack", [at("beyond.cow"), at("beyond.pack"), "--format", format]);
    expect([ran.status, ran.stderr.split("\n").length], ran.stderr).toEqual([0, 2]);
    expect(ran.stderr).toMatch(/^cowtool: warning: .*beyond\.cow: 2 blocks are allocated beyond the end of the image/);
    const whole = Buffer.concat([bytes, noise(4096 + 313 * 1024 - bytes.length, 1)]);
    writeFileSync(at("beyond.cow"), whole);
    const one = await run("pack", [at("beyond.cow"), at("beyond.pack"), "-f", "--format", format]);
    expect(one.stderr).toMatch(/: 1 block is allocated beyond the end/);
    writeFileSync(at("beyond.cow"), Buffer.concat([whole, noise(1024, 2)]));
    expect((await run("pack", [at("beyond.cow"), at("beyond.pack"), "-f", "--format", format])).stderr).toBe("");
  });
});

test("unpack says of an empty file that it is no pack, not that it could become a cowfile", async () => {
  const ran = await run("unpack", [at("empty.img"), at("new")]);
  expect(expectErrorLine(ran, 4)).toMatch(/empty\.img: is empty, and so no packed cowfile$/);
  expect(ran.stderr).not.toMatch(/create/);
});

describe("-", () => {
  test.each(FORMATS)("%s: the same bytes go through pipes, and the result to stderr", async (format) => {
    await resultOf("pack", [at("vm.cow"), at("vm.pack"), "--format", format]);
    const input = readFileSync(at("vm.cow"));
    for (const [from, to] of [
      ["-", "-"],
      [at("vm.cow"), "-"],
      ["-", at("piped.pack")],
    ] as const) {
      const ran = await run("pack", [from, to, "--format", format], fakeTerminal({ input }));
      expect(ran.status, ran.stderr).toBe(0);
    }
    expect(readFileSync(at("piped.pack")).equals(readFileSync(at("vm.pack")))).toBe(true);

    const terminal = fakeTerminal({ input });
    const packing = await run("pack", ["-", "-", "--format", format], terminal);
    expect(terminal.bytesOut().equals(readFileSync(at("vm.pack")))).toBe(true);
    expect([packing.stdout, packing.status]).toEqual(["", 0]);
    expect(packing.stderr).toMatch(new RegExp(`^-: 10 blocks \\(${format}\\), ${input.length} `));
    expectPlainLines(packing.stderr);

    const reader = fakeTerminal({ input: terminal.bytesOut() });
    const unpacking = await run("unpack", ["-", "-", "--json"], reader);
    expect(reader.bytesOut().equals(input)).toBe(true);
    expect([unpacking.stdout, unpacking.status]).toEqual(["", 0]);
    expect(expectJson(unpacking.stderr, "unpack")).toEqual({
      packfile: "-",
      cowfile: "-",
      format,
      blocks: 10,
      bytes_in: terminal.bytesOut().length,
      bytes_out: input.length,
    });
  });

  test("is no place for bytes on a terminal", async () => {
    for (const [name, file] of [
      ["pack", "vm.cow"],
      ["unpack", "gzip.pack"],
    ] as const) {
      const terminal = fakeTerminal({ isTerminal: true, env: { TERM: "dumb" } });
      await run(name, [at(file), "-"], terminal);
      expect([terminal.exitCode(), terminal.bytesOut().length]).toEqual([16, 0]);
      expect(terminal.err()).toMatch(/stdout is a terminal/);
    }
  });

  test("damage is told before the first byte goes out", async () => {
    const bytes = readFileSync(at("gzip.pack"));
    bytes[bytes.length - 6] = (bytes[bytes.length - 6] ?? 0) ^ 1;
    writeFileSync(at("bad.pack"), bytes);
    const terminal = fakeTerminal();
    expectErrorLine(await run("unpack", [at("bad.pack"), "-"], terminal), 4);
    expect(terminal.bytesOut()).toHaveLength(0);
  });

  test.each([
    ["pack", "dirty.cow"],
    ["pack", "random.img"],
    ["pack", "lost.cow"],
    ["pack", "gzip.pack"],
    ["pack", "empty.img"],
    ["unpack", "vm.cow"],
    ["unpack", "random.img"],
    ["unpack", "empty.img"],
  ])("%s refuses %s from stdin, too, and calls it what the user called it", async (name, input) => {
    const terminal = fakeTerminal({ input: readFileSync(at(input)) });
    const ran = await run(name, ["-", at("new")], terminal);
    expect(expectErrorLine(ran, 4)).toMatch(/^cowtool: error: (?:-|stdin): /);
    expect(ran.stderr).not.toMatch(/\/cowtool-\w+\/scratch/);
    expect(Object.keys(pictureOf(at("")))).not.toContain("new");
  });

  test.each([
    ["pack", "dirty.cow", []],
    ["unpack", "vm.cow", []],
    ["unpack", "no-such-file", []],
    ["unpack", "gzip.pack", ["--bogus"]],
  ])("with --json an error of %s %s goes to stderr, where no data is expected", async (name, file, flags) => {
    const ran = await run(name, [at(file), "-", "--json", ...flags]);
    expect(ran.stdout).toBe("");
    expectErrorJson(
      { stdout: ran.stderr, stderr: "", status: ran.status },
      flags.length > 0 ? 16 : file === "no-such-file" ? 8 : 4,
    );
    const named = await run(name, ["-", at("new"), "--json", ...flags], fakeTerminal({ input: Buffer.from("moo") }));
    expectErrorJson(named, flags.length > 0 ? 16 : 4);
  });

  test("a cut pack from stdin is told so by its name", async () => {
    for (const [pack, length] of [
      ["gzip.pack", 500],
      ["plain.pack", 5000],
      ["plain.pack", 1500],
    ] as const) {
      const input = readFileSync(at(pack)).subarray(0, length);
      const ran = await run("unpack", ["-", at("new")], fakeTerminal({ input }));
      expect(expectErrorLine(ran, 4)).toMatch(/^cowtool: error: (?:-|stdin): /);
    }
  });

  test("./- is a file of that name", async () => {
    const ran = await run("pack", [at("vm.cow"), at("-")]);
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    expect(Object.keys(pictureOf(at("")))).toContain("-");
  });
});
