/**
 * Proves that nothing crosses the border between plain text and TLS (CVE-2021-3716): neither bytes nor agreements; and
 * what is answered on either side of it.
 */
import { describe, expect, test } from "vitest";
import { Handshake } from "../../../../src/lib/nbd/handshake/handshake.ts";
import {
  Client,
  DEFAULT,
  EXPORTS,
  EXTENDED,
  errorTexts,
  exportName,
  FIXED,
  go,
  HELLO,
  heard,
  hostWith,
  info,
  listContexts,
  OPT,
  option,
  type Rule,
  SECOND_INFO,
  SIMPLE,
  STRUCTURED,
  setContexts,
  transcript,
  u32,
} from "../../../support/nbd/handshake-client.ts";

const KIB = 1024;
const STARTTLS = option(OPT.STARTTLS);

const tls: readonly Rule[] = [
  { rule: "STARTTLS where allowed", tls: "allow", says: [HELLO, option(OPT.STARTTLS)], sees: ["5 ACK", "start-tls"] },
  {
    rule: "STARTTLS where required",
    tls: "require",
    says: [HELLO, option(OPT.STARTTLS)],
    sees: ["5 ACK", "start-tls"],
  },
  {
    rule: "STARTTLS with data",
    tls: "require",
    says: [HELLO, option(OPT.STARTTLS, u32(0)), option(OPT.STARTTLS)],
    sees: ["5 ERR_INVALID", "5 ACK", "start-tls"],
  },
  {
    rule: "where required, nothing else is answered",
    tls: "require",
    says: [
      HELLO,
      option(OPT.LIST),
      option(OPT.PEEK_EXPORT),
      info(OPT.INFO, ""),
      go(""),
      go("third"),
      STRUCTURED,
      listContexts(""),
      setContexts("", "base:allocation"),
      EXTENDED,
      option(99),
      option(OPT.LIST, u32(0)),
      option(OPT.GO, Buffer.alloc(64 * KIB + 1)),
    ],
    sees: [3, 4, 6, 7, 7, 8, 9, 10, 11, 99, 3, 7].map((id) => `${id} ERR_TLS_REQD`),
  },
  { rule: "where required, ABORT is", tls: "require", says: [HELLO, option(OPT.ABORT)], sees: ["2 ACK", "close"] },
  { rule: "where required, EXPORT_NAME ends it", tls: "require", says: [HELLO, exportName("")], sees: ["close"] },
  {
    rule: "where required, an old client has no way in",
    tls: "require",
    says: [u32(0), exportName("")],
    sees: ["close"],
  },
  {
    rule: "where allowed, it can be done without",
    tls: "allow",
    says: [HELLO, go("second")],
    sees: [`7 ${SECOND_INFO}`, "7 ACK", "transmission second simple"],
  },
];

/** A client behind STARTTLS. */
function encrypted(tls: "allow" | "require", ...before: readonly Uint8Array[]): Client {
  const client = new Client(tls);
  expect(client.say(HELLO, ...before, STARTTLS).slice(-2)).toEqual(["5 ACK", "start-tls"]);
  client.handshake.tlsStarted();
  return client;
}

describe("STARTTLS", () => {
  test.each(tls)("TLS: $rule", (rule) => {
    expect(heard(rule)).toEqual(rule.sees);
  });

  test("every error has a text for a person", () => {
    const texts = errorTexts(tls);
    expect(texts.length).toBeGreaterThan(12);
    for (const text of texts) expect(text).toMatch(/^[\x20-\x7e…]{15,400}[^.]$/);
  });

  test("what came in plain text behind it is thrown away, in the same piece and in later ones", () => {
    const client = new Client("allow");
    expect(client.say(HELLO, STARTTLS, EXTENDED, go(""))).toEqual(["5 ACK", "start-tls"]);
    expect(client.say(STRUCTURED, go(""))).toEqual([]);
    expect(client.handshake.bufferedBytes).toBe(0);
    client.handshake.tlsStarted();
    expect(client.say(go("second"))).toEqual([`7 ${SECOND_INFO}`, "7 ACK", "transmission second simple"]);
  });

  test("half an option in plain text does not become a whole one", () => {
    const whole = option(OPT.STRUCTURED_REPLY);
    for (let cut = 1; cut < whole.length; cut++) {
      const client = new Client("require");
      client.say(HELLO, STARTTLS, whole.subarray(0, cut));
      client.handshake.tlsStarted();
      expect(client.say(whole.subarray(cut), Buffer.alloc(16))).toEqual(["close"]);
    }
  });

  test("data that was to be passed over is not passed over in what was decrypted", () => {
    const client = new Client("allow");
    client.say(HELLO, STARTTLS, option(99, Buffer.alloc(0), 1000));
    client.handshake.tlsStarted();
    expect(client.say(option(98))).toEqual(["98 ERR_UNSUP"]);
  });

  test.each([
    ["structured replies", [STRUCTURED]],
    ["extended headers", [EXTENDED]],
    ["contexts", [STRUCTURED, setContexts("", "base:allocation")]],
    ["contexts of extended headers", [EXTENDED, setContexts("", "base:allocation")]],
  ] as const)("%s must be agreed on again", (_, before) => {
    const client = encrypted("allow", ...before);
    expect(client.say(go(""))).toEqual([`7 ${SIMPLE}`, "7 ACK", "transmission  simple"]);
  });

  test("contexts do not come back with structured replies", () => {
    const client = encrypted("allow", STRUCTURED, setContexts("", "base:allocation"));
    expect(client.say(STRUCTURED, go("")).at(-1)).toBe("transmission  structured");
  });

  test("extended headers of before do not forbid EXPORT_NAME or structured replies", () => {
    const client = encrypted("allow", EXTENDED);
    expect(client.say(STRUCTURED, exportName("")).at(-1)).toBe("transmission  structured");
  });

  test("the client's flags stay: they are not said again", () => {
    expect(encrypted("require").say(exportName("second"))[0]).toBe(`${SECOND_INFO} and 0 zeroes`);
    const client = new Client("require");
    client.say(u32(FIXED), STARTTLS);
    client.handshake.tlsStarted();
    expect(client.say(exportName("second"))[0]).toBe(`${SECOND_INFO} and 124 zeroes`);
  });

  test.each(["allow", "require"] as const)(
    "where TLS is %s, a second one is refused and everything else answered",
    (mode) => {
      const client = encrypted(mode);
      expect(client.say(STARTTLS, option(OPT.STARTTLS, u32(0)))).toEqual(["5 ERR_INVALID", "5 ERR_INVALID"]);
      expect(client.say(option(OPT.LIST)).at(-1)).toBe("3 ACK");
      expect(client.say(option(99), info(OPT.INFO, "third"))).toEqual(["99 ERR_UNSUP", "6 ERR_UNKNOWN"]);
      expect(client.say(STRUCTURED, setContexts("", "base:allocation"), go("")).at(-1)).toBe(
        "transmission  structured 1=base:allocation",
      );
    },
  );

  test("a stream that was encrypted from its first byte needs none", () => {
    const handshake = new Handshake(hostWith("require", EXPORTS), { tlsStarted: true });
    const steps = handshake.feed(Buffer.concat([HELLO, STARTTLS, go("")]));
    expect(transcript(steps)).toEqual(["5 ERR_INVALID", `7 ${SIMPLE}`, "7 ACK", `transmission ${DEFAULT.name} simple`]);
  });

  test("nobody can start it who was not asked to", () => {
    const client = new Client("allow");
    expect(() => client.handshake.tlsStarted()).toThrow(/TLS was not asked for/);
    expect(client.say(HELLO, option(OPT.ABORT))).toEqual(["2 ACK", "close"]);
    expect(() => client.handshake.tlsStarted()).toThrow(/TLS was not asked for/);
  });
});
