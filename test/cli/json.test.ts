/** Proves that the JSON writer agrees with JSON.stringify, keeps the house rules, and streams. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { writeJson } from "../../src/cli/render/json.ts";

async function jsonText(value: unknown): Promise<string> {
  const pieces: string[] = [];
  await writeJson(value, (text) => pieces.push(text) > 0);
  return pieces.join("");
}

async function throughJson(value: unknown): Promise<unknown> {
  return JSON.parse(await jsonText(value));
}

describe("writeJson", () => {
  test("gives what JSON.stringify gives, for anything JSON can say", async () => {
    const keys = fc.string().filter((key) => key !== "toJSON" && key !== "__proto__");
    const json = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        fc.string(),
        fc.maxSafeInteger(),
        fc.double().filter((number) => !Number.isInteger(number)),
        fc.boolean(),
        fc.constant(null),
        fc.constant(undefined),
        fc.array(tie("value")),
        fc.dictionary(keys, tie("value")),
      ),
    })).value;
    await fc.assert(
      fc.asyncProperty(fc.dictionary(keys, json), async (value) => {
        expect(await throughJson(value)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test("has no character that acts on a terminal, and means the same", async () => {
    const name = "a\u202eb\u200f\u009b\u{e0041}\u007f";
    const text = await jsonText({ [name]: name, list: [{ name }] });
    expect(text).toMatch(/^[\n -~]*$/);
    expect(JSON.parse(text)).toEqual({ [name]: name, list: [{ name }] });
  });

  test("writes what a double can't hold exactly as a decimal string, bytes as hex", async () => {
    const result = { a: 2n ** 64n, b: 2 ** 60, c: Number.MAX_SAFE_INTEGER, d: [1n], hash: Uint8Array.of(0, 255) };
    expect(await throughJson(result)).toEqual({
      a: "18446744073709551616",
      b: "1152921504606846976",
      c: 9007199254740991,
      d: ["1"],
      hash: "00ff",
    });
  });

  test("takes generators of both kinds and toJSON at any depth", async () => {
    function* numbers() {
      yield 1;
      yield { deep: [{ when: new Date(0) }] };
    }
    async function* later() {
      yield* numbers();
    }
    const expected = [1, { deep: [{ when: "1970-01-01T00:00:00.000Z" }] }];
    expect(await throughJson({ a: numbers(), b: later(), c: { d: numbers() } })).toEqual({
      a: expected,
      b: expected,
      c: { d: expected },
    });
  });

  test("puts keys and elements on lines of their own, the rest on one", async () => {
    expect(await jsonText({ file: "a", extents: [{ offset: 0, length: 1 }, [{}]], none: [], inner: { x: [1] } })).toBe(
      '{\n  "file": "a",\n  "extents": [\n    {"offset":0,"length":1},\n    [{}]\n  ],\n  "none": [],\n  "inner": {"x":[1]}\n}\n',
    );
  });

  test("never holds more than a piece, and stops the generator when the reader goes", async () => {
    let made = 0;
    let isClosed = false;
    function* extents() {
      try {
        for (;;) yield { offset: made++ * 4096, length: 4096, allocated: true };
      } finally {
        isClosed = true;
      }
    }
    let longest = 0;
    let pieces = 0;
    const isWhole = await writeJson({ extents: extents() }, (text) => {
      longest = Math.max(longest, text.length);
      return ++pieces < 20;
    });
    expect(isWhole).toBe(false);
    expect(isClosed).toBe(true);
    expect(longest).toBeLessThan(70_000);
    expect(made).toBeLessThan(50_000);
  });

  test("lets an error of a generator through", async () => {
    async function* broken() {
      yield 1;
      throw new Error("read failed");
    }
    await expect(jsonText({ a: broken() })).rejects.toThrow("read failed");
  });
});
