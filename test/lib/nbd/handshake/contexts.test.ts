/**
 * Proves which meta contexts are listed and selected, when a selection ends, and that bad queries are refused.
 */
import { describe, expect, test } from "vitest";
import { MAX_SELECTED } from "../../../../src/lib/nbd/handshake/context-options.ts";
import {
  CHUNKS,
  Client,
  contextData,
  EXTENDED,
  errorTexts,
  go,
  HELLO,
  heard,
  info,
  LONG_NAME,
  listContexts,
  OPT,
  option,
  type Rule,
  SECOND,
  STRUCTURED,
  setContexts,
  text,
  u16,
  u32,
} from "../../../support/nbd/handshake-client.ts";

const KIB = 1024;

/** Data in which something is wrong, behind a client that is otherwise well-behaved. */
function afterStructured(id: number, data: Uint8Array): string[] {
  return new Client().say(HELLO, STRUCTURED, option(id, data));
}

const EVERY = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cowtool"];
const listed = (...names: readonly string[]): string[] => [...names.map((name) => `9 context 0 ${name}`), "9 ACK"];

const contexts: readonly Rule[] = [
  {
    rule: "LIST without queries: all",
    says: [HELLO, STRUCTURED, listContexts("")],
    sees: ["8 ACK", ...listed(...EVERY)],
  },
  { rule: "LIST of an export with fewer", says: [HELLO, listContexts("second")], sees: listed("base:allocation") },
  { rule: "LIST base:", says: [HELLO, listContexts("", "base:")], sees: listed("base:allocation") },
  { rule: "LIST qemu:", says: [HELLO, listContexts("", "qemu:")], sees: listed(...EVERY.slice(1)) },
  {
    rule: "LIST qemu:dirty-bitmap:",
    says: [HELLO, listContexts("", "qemu:dirty-bitmap:")],
    sees: listed(...EVERY.slice(2)),
  },
  {
    rule: "LIST of a whole name",
    says: [HELLO, listContexts("", "qemu:allocation-depth")],
    sees: listed("qemu:allocation-depth"),
  },
  {
    rule: "LIST of half a name",
    says: [HELLO, listContexts("", "base:alloc", "qemu", "qemu:dirty-bitmap")],
    sees: listed(),
  },
  {
    rule: "LIST of other namespaces",
    says: [HELLO, listContexts("", "x-other:", "x-other:thing", ":", "", "nocolon")],
    sees: listed(),
  },
  {
    rule: "LIST names each once",
    says: [HELLO, listContexts("", "qemu:", "base:", "base:allocation", "qemu:")],
    sees: listed(...EVERY),
  },
  {
    rule: "LIST selects nothing",
    says: [HELLO, STRUCTURED, listContexts(""), go("")],
    sees: ["8 ACK", ...listed(...EVERY), `7 ${CHUNKS}`, "7 ACK", "transmission  structured"],
  },
  { rule: "LIST of an unknown export", says: [HELLO, listContexts("third")], sees: ["9 ERR_UNKNOWN"] },
  {
    rule: "SET needs replies in chunks",
    says: [HELLO, setContexts("", "base:allocation"), STRUCTURED, go("")],
    sees: ["10 ERR_INVALID", "8 ACK", `7 ${CHUNKS}`, "7 ACK", "transmission  structured"],
  },
  {
    rule: "SET with structured replies",
    says: [
      HELLO,
      STRUCTURED,
      setContexts("", "qemu:dirty-bitmap:cowtool", "base:allocation", "base:allocation"),
      go(""),
    ],
    sees: [
      "8 ACK",
      "10 context 1 base:allocation",
      "10 context 3 qemu:dirty-bitmap:cowtool",
      "10 ACK",
      `7 ${CHUNKS}`,
      "7 ACK",
      "transmission  structured 1=base:allocation 3=qemu:dirty-bitmap:cowtool",
    ],
  },
  {
    rule: "SET with extended headers",
    says: [HELLO, EXTENDED, setContexts("second", "base:allocation"), go("second")],
    sees: [
      "11 ACK",
      "10 context 1 base:allocation",
      "10 ACK",
      `7 export ${SECOND.sizeBytes} flags 10000011`,
      "7 ACK",
      "transmission second extended 1=base:allocation",
    ],
  },
  {
    rule: "SET: a wildcard selects nothing",
    says: [HELLO, STRUCTURED, setContexts("", "base:", "qemu:", "qemu:dirty-bitmap:")],
    sees: ["8 ACK", "10 ACK"],
  },
  {
    rule: "SET without queries selects nothing",
    says: [HELLO, STRUCTURED, setContexts("")],
    sees: ["8 ACK", "10 ACK"],
  },
  {
    rule: "SET of what the export does not have",
    says: [HELLO, STRUCTURED, setContexts("second", ...EVERY, "x-other:y")],
    sees: ["8 ACK", "10 context 1 base:allocation", "10 ACK"],
  },
];

/** A SET that must undo the one before it: what it is answered, and why. */
const undoing: readonly { readonly rule: string; readonly says: Uint8Array; readonly sees: string }[] = [
  { rule: "without queries", says: setContexts(""), sees: "10 ACK" },
  { rule: "of a wildcard", says: setContexts("", "base:"), sees: "10 ACK" },
  { rule: "of an unknown export", says: setContexts("third", "base:allocation"), sees: "10 ERR_UNKNOWN" },
  { rule: "that is no SET", says: option(OPT.SET_META_CONTEXT), sees: "10 ERR_INVALID" },
  {
    rule: "with too many queries",
    says: setContexts("", ...new Array<string>(257).fill("a:b")),
    sees: "10 ERR_TOO_BIG",
  },
  {
    rule: "that is too long to be looked at",
    says: option(OPT.SET_META_CONTEXT, Buffer.alloc(64 * KIB + 1)),
    sees: "10 ERR_TOO_BIG",
  },
];

/** Data of LIST and SET in which something is wrong. */
const badQueries: readonly { readonly rule: string; readonly data: Uint8Array; readonly error: string }[] = [
  { rule: "no data", data: Buffer.alloc(0), error: "INVALID" },
  { rule: "no room for the number of queries", data: Buffer.concat([text(""), u16(0)]), error: "INVALID" },
  { rule: "a name longer than the data", data: Buffer.concat([text("", 5), u32(0)]), error: "INVALID" },
  { rule: "a name of 4 GiB", data: Buffer.concat([text("", 0xffff_ffff), u32(0)]), error: "INVALID" },
  { rule: "a name that is too long", data: contextData(`${LONG_NAME}n`, []), error: "TOO_BIG" },
  { rule: "a name with a NUL", data: contextData("\0", []), error: "INVALID" },
  { rule: "a query longer than the data", data: Buffer.concat([text(""), u32(1), text("base:", 6)]), error: "INVALID" },
  { rule: "a query of 4 GiB", data: Buffer.concat([text(""), u32(1), text("base:", 0xffff_ffff)]), error: "INVALID" },
  { rule: "more queries than data", data: Buffer.concat([text(""), u32(2), text("base:")]), error: "INVALID" },
  { rule: "a number of queries that cannot be", data: Buffer.concat([text(""), u32(0xffff_ffff)]), error: "INVALID" },
  {
    rule: "a number of queries that 32 bits times 4 make small",
    data: Buffer.concat([text(""), u32(0x4000_0001), u32(0)]),
    error: "INVALID",
  },
  { rule: "more data than queries", data: Buffer.concat([contextData("", ["base:"]), Buffer.of(0)]), error: "INVALID" },
  { rule: "a query that is too long", data: contextData("", [`x:${LONG_NAME}`]), error: "TOO_BIG" },
  { rule: "a query that is no UTF-8", data: contextData("", [Buffer.of(0x62, 0x3a, 0xfe)]), error: "INVALID" },
  { rule: "a query with a NUL", data: contextData("", ["base:allocation\0"]), error: "INVALID" },
  { rule: "too many queries", data: contextData("", new Array<string>(257).fill("base:")), error: "TOO_BIG" },
];

describe("NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT", () => {
  test.each(contexts)("contexts: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });

  test.each(badQueries)("LIST and SET refuse $rule", ({ data, error }) => {
    expect(afterStructured(OPT.LIST_META_CONTEXT, data)).toEqual(["8 ACK", `9 ERR_${error}`]);
    expect(afterStructured(OPT.SET_META_CONTEXT, data)).toEqual(["8 ACK", `10 ERR_${error}`]);
  });

  test("no more contexts than one connection may have", () => {
    const contexts = Array.from({ length: MAX_SELECTED + 1 }, (_, i) => ({
      name: `qemu:dirty-bitmap:since-${i}`,
      kind: "dirty" as const,
    }));
    const names = contexts.map(({ name }) => name);
    const client = new Client("off", [{ ...SECOND, contexts }]);
    client.say(HELLO, STRUCTURED);
    expect(client.say(setContexts("second", ...names))).toEqual(["10 ERR_TOO_BIG"]);
    expect(client.say(setContexts("second", ...names.slice(1)))).toHaveLength(MAX_SELECTED + 1);
    expect(client.say(listContexts("second", "qemu:dirty-bitmap:"))).toHaveLength(contexts.length + 1);
  });

  test("as many queries as are taken", () => {
    const many = new Array<string>(256).fill("base:allocation");
    expect(new Client().say(HELLO, listContexts("", ...many))).toEqual(listed("base:allocation"));
  });

  test.each(undoing)("what was selected is undone by a SET $rule", ({ says, sees }) => {
    const client = new Client();
    client.say(HELLO, STRUCTURED, setContexts("", "base:allocation"));
    expect(client.say(says)).toEqual([sees]);
    expect(client.say(go("")).at(-1)).toBe("transmission  structured");
  });

  test("what was selected for one export is nothing to another, and stays for the first", () => {
    const client = new Client();
    client.say(HELLO, STRUCTURED, setContexts("", "base:allocation"));
    client.say(info(OPT.INFO, "second"), go("third"), listContexts("second"));
    const early = new Client();
    early.say(HELLO, STRUCTURED, setContexts("", "base:allocation"));
    expect(early.say(go("second")).at(-1)).toBe("transmission second structured");
    expect(client.say(go("")).at(-1)).toBe("transmission  structured 1=base:allocation");
  });

  test("a later SET replaces an earlier one", () => {
    const client = new Client();
    client.say(HELLO, STRUCTURED, setContexts("second", "base:allocation"), setContexts("", "qemu:allocation-depth"));
    expect(client.say(go("")).at(-1)).toBe("transmission  structured 2=qemu:allocation-depth");
  });

  test("every error has a text for a person", () => {
    const texts = errorTexts(contexts);
    expect(texts.length).toBeGreaterThan(1);
    for (const text of texts) expect(text).toMatch(/^[\x20-\x7e…]{15,400}[^.]$/);
  });
});
