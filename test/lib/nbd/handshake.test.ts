/**
 * Proves the rules of the NBD handshake, one case a rule: what a client says, and what it must see. The client side is the
 * tests' own (support/nbd/handshake-client.ts), so that a wrong number or a wrong layout in the library shows. INFO and GO,
 * meta contexts and TLS have files of their own.
 */
import { describe, expect, test } from "vitest";
import {
  CHUNKS,
  Client,
  EXPORTS,
  EXTENDED,
  errorTexts,
  exportName,
  FOREIGN,
  go,
  HELLO,
  heard,
  LONG_NAME,
  MARKED,
  NARROW,
  NO_ZEROES,
  OPT,
  option,
  type Rule,
  readText,
  SECOND,
  SECOND_INFO,
  SIMPLE,
  STRUCTURED,
  setContexts,
  u16,
  u32,
} from "../../support/nbd/handshake-client.ts";

const MIB = 1024 * 1024;
const flags: readonly Rule[] = [
  {
    rule: "no flags: old newstyle",
    says: [u32(0), exportName("")],
    sees: [`${SIMPLE} and 124 zeroes`, "transmission  simple"],
  },
  { rule: "both flags", says: [u32(3), exportName("")], sees: [`${SIMPLE} and 0 zeroes`, "transmission  simple"] },
  { rule: "FIXED only", says: [u32(1), exportName("")], sees: [`${SIMPLE} and 124 zeroes`, "transmission  simple"] },
  { rule: "NO_ZEROES only", says: [u32(2), exportName("")], sees: [`${SIMPLE} and 0 zeroes`, "transmission  simple"] },
  { rule: "an unknown flag", says: [u32(4)], sees: ["close"] },
  { rule: "an unknown flag beside known ones", says: [u32(3 | 0x100)], sees: ["close"] },
  { rule: "the highest flag", says: [u32(0x8000_0001)], sees: ["close"] },
  { rule: "without FIXED there is no LIST", says: [u32(NO_ZEROES), option(OPT.LIST)], sees: ["close"] },
  { rule: "without FIXED there is no GO", says: [u32(0), go("")], sees: ["close"] },
  { rule: "without FIXED there is no STARTTLS", tls: "allow", says: [u32(0), option(OPT.STARTTLS)], sees: ["close"] },
  { rule: "a wrong magic", says: [HELLO, Buffer.from("IHAVEOPX"), u32(3, 0)], sees: ["close"] },
  {
    rule: "a wrong magic later on, where a length was wrong",
    says: [HELLO, option(OPT.LIST, Buffer.alloc(3), 2), option(OPT.LIST)],
    sees: ["3 ERR_INVALID", "close"],
  },
];

const unknown: readonly Rule[] = [
  { rule: "PEEK_EXPORT", says: [HELLO, option(OPT.PEEK_EXPORT)], sees: ["4 ERR_UNSUP"] },
  { rule: "an option from the future", says: [HELLO, option(12)], sees: ["12 ERR_UNSUP"] },
  { rule: "the largest option", says: [HELLO, option(0xffff_ffff)], sees: ["4294967295 ERR_UNSUP"] },
  { rule: "option 0", says: [HELLO, option(0)], sees: ["0 ERR_UNSUP"] },
  {
    rule: "its data is passed over, whatever it looks like",
    says: [HELLO, option(99, Buffer.concat([option(OPT.ABORT), go("")])), option(OPT.LIST, u32(1)), option(98)],
    sees: ["99 ERR_UNSUP", "3 ERR_INVALID", "98 ERR_UNSUP"],
  },
  {
    rule: "as much data as servers bear",
    says: [HELLO, option(99, Buffer.alloc(32 * MIB)), option(98)],
    sees: ["99 ERR_UNSUP", "98 ERR_UNSUP"],
  },
  { rule: "absurd data", says: [HELLO, option(99, Buffer.alloc(0), 32 * MIB + 1)], sees: ["close"] },
  { rule: "the most absurd data", says: [HELLO, option(OPT.GO, Buffer.alloc(0), 0xffff_ffff)], sees: ["close"] },
];

const plain: readonly Rule[] = [
  { rule: "ABORT", says: [HELLO, option(OPT.ABORT), go("")], sees: ["2 ACK", "close"] },
  { rule: "ABORT with data", says: [HELLO, option(OPT.ABORT, Buffer.alloc(100_000))], sees: ["2 ACK", "close"] },
  {
    rule: "LIST",
    says: [HELLO, option(OPT.LIST)],
    sees: [...EXPORTS.map(({ name, description }) => `3 server ${name} | ${description}`), "3 ACK"],
  },
  {
    rule: "LIST with data, and another",
    says: [HELLO, option(OPT.LIST, Buffer.from("x")), option(OPT.LIST, u32(0))],
    sees: ["3 ERR_INVALID", "3 ERR_INVALID"],
  },
  {
    rule: "STRUCTURED_REPLY",
    says: [HELLO, STRUCTURED, go("")],
    sees: ["8 ACK", `7 ${CHUNKS}`, "7 ACK", "transmission  structured"],
  },
  {
    rule: "STRUCTURED_REPLY with data is not agreed on",
    says: [HELLO, option(OPT.STRUCTURED_REPLY, u16(0)), go("")],
    sees: ["8 ERR_INVALID", `7 ${SIMPLE}`, "7 ACK", "transmission  simple"],
  },
  { rule: "STRUCTURED_REPLY twice", says: [HELLO, STRUCTURED, STRUCTURED], sees: ["8 ACK", "8 ACK"] },
  {
    rule: "EXTENDED_HEADERS",
    says: [HELLO, EXTENDED, go("")],
    sees: ["11 ACK", `7 ${CHUNKS}`, "7 ACK", "transmission  extended"],
  },
  {
    rule: "EXTENDED_HEADERS with data is not agreed on",
    says: [HELLO, option(OPT.EXTENDED_HEADERS, u16(0)), go("")],
    sees: ["11 ERR_INVALID", `7 ${SIMPLE}`, "7 ACK", "transmission  simple"],
  },
  {
    rule: "EXTENDED_HEADERS on top of STRUCTURED_REPLY",
    says: [HELLO, STRUCTURED, EXTENDED, EXTENDED, go("")],
    sees: ["8 ACK", "11 ACK", "11 ACK", `7 ${CHUNKS}`, "7 ACK", "transmission  extended"],
  },
  {
    rule: "no way back from EXTENDED_HEADERS",
    says: [HELLO, EXTENDED, STRUCTURED, go("")],
    sees: ["11 ACK", "8 ERR_EXT_HEADER_REQD", `7 ${CHUNKS}`, "7 ACK", "transmission  extended"],
  },
  {
    rule: "STARTTLS without TLS",
    says: [HELLO, option(OPT.STARTTLS), option(98)],
    sees: ["5 ERR_UNSUP", "98 ERR_UNSUP"],
  },
];

const byName: readonly Rule[] = [
  {
    rule: "another than the default",
    says: [HELLO, exportName("second")],
    sees: [`${SECOND_INFO} and 0 zeroes`, "transmission second simple"],
  },
  {
    rule: "a name that is not ASCII",
    says: [HELLO, exportName(FOREIGN.name)],
    sees: ["export 512 flags 101101101 and 0 zeroes", `transmission ${FOREIGN.name} simple`],
  },
  {
    rule: "a byte order mark is part of the name",
    says: [HELLO, exportName(MARKED.name)],
    sees: ["export 1024 flags 11 and 0 zeroes", `transmission ${MARKED.name} simple`],
  },
  {
    rule: "with structured replies",
    says: [HELLO, STRUCTURED, exportName("")],
    sees: ["8 ACK", `${CHUNKS} and 0 zeroes`, "transmission  structured"],
  },
  {
    rule: "with contexts",
    says: [HELLO, STRUCTURED, setContexts("", "base:allocation"), exportName("")],
    sees: [
      "8 ACK",
      "10 context 1 base:allocation",
      "10 ACK",
      `${CHUNKS} and 0 zeroes`,
      "transmission  structured 1=base:allocation",
    ],
  },
  { rule: "with extended headers it is forbidden", says: [HELLO, EXTENDED, exportName("")], sees: ["11 ACK", "close"] },
  { rule: "an unknown one", says: [HELLO, exportName("secon")], sees: ["close"] },
  { rule: "an unknown one of the greatest length", says: [HELLO, exportName(LONG_NAME)], sees: ["close"] },
  {
    rule: "too long, before any of it came",
    says: [HELLO, option(OPT.EXPORT_NAME, Buffer.alloc(0), 4097)],
    sees: ["close"],
  },
  { rule: "a NUL behind a known name", says: [HELLO, exportName("second\0")], sees: ["close"] },
  { rule: "no UTF-8", says: [HELLO, exportName(Buffer.of(0xff))], sees: ["close"] },
];

describe("the NBD handshake", () => {
  test("begins with NBDMAGIC, IHAVEOPT, FIXED_NEWSTYLE and NO_ZEROES", () => {
    expect(Buffer.from(new Client().handshake.greeting()).toString("latin1")).toBe("NBDMAGICIHAVEOPT\0\x03");
  });

  test.each(flags)("flags and magic: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });
  test.each(unknown)("unknown options: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });
  test.each(plain)("options without data: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });
  test.each(byName)("EXPORT_NAME: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });

  test("a server without exports has an empty list and no default", () => {
    expect(new Client("off", []).say(HELLO, option(OPT.LIST), go(""))).toEqual(["3 ACK", "7 ERR_UNKNOWN"]);
    expect(new Client("off", [NARROW]).say(HELLO, exportName(""))).toEqual(["close"]);
  });

  test("the list is the one of the moment", () => {
    const exports = [SECOND];
    const client = new Client("off", exports);
    expect(client.say(HELLO, option(OPT.LIST))).toEqual(["3 server second | ", "3 ACK"]);
    exports.push({ ...SECOND, name: "later", description: "came by" });
    expect(client.say(option(OPT.LIST))).toContain("3 server later | came by");
  });

  test("what a server says too much about itself is cut to a string, between characters", () => {
    const exports = [{ ...SECOND, description: "磁".repeat(3000) }];
    const client = new Client("off", exports);
    client.say(HELLO, option(OPT.LIST));
    const description = client.replies()[0]?.data.subarray(4 + SECOND.name.length) ?? Buffer.alloc(0);
    expect(readText(description)).toBe("磁".repeat(1365));
  });

  test("every error has a text for a person", () => {
    const texts = errorTexts([...unknown, ...plain]);
    expect(texts.length).toBeGreaterThan(12);
    for (const text of texts) expect(text).toMatch(/^[\x20-\x7e…]{15,400}[^.]$/);
  });

  test("what is behind GO and EXPORT_NAME belongs to transmission, and is the receiver's own", () => {
    for (const last of [go(""), exportName("")]) {
      const client = new Client();
      const sent = Buffer.concat([HELLO, last, Buffer.from("first request")]);
      const steps = client.handshake.feed(sent);
      client.steps.push(...steps);
      sent.fill(0);
      expect(client.rest.toString()).toBe("first request");
      expect(client.handshake.feed(option(OPT.LIST))).toEqual([]);
    }
  });
});
