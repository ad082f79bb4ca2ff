/** Proves that rendering for people is aligned, fits, and can't be used to attack a terminal. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mayColour, paint } from "../../src/cli/render/colour.ts";
import { escapeControls } from "../../src/cli/render/escape.ts";
import { renderExports } from "../../src/cli/render/exports.ts";
import { renderKeyValue } from "../../src/cli/render/key-value.ts";
import { svgOfStack } from "../../src/cli/render/map-entries.ts";
import { renderSvgMap } from "../../src/cli/render/svg-map.ts";
import { renderTable } from "../../src/cli/render/table.ts";
import { writeText } from "../../src/cli/render/text.ts";
import type { Ready } from "../../src/lib/nbd/server/serve-request.ts";
import { collected } from "../support/collected.ts";

describe("escapeControls", () => {
  test("shows what would act on a terminal", () => {
    expect(escapeControls("a\u001b[31m\n\t\u007f\u0085\u202e")).toBe("a\\x1b[31m\\n\\t\\x7f\\x85\\u202e");
  });

  test("shows what reorders, or has no look of its own", () => {
    const hidden = "\u200e\u200f\u061c\u200b\ufeff\u00ad\u2060\u3164\ufe0f\u2800\u{e0041}\ud800";
    expect(escapeControls(hidden)).toBe(
      "\\u200e\\u200f\\u061c\\u200b\\ufeff\\xad\\u2060\\u3164\\ufe0f\\u2800\\u{e0041}\\ud800",
    );
  });

  test("leaves text of any script alone", () => {
    expect(escapeControls("Kühe 牛 🐄 'x' \\")).toBe("Kühe 牛 🐄 'x' \\");
  });
});

describe("renderExports", () => {
  const one = {
    name: "",
    uri: "nbd://127.0.0.1/",
    more_uris: [],
    stack: "a",
    virtual_size: 1 << 20,
    access: "writable",
  } as const;
  const two = { ...one, name: "vm2", uri: "nbd://127.0.0.1/vm2", more_uris: ["nbd+unix:///vm2?socket=/a/long/path"] };
  const ready = (...exports: (typeof one | typeof two)[]): Ready => ({
    uri: one.uri,
    exports: exports.map((each) => ({ ...each, found: null })),
    pid: 1,
  });

  test("is a table of several on a terminal, in which no URI is broken, and lines of URIs for programs", async () => {
    expect((await collected(renderExports(ready(one, two), true))).join("")).toBe(
      [
        "EXPORT     ACCESS    SIZE   URI",
        "(default)  writable  1 MiB  nbd://127.0.0.1/",
        "vm2        writable  1 MiB  nbd://127.0.0.1/vm2",
        "                            nbd+unix:///vm2?socket=/a/long/path",
        "",
      ].join("\n"),
    );
    expect(renderExports(ready(one, two), false)).toBe([one.uri, two.uri, ...two.more_uris].join("\n"));
    expect(renderExports(ready(one), true)).toBe(one.uri);
  });
});

describe("renderKeyValue", () => {
  test("aligns the values and leaves out what is unknown", () => {
    const rows = [
      ["format", "cowloop"],
      ["blocks used", 3],
      ["packed", undefined],
      ["file", "a\nb"],
    ] as const;
    expect(renderKeyValue(rows)).toBe("format:      cowloop\nblocks used: 3\nfile:        a\\nb\n");
  });

  test("of nothing is nothing", () => {
    expect(renderKeyValue([])).toBe("");
  });
});

describe("renderTable", () => {
  async function tableOf(...args: Parameters<typeof renderTable>): Promise<string> {
    return (await collected(renderTable(...args))).join("");
  }

  test("aligns columns, without trailing blanks", async () => {
    const text = await tableOf(
      ["OFFSET", "STATE"],
      [
        [0, "ok"],
        [1048576, "dirty"],
      ],
    );
    expect(text).toBe("OFFSET   STATE\n0        ok\n1048576  dirty\n");
  });

  test("of any number of rows has one header and the same columns throughout", async () => {
    const rows = Array.from({ length: 2500 }, (_, i) => [i, i * i]);
    const lines = (await tableOf(["N", "SQUARE"], rows)).trimEnd().split("\n");
    expect(lines).toEqual(["N     SQUARE", ...rows.map(([n, square]) => `${String(n).padEnd(4)}  ${square}`)]);
  });

  test("takes no rows, ragged rows and control characters", async () => {
    expect(await tableOf(["A", "B"], [])).toBe("A  B\n");
    expect(await tableOf(["A", "B"], [["1"], ["1", "2", "3"], ["\u001b[0m", "\n"]])).toBe(
      "A        B\n1\n1        2\n\\x1b[0m  \\n\n",
    );
  });

  test("wraps to fit the terminal", async () => {
    const text = await tableOf(["ID", "MESSAGE"], [["x", "a rather long message that needs a second line"]], {
      columns: 30,
    });
    const lines = text.trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(2);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(30);
    expect(
      lines
        .slice(1)
        .map((line) => line.slice(4))
        .join(" "),
    ).toBe("a rather long message that needs a second line");
  });

  test("never throws", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string(), { maxLength: 4 }),
        fc.array(fc.array(fc.string({ unit: "binary" }))),
        fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined }),
        async (header, rows, columns) => {
          await tableOf(header, rows, { columns });
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe("colour", () => {
  const terminal = { isTerminal: true, env: {}, noColour: false };

  test("needs a terminal and nobody against it", () => {
    expect(mayColour(terminal)).toBe(true);
    expect(mayColour({ ...terminal, isTerminal: false })).toBe(false);
    expect(mayColour({ ...terminal, noColour: true })).toBe(false);
    expect(mayColour({ ...terminal, env: { NO_COLOR: "1" } })).toBe(false);
    expect(mayColour({ ...terminal, env: { NO_COLOR: "" } })).toBe(true);
    expect(mayColour({ ...terminal, env: { TERM: "dumb" } })).toBe(false);
  });

  test("colours nothing but the word", () => {
    expect(paint("error", "error", true)).toBe("\u001b[1;31merror\u001b[0m");
    expect(paint("error", "error", false)).toBe("error");
  });
});

describe("writeText", () => {
  test("ends every piece with one newline", async () => {
    const pieces: string[] = [];
    await writeText(["a", "b\n", ""], (text) => pieces.push(text) > 0);
    await writeText("c", (text) => pieces.push(text) > 0);
    expect(pieces.join("")).toBe("a\nb\nc\n");
  });
});

describe("a picture", () => {
  const textOf = async (pieces: AsyncIterable<string>): Promise<string> => (await collected(pieces)).join("");

  test("has 40 KB at most, whatever the image, and says in words what is where", async () => {
    // The worst: no two cells beside one another are alike.
    const cells = Array.from({ length: 96 * 48 }, (_, i) => ({ offset: i * 4096, length: 1024 * (1 + (i % 4)) }));
    const map = {
      title: "a<b",
      sizeBytes: 96 * 48 * 4096,
      rest: "from the base",
      parts: [{ words: "in a.cow", extents: cells }],
    };
    const svg = await textOf(renderSvgMap(map));
    expect(svg.length).toBeLessThan(40_000);
    expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    for (const words of [">a&lt;b<", ">from the base<", ">in a.cow<"]) expect(svg).toContain(words);
    expect(svg.match(/<path stroke='#1f5fa8'/g)).toHaveLength(4);
  });

  test("of a stack has a colour for each layer", async () => {
    const entry = { present: true, zero: false, data: true, compressed: false };
    const entries = [
      { start: 0, length: 8192, depth: 2, ...entry },
      { start: 8192, length: 8192, depth: 1, ...entry },
      { start: 16384, length: 16384, depth: 0, ...entry },
    ];
    const stack = { virtualSizeBytes: 32768, names: ["d/b.cow", "d/a.cow", "d/base"], close: () => {} };
    const svg = await textOf(
      svgOfStack("s", {
        ...stack,
        entries: (async function* () {
          yield* entries;
        })(),
      }),
    );
    expect(svg).toContain("<path stroke='#1f5fa8' stroke-opacity='1' d='M8 0h8'/>");
    expect(svg).toContain("<path stroke='#3a9d8f' stroke-opacity='1' d='M16 0h16'/>");
    expect(svg.indexOf("in a.cow")).toBeLessThan(svg.indexOf("in b.cow"));
  });
});
