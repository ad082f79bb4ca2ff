/**
 * Proves what INFO and GO tell of an export, that both tell the same, and that no lie about lengths gets through
 * (CVE-2022-26495, CVE-2022-26496).
 */
import { describe, expect, test } from "vitest";
import {
  CHUNKS,
  Client,
  EXTENDED,
  errorTexts,
  FIXED,
  FLAGGED,
  FOREIGN,
  go,
  HELLO,
  heard,
  info,
  LONG_NAME,
  MARKED,
  OPT,
  option,
  type Rule,
  SECOND,
  SECOND_INFO,
  SIMPLE,
  STRUCTURED,
  setContexts,
  text,
  u16,
  u32,
} from "../../../support/nbd/handshake-client.ts";

const KIB = 1024;

function goRaw(name: Uint8Array): Uint8Array {
  return option(OPT.GO, Buffer.concat([text(name), u16(0)]));
}
const infos: readonly Rule[] = [
  { rule: "INFO of the default", says: [HELLO, info(OPT.INFO, "")], sees: [`6 ${SIMPLE}`, "6 ACK"] },
  {
    rule: "INFO of everything, and of what nobody knows",
    says: [HELLO, info(OPT.INFO, "", [3, 2, 1, 0, 9, 0xffff])],
    sees: [`6 ${SIMPLE}`, "6 name ", "6 description the first one", "6 blocks 1 4096 67108864", "6 ACK"],
  },
  {
    rule: "each thing is told once, though asked twice",
    says: [HELLO, info(OPT.INFO, "", [1, 1, 0, 0])],
    sees: [`6 ${SIMPLE}`, "6 name ", "6 ACK"],
  },
  {
    rule: "no description is told where there is none",
    says: [HELLO, info(OPT.INFO, "second", [2])],
    sees: [`6 ${SECOND_INFO}`, "6 ACK"],
  },
  {
    rule: "a name that is not ASCII",
    says: [HELLO, info(OPT.INFO, FOREIGN.name, [1])],
    sees: ["6 export 512 flags 101101101", `6 name ${FOREIGN.name}`, "6 ACK"],
  },
  {
    rule: "a byte order mark is part of the name",
    says: [HELLO, info(OPT.INFO, MARKED.name, [1])],
    sees: ["6 export 1024 flags 11", `6 name ${MARKED.name}`, "6 ACK"],
  },
  {
    rule: "GO says what INFO said, and no zeroes",
    says: [u32(FIXED), info(OPT.INFO, "", [0, 1, 3]), go("", 0, 1, 3)],
    sees: [6, 7]
      .flatMap((id) => [`${id} ${SIMPLE}`, `${id} name `, `${id} blocks 1 4096 67108864`, `${id} ACK`])
      .concat("transmission  simple"),
  },
  {
    rule: "an unknown export does not end the haggling",
    says: [HELLO, info(OPT.INFO, "third"), go("Second"), go("second")],
    sees: ["6 ERR_UNKNOWN", "7 ERR_UNKNOWN", `7 ${SECOND_INFO}`, "7 ACK", "transmission second simple"],
  },
  { rule: "a name of the greatest length", says: [HELLO, go(LONG_NAME)], sees: ["7 ERR_UNKNOWN"] },
  { rule: "a longer one", says: [HELLO, go(`${LONG_NAME}n`)], sees: ["7 ERR_TOO_BIG"] },
  { rule: "a NUL in the name", says: [HELLO, go("sec\0ond"), go("\0")], sees: ["7 ERR_INVALID", "7 ERR_INVALID"] },
  {
    rule: "a name that is no UTF-8",
    says: [HELLO, ...[Buffer.of(0xff), Buffer.of(0xc0, 0x80), Buffer.of(0xed, 0xa0, 0x80)].map(goRaw)],
    sees: ["7 ERR_INVALID", "7 ERR_INVALID", "7 ERR_INVALID"],
  },
  { rule: "no data", says: [HELLO, option(OPT.INFO), option(OPT.GO)], sees: ["6 ERR_INVALID", "7 ERR_INVALID"] },
  {
    rule: "too little data for anything",
    says: [HELLO, option(OPT.GO, u16(0)), option(OPT.GO, u32(0)), option(OPT.GO, Buffer.alloc(5))],
    sees: ["7 ERR_INVALID", "7 ERR_INVALID", "7 ERR_INVALID"],
  },
  {
    rule: "more requests than data",
    says: [HELLO, option(OPT.GO, Buffer.concat([text(""), u16(2, 0)]))],
    sees: ["7 ERR_INVALID"],
  },
  {
    rule: "more data than requests",
    says: [HELLO, option(OPT.GO, Buffer.concat([text(""), u16(1, 0, 0)]))],
    sees: ["7 ERR_INVALID"],
  },
  {
    rule: "half a request",
    says: [HELLO, option(OPT.GO, Buffer.concat([text(""), u16(1), Buffer.of(0)]))],
    sees: ["7 ERR_INVALID"],
  },
  {
    rule: "the longest data",
    says: [HELLO, go("", ...new Array<number>(32 * KIB - 3).fill(7))],
    sees: [`7 ${SIMPLE}`, "7 ACK", "transmission  simple"],
  },
  {
    rule: "longer data is passed over, and haggling goes on",
    says: [HELLO, go("", ...new Array<number>(32 * KIB - 2).fill(7)), go("second")],
    sees: ["7 ERR_TOO_BIG", `7 ${SECOND_INFO}`, "7 ACK", "transmission second simple"],
  },
];

describe("NBD_OPT_INFO and NBD_OPT_GO", () => {
  test.each(infos)("INFO and GO: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });

  test.each([
    [4096, 65536, 64 * KIB * KIB],
    [2, 512, 0xffff_ffff],
    [1, 4096, 32 * KIB * KIB - 1],
  ])("narrow limits are told unasked, too: %i, %i, %i", (minimum, preferred, maximum) => {
    const client = new Client("off", [{ ...SECOND, blockSizes: { minimum, preferred, maximum } }]);
    const told = (id: number): string[] => [`${id} ${SECOND_INFO}`, `${id} blocks ${minimum} ${preferred} ${maximum}`];
    expect(client.say(HELLO, info(OPT.INFO, "second"))).toEqual([...told(6), "6 ACK"]);
    expect(client.say(go("second")).slice(0, 2)).toEqual(told(7));
  });

  test("the limits that everybody takes for granted are not", () => {
    const blockSizes = { minimum: 1, preferred: 512, maximum: 32 * KIB * KIB };
    const client = new Client("off", [{ ...SECOND, blockSizes }]);
    expect(client.say(HELLO, info(OPT.INFO, "second"))).toEqual([`6 ${SECOND_INFO}`, "6 ACK"]);
  });

  test.each([
    ["nothing", [], "1"],
    ["structured replies", [STRUCTURED], "10000001"],
    ["structured replies and a context", [STRUCTURED, setContexts("flagged", "base:allocation")], "10000001"],
    ["extended headers", [EXTENDED], "10000001"],
    ["extended headers and a context", [EXTENDED, setContexts("flagged", "base:allocation")], "1000010000001"],
    ["extended headers and another's context", [EXTENDED, setContexts("", "base:allocation")], "10000001"],
  ] as const)("after %s, flags that depend on it are told so, by INFO and GO alike", (_, says, expected) => {
    const client = new Client();
    client.say(HELLO, ...says);
    const line = `export ${FLAGGED.sizeBytes} flags ${expected}`;
    expect(client.say(info(OPT.INFO, "flagged"), go("flagged")).slice(0, 3)).toEqual([
      `6 ${line}`,
      "6 ACK",
      `7 ${line}`,
    ]);
  });

  test("BLOCK_STATUS_PAYLOAD is not told of an export that cannot do it", () => {
    const said = new Client().say(HELLO, EXTENDED, setContexts("", "base:allocation"), go(""));
    expect(said).toContain(`7 ${CHUNKS}`);
  });

  test("every error has a text for a person", () => {
    const texts = errorTexts(infos);
    expect(texts.length).toBeGreaterThan(12);
    for (const text of texts) expect(text).toMatch(/^[\x20-\x7e…]{15,400}[^.]$/);
  });
});
