/**
 * Owns a client of the handshake that says what it likes: options by the book and against it, and what the server's
 * steps mean, as lines of a transcript. Has the protocol's numbers from the book; must not use the library's codec.
 */
import type { ExportFacts } from "../../../src/lib/nbd/handshake/export.ts";
import {
  Handshake,
  type HandshakeHost,
  type HandshakeStep,
  type TlsMode,
} from "../../../src/lib/nbd/handshake/handshake.ts";

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

const ERRORS = [
  "",
  "UNSUP",
  "POLICY",
  "INVALID",
  "PLATFORM",
  "TLS_REQD",
  "UNKNOWN",
  "SHUTDOWN",
  "BLOCK_SIZE_REQD",
  "TOO_BIG",
  "EXT_HEADER_REQD",
];

/** Both flags that a client may set. */
export const FIXED = 1;
export const NO_ZEROES = 2;

const ALL = [
  { name: "base:allocation", kind: "allocation" },
  { name: "qemu:allocation-depth", kind: "depth" },
  { name: "qemu:dirty-bitmap:cowtool", kind: "dirty" },
] as const;
const WIDE = { minimum: 1, preferred: 4096, maximum: 64 * 1024 * 1024 };

/** flags: HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN */
export const DEFAULT: ExportFacts = {
  name: "",
  description: "the first one",
  sizeBytes: 0x0001_2345_6789_ab00,
  flags: 0b1_0110_1101,
  blockSizes: WIDE,
  contexts: ALL,
};
/** Read-only, without a description. */
export const SECOND: ExportFacts = { ...DEFAULT, name: "second", description: "", flags: 3, contexts: ALL.slice(0, 1) };
/** Two names that a careless decoder makes one of, in several lengths of UTF-8. */
export const FOREIGN: ExportFacts = { ...DEFAULT, name: "ünï/磁気🧲", sizeBytes: 512 };
export const MARKED: ExportFacts = { ...SECOND, name: "\ufeffsecond", sizeBytes: 1024 };
/** Cannot take small requests. */
export const NARROW: ExportFacts = {
  ...SECOND,
  name: "narrow",
  blockSizes: { minimum: 4096, preferred: 65536, maximum: 1 << 20 },
};

/** What a careless server passes on as it is: flags that depend on others, and no HAS_FLAGS. */
export const FLAGGED: ExportFacts = { ...DEFAULT, name: "flagged", flags: 0b1_1000_1000_0000, sizeBytes: 4096 };

export function hostWith(tls: TlsMode, exports: readonly ExportFacts[]): HandshakeHost {
  const find = (name: string) => {
    const facts = exports.find((each) => each.name === name);
    return facts && { facts };
  };
  return { tls, offers: { listed: () => exports, find } };
}

export const EXPORTS = [DEFAULT, SECOND, FOREIGN, MARKED, NARROW, FLAGGED];

export function u16(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt16BE(value, 2 * i);
  return bytes;
}

export function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * i);
  return bytes;
}

/** A string behind its length, or behind what is given out as its length. */
export function text(value: string | Uint8Array, length?: number): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u32(length ?? bytes.length), bytes]);
}

export function option(id: number, data: Uint8Array = Buffer.alloc(0), length = data.length): Buffer {
  return Buffer.concat([Buffer.from("IHAVEOPT"), u32(id, length), data]);
}

export function info(id: number, name: string, infos: readonly number[] = []): Buffer {
  return option(id, Buffer.concat([text(name), u16(infos.length), u16(...infos)]));
}

export function go(name: string, ...infos: readonly number[]): Buffer {
  return info(OPT.GO, name, infos);
}

export function contextData(name: string, queries: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat([text(name), u32(queries.length), ...queries.map((query) => text(query))]);
}

export function listContexts(name: string, ...queries: readonly string[]): Buffer {
  return option(OPT.LIST_META_CONTEXT, contextData(name, queries));
}

export function setContexts(name: string, ...queries: readonly string[]): Buffer {
  return option(OPT.SET_META_CONTEXT, contextData(name, queries));
}

export function exportName(name: string | Uint8Array): Buffer {
  return option(OPT.EXPORT_NAME, Buffer.from(name));
}

/** What clients are told of DEFAULT, without and with replies in chunks, and of SECOND. */
export const SIMPLE = `export ${DEFAULT.sizeBytes} flags 101101101`;
export const CHUNKS = `export ${DEFAULT.sizeBytes} flags 111101101`;
export const SECOND_INFO = `export ${SECOND.sizeBytes} flags 11`;

export const LONG_NAME = "n".repeat(4096);
/** What a client says first, today. */
export const HELLO = u32(FIXED | NO_ZEROES);
export const STRUCTURED = option(OPT.STRUCTURED_REPLY);
export const EXTENDED = option(OPT.EXTENDED_HEADERS);

export interface Reply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Takes an answer apart; throws if anything is not as the book says. */
function readReplies(bytes: Uint8Array): Reply[] {
  const answer = Buffer.from(bytes);
  const replies: Reply[] = [];
  for (let at = 0; at < answer.length; ) {
    if (answer.toString("hex", at, at + 8) !== "0003e889045565a9") throw new Error(`no reply at byte ${at}`);
    const end = at + 20 + answer.readUInt32BE(at + 16);
    if (end > answer.length) throw new Error(`the reply at byte ${at} is cut short`);
    const [of, type] = [answer.readUInt32BE(at + 8), answer.readUInt32BE(at + 12)];
    replies.push({ option: of, type, data: answer.subarray(at + 20, end) });
    at = end;
  }
  return replies;
}

/** Fails where a text is no UTF-8. */
export function readText(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}

function infoLine(data: Buffer): string {
  switch (data.readUInt16BE(0)) {
    case 0:
      if (data.length !== 12) throw new Error(`INFO_EXPORT of ${data.length} bytes`);
      return `export ${data.readBigUInt64BE(2)} flags ${data.readUInt16BE(10).toString(2)}`;
    case 1:
      return `name ${readText(data.subarray(2))}`;
    case 2:
      return `description ${readText(data.subarray(2))}`;
    default:
      if (data.length !== 14) throw new Error(`INFO_BLOCK_SIZE of ${data.length} bytes`);
      return `blocks ${[2, 6, 10].map((at) => data.readUInt32BE(at)).join(" ")}`;
  }
}

function replyLine({ option: of, type, data }: Reply): string {
  if (type >= 2 ** 31) return `${of} ERR_${ERRORS[type - 2 ** 31]}`;
  if (type === 1) return data.length === 0 ? `${of} ACK` : `${of} ACK with data`;
  if (type === 2) {
    const nameEnd = 4 + data.readUInt32BE(0);
    return `${of} server ${readText(data.subarray(4, nameEnd))} | ${readText(data.subarray(nameEnd))}`;
  }
  if (type === 3) return `${of} ${infoLine(data)}`;
  return `${of} context ${data.readUInt32BE(0)} ${readText(data.subarray(4))}`;
}

function sendLines(bytes: Uint8Array): string[] {
  const answer = Buffer.from(bytes);
  if (answer.toString("hex", 0, 8) === "0003e889045565a9") return readReplies(answer).map(replyLine);
  const zeroes = answer.subarray(10);
  if (zeroes.some((byte) => byte !== 0)) throw new Error("the padding is not zero");
  return [
    `export ${answer.readBigUInt64BE(0)} flags ${answer.readUInt16BE(8).toString(2)} and ${zeroes.length} zeroes`,
  ];
}

/** What a client saw, a line for each reply and each step. Errors are told without their text. */
export function transcript(steps: readonly HandshakeStep[]): string[] {
  return steps.flatMap((step) => {
    if (step.kind === "send") return sendLines(step.bytes);
    if (step.kind !== "transmission") return [step.kind];
    const { export: facts, structuredReplies, extendedHeaders, contexts } = step.negotiated;
    const style = extendedHeaders ? "extended" : "simple";
    const ids = contexts.map(({ id, name }) => ` ${id}=${name}`).join("");
    return [`transmission ${facts.name} ${structuredReplies && !extendedHeaders ? "structured" : style}${ids}`];
  });
}

/** One conversation; `say` gives what came of it. */
export class Client {
  readonly handshake: Handshake;
  readonly steps: HandshakeStep[] = [];

  constructor(tls: TlsMode = "off", exports: readonly ExportFacts[] = EXPORTS) {
    this.handshake = new Handshake(hostWith(tls, exports));
  }

  say(...pieces: readonly Uint8Array[]): string[] {
    const steps = this.handshake.feed(Buffer.concat(pieces));
    this.steps.push(...steps);
    return transcript(steps);
  }

  /** The replies so far; not for EXPORT_NAME, whose answer is none. */
  replies(): Reply[] {
    const sent = this.steps.flatMap((step) => (step.kind === "send" ? [step.bytes] : []));
    return readReplies(Buffer.concat(sent));
  }

  /** The bytes behind the handshake. */
  get rest(): Buffer {
    const last = this.steps.at(-1);
    if (last?.kind !== "transmission") throw new Error("transmission has not begun");
    return Buffer.from(last.rest);
  }
}

/** What a client says, and what it must see. */
export interface Rule {
  readonly rule: string;
  readonly says: readonly Uint8Array[];
  readonly sees: readonly string[];
  readonly tls?: TlsMode;
}

/** What the client of a rule does see. */
export function heard({ says, tls }: Rule): string[] {
  return new Client(tls).say(...says);
}

/** The texts of all errors that come up in these rules; not for rules with EXPORT_NAME. */
export function errorTexts(rules: readonly Rule[]): string[] {
  return rules.flatMap(({ says, tls }) => {
    const client = new Client(tls);
    client.say(...says);
    const errors = client.replies().filter(({ type }) => type >= 2 ** 31);
    return errors.map(({ data }) => readText(data));
  });
}
