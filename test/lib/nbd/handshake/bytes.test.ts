/**
 * Proves that the handshake does not care how bytes arrive, that no bytes make it throw, and that no client makes it hold
 * or say more than its limits.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  Handshake,
  type HandshakeStep,
  MAX_ANSWER_BYTES,
  MAX_OPTION_BYTES,
  type TlsMode,
} from "../../../../src/lib/nbd/handshake/handshake.ts";
import {
  Client,
  DEFAULT,
  EXPORTS,
  EXTENDED,
  exportName,
  FIXED,
  go,
  HELLO,
  hostWith,
  info,
  LONG_NAME,
  listContexts,
  OPT,
  option,
  STRUCTURED,
  setContexts,
  text,
  transcript,
  u16,
  u32,
} from "../../../support/nbd/handshake-client.ts";

const KIB = 1024;
const LIST = option(OPT.LIST);
const TERMINAL: ReadonlySet<string> = new Set(["close", "start-tls", "transmission"]);

function fresh(tls: TlsMode = "off"): Handshake {
  return new Handshake(hostWith(tls, EXPORTS));
}

interface Outcome {
  readonly lines: readonly string[];
  readonly sent: string;
  /** Where transmission begins, if it does. */
  readonly endBytes: number | undefined;
}

/** Not `expect`, which would take most of the time here. */
function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** Feeds pieces of these lengths, over and over, from buffers that are overwritten afterwards. */
function feedIn(lengths: readonly number[], bytes: Uint8Array, tls: TlsMode): Outcome {
  const handshake = fresh(tls);
  const steps: HandshakeStep[] = [];
  let endBytes: number | undefined;
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const end = Math.min(bytes.length, at + (lengths[i % lengths.length] ?? 1));
    const piece = Buffer.from(bytes.subarray(at, end));
    const next = handshake.feed(piece);
    piece.fill(0xee);
    must(handshake.bufferedBytes <= MAX_OPTION_BYTES, "too much is held");
    must(next.length === 0 || !TERMINAL.has(steps.at(-1)?.kind ?? ""), "something was said after the end");
    must(!next.slice(0, -1).some(({ kind }) => TERMINAL.has(kind)), "the end is not the last step");
    const last = next.at(-1);
    if (last?.kind === "transmission") {
      endBytes = end - last.rest.length;
      must(Buffer.from(last.rest).equals(bytes.subarray(endBytes, end)), "the rest is another one");
    }
    steps.push(...next);
    at = end;
  }
  const sent = steps.map((step) => (step.kind === "send" ? Buffer.from(step.bytes).toString("hex") : ""));
  return { lines: transcript(steps), sent: sent.join(""), endBytes };
}

const name = fc.constantFrom("", "second", "narrow", "third", "ünï/磁気🧲", "sec\0ond", LONG_NAME, `${LONG_NAME}n`);
const query = fc.constantFrom("base:", "base:allocation", "qemu:", "qemu:allocation-depth", "x-y:z", "", "a\0:b");
const infoIds = fc.array(fc.nat(4), { maxLength: 4 });
const junk = fc.uint8Array({ maxLength: 40 });

/** Options that do not end the haggling, mostly by the book. */
const harmless: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.constantFrom(LIST, STRUCTURED, EXTENDED, option(OPT.PEEK_EXPORT)),
  fc.tuple(name, infoIds).map(([of, ids]) => info(OPT.INFO, of, ids)),
  fc.tuple(name, fc.array(query, { maxLength: 4 })).map(([of, queries]) => listContexts(of, ...queries)),
  fc.tuple(name, fc.array(query, { maxLength: 4 })).map(([of, queries]) => setContexts(of, ...queries)),
  fc.tuple(fc.nat(14), junk).map(([id, data]) => option(id === OPT.EXPORT_NAME ? OPT.INFO : id, data)),
  fc.constant(option(OPT.INFO, Buffer.alloc(MAX_OPTION_BYTES + 1))),
);

const ending: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.tuple(name, infoIds).map(([of, ids]) => go(of, ...ids)),
  name.map(exportName),
  fc.constantFrom(option(OPT.ABORT), option(OPT.STARTTLS), Buffer.from("GET / HTTP/1.1\r\n\r\n")),
);

const talk: fc.Arbitrary<Buffer> = fc
  .tuple(fc.constantFrom(0, 1, 2, 3, 3, 3, 3, 4), fc.array(harmless, { maxLength: 8 }), ending, junk)
  .map(([flags, options, end, behind]) => Buffer.concat([u32(flags), ...options, end, behind]));

const tlsMode = fc.constantFrom<TlsMode>("off", "off", "allow", "require");
const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5000 })), {
  minLength: 1,
  maxLength: 8,
});

/** A talk in which some bytes were changed, cut out or put in. */
const damaged: fc.Arbitrary<Buffer> = fc
  .tuple(talk, fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.constantFrom(0, 1, 1, 2)), { minLength: 1, maxLength: 4 }))
  .map(([bytes, changes]) => {
    let result = bytes;
    for (const [where, value, length] of changes) {
      const at = where % Math.min(result.length, 200);
      result = Buffer.concat([result.subarray(0, at), Buffer.of(value), result.subarray(at + length)]);
    }
    return result;
  });

const fullTalks: readonly (readonly [string, readonly Uint8Array[]])[] = [
  ["old newstyle", [u32(0), exportName("second")]],
  ["EXPORT_NAME", [HELLO, STRUCTURED, setContexts("", "base:allocation"), exportName("")]],
  ["list and leave", [HELLO, LIST, option(OPT.ABORT, Buffer.from("bye"))]],
  [
    "all that a modern client asks",
    [
      HELLO,
      EXTENDED,
      listContexts("", "base:", "qemu:"),
      setContexts("", "base:allocation"),
      info(OPT.INFO, "", [3]),
      go("", 3),
    ],
  ],
  [
    "refusals",
    [u32(FIXED), option(99, u32(1, 2)), option(OPT.LIST, u32(1)), go("third"), option(OPT.GO), go("second")],
  ],
];

describe("however bytes arrive", () => {
  test.each(fullTalks)("every prefix of a talk (%s) is answered as far as it goes", (_, said) => {
    const whole = Buffer.concat(said);
    const answers = new Client();
    let end = 0;
    const stops = said.map((piece) => {
      end += piece.length;
      return { end, lines: answers.say(piece) };
    });
    expect(answers.steps.length).toBeGreaterThan(1);
    for (let cut = 0; cut <= whole.length; cut++) {
      const expected = stops.filter((stop) => stop.end <= cut).flatMap(({ lines }) => lines);
      expect(new Client().say(whole.subarray(0, cut))).toEqual(expected);
    }
  });

  test("a byte at a time, in any pieces and all at once, the same is said", () => {
    fc.assert(
      fc.property(talk, tlsMode, lengths, (bytes, tls, pieces) => {
        const atOnce = feedIn([bytes.length], bytes, tls);
        expect(feedIn(pieces, bytes, tls)).toEqual(atOnce);
        if (bytes.length < 20_000) expect(feedIn([1], bytes, tls)).toEqual(atOnce);
      }),
      { numRuns: 300 },
    );
  });

  test("an empty piece is nothing", () => {
    const client = new Client();
    expect(
      [client.say(), client.say(HELLO), client.say(), client.say(LIST.subarray(0, 5)), client.say()].flat(),
    ).toEqual([]);
    expect(client.say(LIST.subarray(5)).at(-1)).toBe("3 ACK");
  });
});

describe("whatever bytes arrive", () => {
  test("noise is hung up on, or waited for", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), tlsMode, lengths, (bytes, tls, pieces) => {
        const { lines } = feedIn(pieces, bytes, tls);
        expect(["", "close"]).toContain(lines.join());
      }),
      { numRuns: 300 },
    );
  });

  test("damaged talks never throw, and are the same in any pieces", () => {
    fc.assert(
      fc.property(damaged, tlsMode, lengths, (bytes, tls, pieces) => {
        expect(feedIn(pieces, bytes, tls)).toEqual(feedIn([bytes.length], bytes, tls));
      }),
      { numRuns: 500 },
    );
  });

  test("data of known options may be anything", () => {
    const ids = fc.constantFrom(OPT.INFO, OPT.GO, OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT);
    const lengthy = fc.oneof(fc.nat(40), fc.constantFrom(0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 65_535));
    const data = fc.tuple(lengthy, junk, lengthy, junk).map(([a, b, c, d]) => Buffer.concat([u32(a), b, u32(c), d]));
    fc.assert(
      fc.property(ids, data, (id, bytes) => {
        const said = new Client().say(HELLO, STRUCTURED, option(id, bytes), option(98));
        if (!said.at(-1)?.startsWith("transmission")) expect(said.at(-1)).toBe("98 ERR_UNSUP");
      }),
      { numRuns: 500 },
    );
  });
});

describe("whatever a client wants", () => {
  test("announcing much costs nothing", () => {
    const handshake = fresh();
    handshake.feed(Buffer.concat([HELLO, option(OPT.GO, Buffer.of(0), MAX_OPTION_BYTES)]));
    expect(handshake.bufferedBytes).toBeLessThanOrEqual(64);
    expect(handshake.bufferedBytes).toBeGreaterThan(0);
  });

  test("what it holds is the option that it waits for, and is let go", () => {
    const handshake = fresh();
    const longest = option(OPT.GO, Buffer.concat([text("third"), u16(0), Buffer.alloc(MAX_OPTION_BYTES - 11)]));
    handshake.feed(HELLO);
    for (let at = 0; at < longest.length - 1; at += 1000) {
      handshake.feed(longest.subarray(at, Math.min(at + 1000, longest.length - 1)));
      expect(handshake.bufferedBytes).toBeLessThanOrEqual(MAX_OPTION_BYTES);
    }
    expect(handshake.bufferedBytes).toBe(MAX_OPTION_BYTES);
    expect(transcript(handshake.feed(longest.subarray(-1)))).toEqual(["7 ERR_INVALID"]);
    expect(handshake.bufferedBytes).toBe(0);
  });

  test.each([
    ["an unknown option", "off", 99],
    ["a known option that is too long", "off", OPT.SET_META_CONTEXT],
    ["an option that must not have any", "off", OPT.LIST],
    ["ABORT", "off", OPT.ABORT],
    ["an option that needs TLS", "require", OPT.GO],
  ] as const)("data of %s is passed over without being held", (_, tls, id) => {
    const handshake = fresh(tls);
    const piece = Buffer.alloc(1000);
    handshake.feed(Buffer.concat([HELLO, option(id, Buffer.alloc(0), 100 * piece.length)]));
    for (let i = 0; i < 99; i++) {
      expect(handshake.feed(piece)).toEqual([]);
      expect(handshake.bufferedBytes).toBe(0);
    }
    expect(transcript(handshake.feed(piece)).length).toBeGreaterThan(0);
  });

  test("asking without end is hung up on, whether in one piece or in many", () => {
    const answer = new Client().say(HELLO, LIST).length;
    expect(answer).toBe(EXPORTS.length + 1);
    const question = Buffer.concat(new Array<Buffer>(1000).fill(LIST));
    for (const pieces of [[1_000_000], [16]]) {
      const handshake = fresh();
      handshake.feed(HELLO);
      let sentBytes = 0;
      let largest = 0;
      let isClosed = false;
      for (let round = 0; !isClosed && round < 1000; round++)
        for (let at = 0; at < question.length; at += pieces[0] ?? 1)
          for (const step of handshake.feed(question.subarray(at, at + (pieces[0] ?? 1)))) {
            if (step.kind === "send") {
              sentBytes += step.bytes.length;
              largest = Math.max(largest, step.bytes.length);
            } else isClosed = step.kind === "close";
          }
      expect(isClosed).toBe(true);
      expect(sentBytes).toBeGreaterThan(MAX_ANSWER_BYTES);
      expect(sentBytes).toBeLessThanOrEqual(MAX_ANSWER_BYTES + largest);
    }
  });

  test("a list that is longer than all that is told one after the other is told once", () => {
    const exports = Array.from({ length: 2000 }, (_, i) => ({ ...DEFAULT, name: `${i}-${"e".repeat(4000)}` }));
    const client = new Client("off", exports);
    expect(client.say(HELLO, LIST).length).toBe(2001);
    expect(client.say(LIST)).toEqual(["close"]);
    expect(client.say(LIST)).toEqual([]);
  });

  test("an end sets free what was held", () => {
    const handshake = fresh();
    handshake.feed(HELLO);
    handshake.feed(Buffer.from("GET / HT"));
    expect(handshake.bufferedBytes).toBeGreaterThan(0);
    expect(handshake.feed(Buffer.alloc(5 * KIB))).toEqual([{ kind: "close" }]);
    expect(handshake.bufferedBytes).toBe(0);
  });
});
