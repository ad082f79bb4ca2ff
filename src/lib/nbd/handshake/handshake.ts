/**
 * Owns the server's side of the handshake, as a machine that is fed bytes and says what to do: fixed newstyle, as
 * doc/proto.md of the NetworkBlockDevice project has it, with extended headers from its branch extension-ext-header.
 * Must not know sockets, TLS or time: who feeds it gives up on a client that takes too long, and stops feeding while the
 * client does not read its answers.
 *
 * What a client can make it use: an option's data is held up to MAX_OPTION_BYTES, longer or useless data is passed over
 * without being held, up to MAX_SKIPPED_BYTES; answers add up to MAX_ANSWER_BYTES and one more.
 */
import { assert } from "../../errors.ts";
import { ClientFlag, MAX_STRING_BYTES, Option, Reply } from "../../protocol/constants.ts";
import {
  CLIENT_FLAGS_BYTES,
  decodeClientFlags,
  decodeInfoRequest,
  decodeOptionHeader,
  encodeGreeting,
  encodeRefusal,
  encodeReply,
  OPTION_HEADER_BYTES,
  type OptionHeader,
  OptionRefusal,
} from "../../protocol/option-codec.ts";
import { OptionInput } from "../../protocol/option-input.ts";
import { type Agreement, negotiated, nothingAgreed } from "./agreement.ts";
import { answerListContexts, answerSetContexts, forgetContexts } from "./context-options.ts";
import type { ExportFacts, Negotiated, OfferedExports } from "./export.ts";
import { answerExportName, answerInfo, answerList, findExport } from "./export-options.ts";

/** `require`: only STARTTLS and ABORT are answered before TLS. */
export type TlsMode = "off" | "allow" | "require";

export interface HandshakeHost {
  readonly offers: OfferedExports;
  readonly tls: TlsMode;
}

/** What the connection must do next, in this order. */
export type HandshakeStep =
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  /** Encrypt the stream, call `tlsStarted`, and go on feeding what was decrypted. The client has been told already. */
  | { readonly kind: "start-tls" }
  /** Close, after everything was sent. */
  | { readonly kind: "close" }
  /** The handshake is over; `rest` is what the client sent after it. */
  | { readonly kind: "transmission"; readonly negotiated: Negotiated; readonly rest: Uint8Array };

/** The longest data of an option: 15 names of the greatest length. Longer data is ERR_TOO_BIG. @internal */
export const MAX_OPTION_BYTES = 64 * 1024;
/** The longest data that is skipped; no client needs to send more, and is hung up on. */
const MAX_SKIPPED_BYTES = 32 * 1024 * 1024;
/** A client that got this many bytes of answers and asks again is hung up on: it pipelines or loops. @internal */
export const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** The options that have data. Data of others is never kept. */
const LOOKED_AT_BYTES: ReadonlyMap<number, number> = new Map([
  [Option.EXPORT_NAME, MAX_STRING_BYTES],
  [Option.INFO, MAX_OPTION_BYTES],
  [Option.GO, MAX_OPTION_BYTES],
  [Option.LIST_META_CONTEXT, MAX_OPTION_BYTES],
  [Option.SET_META_CONTEXT, MAX_OPTION_BYTES],
]);

/** The options that must not have data. ABORT must not either, but is accepted anyway. */
const WITHOUT_DATA: ReadonlySet<number> = new Set([
  Option.LIST,
  Option.STARTTLS,
  Option.STRUCTURED_REPLY,
  Option.EXTENDED_HEADERS,
]);

const KNOWN_CLIENT_FLAGS = ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES;
const NO_DATA = new Uint8Array(0);

/** `option`: awaits its data, which is skipped if the option was refused. `tls`: waits for `tlsStarted`. */
type Phase =
  | { readonly kind: "flags" | "header" | "tls" | "over" }
  | { readonly kind: "option"; readonly option: number; readonly takenBytes: number; readonly refusal?: OptionRefusal };

/** One client's handshake. */
export class Handshake {
  readonly #host: HandshakeHost;
  readonly #input = new OptionInput();
  #phase: Phase = { kind: "flags" };
  #agreement: Agreement = nothingAgreed();
  #isEncrypted: boolean;
  #clientFlags = 0;
  #skipBytes = 0;
  #answeredBytes = 0;

  /** @param options `tlsStarted`: the stream is encrypted from its first byte */
  constructor(host: HandshakeHost, options: { readonly tlsStarted?: boolean } = {}) {
    this.#host = host;
    this.#isEncrypted = options.tlsStarted ?? false;
  }

  /** Memory held for input until more arrives, in bytes; at most MAX_OPTION_BYTES. */
  get bufferedBytes(): number {
    return this.#input.bufferedBytes;
  }

  /** What the server sends before anything else. */
  greeting(): Uint8Array {
    return encodeGreeting();
  }

  /**
   * Takes what the client sent, in pieces of any size, and keeps no reference to it.
   * @returns what to do about it; empty while more is needed, and always after `close`, `start-tls` and `transmission`
   */
  feed(bytes: Uint8Array): HandshakeStep[] {
    if (this.#isDeaf()) return [];
    this.#input.offer(bytes);
    const steps: HandshakeStep[] = [];
    while (!this.#isDeaf()) {
      const next = this.#advance();
      if (!next) break;
      steps.push(...next);
    }
    this.#input.release();
    return steps;
  }

  /** Everything that was agreed on or arrived before encryption is forgotten: it may come from an attacker. */
  tlsStarted(): void {
    assert(this.#phase.kind === "tls", "TLS was not asked for");
    this.#input.clear();
    this.#agreement = nothingAgreed();
    this.#isEncrypted = true;
    this.#phase = { kind: "header" };
  }

  #isDeaf(): boolean {
    return this.#phase.kind === "over" || this.#phase.kind === "tls";
  }

  /** Advances by one field; undefined if it has not arrived in full. */
  #advance(): readonly HandshakeStep[] | undefined {
    const phase = this.#phase;
    if (phase.kind === "option") return this.#takeOption(phase);
    const field = this.#input.take(phase.kind === "flags" ? CLIENT_FLAGS_BYTES : OPTION_HEADER_BYTES);
    if (!field) return undefined;
    return phase.kind === "flags" ? this.#takeFlags(decodeClientFlags(field)) : this.#takeHeader(field);
  }

  #takeFlags(flags: number): readonly HandshakeStep[] {
    if (flags > KNOWN_CLIENT_FLAGS) return this.#close();
    this.#clientFlags = flags;
    this.#phase = { kind: "header" };
    return [];
  }

  #takeHeader(field: Uint8Array): readonly HandshakeStep[] {
    const header = decodeOptionHeader(field);
    if (!header || this.#endsConnection(header)) return this.#close();
    const refusal = this.#refusalOf(header);
    const isLookedAt = !refusal && LOOKED_AT_BYTES.has(header.option);
    this.#skipBytes = isLookedAt ? 0 : header.dataBytes;
    const takenBytes = isLookedAt ? header.dataBytes : 0;
    this.#phase = { kind: "option", option: header.option, takenBytes, ...(refusal && { refusal }) };
    return [];
  }

  /** Must the connection end, because it cannot continue or has no way to report the error? */
  #endsConnection(header: OptionHeader): boolean {
    const { option, dataBytes } = header;
    if (dataBytes > MAX_SKIPPED_BYTES || this.#answeredBytes > MAX_ANSWER_BYTES) return true;
    if (option !== Option.EXPORT_NAME) return !(this.#clientFlags & ClientFlag.FIXED_NEWSTYLE);
    // EXPORT_NAME has no error replies, and must not be used after extended headers.
    return this.#agreement.extendedHeaders || this.#refusalOf(header) !== undefined;
  }

  /** What is wrong with an option, whatever its data. */
  #refusalOf({ option, dataBytes }: OptionHeader): OptionRefusal | undefined {
    if (option === Option.ABORT) return undefined;
    if (option !== Option.STARTTLS && this.#lacksTls())
      return new OptionRefusal(Reply.ERR_TLS_REQD, "this server talks over TLS only; begin with NBD_OPT_STARTTLS");
    if (option === Option.STARTTLS && this.#host.tls === "off" && !this.#isEncrypted)
      return new OptionRefusal(Reply.ERR_UNSUP, "this server was started without TLS");
    if (WITHOUT_DATA.has(option))
      return dataBytes === 0
        ? undefined
        : new OptionRefusal(Reply.ERR_INVALID, `this option takes no data, but ${dataBytes} bytes came`);
    const limit = LOOKED_AT_BYTES.get(option);
    if (limit === undefined) return new OptionRefusal(Reply.ERR_UNSUP, `this server does not know option ${option}`);
    if (dataBytes <= limit) return undefined;
    return new OptionRefusal(Reply.ERR_TOO_BIG, `the option has ${dataBytes} bytes, ${limit} are taken at most`);
  }

  #lacksTls(): boolean {
    return this.#host.tls === "require" && !this.#isEncrypted;
  }

  #takeOption(phase: Extract<Phase, { kind: "option" }>): readonly HandshakeStep[] | undefined {
    this.#skipBytes -= this.#input.skip(this.#skipBytes);
    if (this.#skipBytes > 0) return undefined;
    const data = phase.takenBytes === 0 ? NO_DATA : this.#input.take(phase.takenBytes);
    if (!data) return undefined;
    this.#phase = { kind: "header" };
    try {
      if (phase.option === Option.SET_META_CONTEXT) forgetContexts(this.#agreement);
      if (phase.refusal) throw phase.refusal;
      return this.#answer(phase.option, data);
    } catch (error) {
      if (!(error instanceof OptionRefusal)) throw error;
      if (phase.option === Option.EXPORT_NAME) return this.#close();
      return [this.#send(encodeRefusal(phase.option, error))];
    }
  }

  /** @throws {OptionRefusal} */
  #answer(option: number, data: Uint8Array): readonly HandshakeStep[] {
    switch (option) {
      case Option.EXPORT_NAME:
        return this.#exportName(data);
      case Option.ABORT:
        return [this.#send(encodeReply(option, Reply.ACK)), ...this.#close()];
      case Option.LIST:
        return [this.#send(answerList(this.#host.offers.listed()))];
      case Option.STARTTLS:
        return this.#startTls();
      case Option.INFO:
      case Option.GO:
        return this.#infoOrGo(option, data);
      case Option.LIST_META_CONTEXT:
        return [this.#send(answerListContexts(data, this.#host.offers))];
      case Option.SET_META_CONTEXT:
        return [this.#send(answerSetContexts(data, this.#host.offers, this.#agreement))];
      case Option.STRUCTURED_REPLY:
        return this.#structuredReply();
      default:
        assert(option === Option.EXTENDED_HEADERS, `option ${option} was neither refused nor answered`);
        this.#agreement.extendedHeaders = true;
        return [this.#send(encodeReply(option, Reply.ACK))];
    }
  }

  /** May be asked again, without effect; but extended headers cannot be undone. */
  #structuredReply(): readonly HandshakeStep[] {
    if (this.#agreement.extendedHeaders)
      throw new OptionRefusal(
        Reply.ERR_EXT_HEADER_REQD,
        "extended headers were negotiated, they replace structured replies",
      );
    this.#agreement.structuredReplies = true;
    return [this.#send(encodeReply(Option.STRUCTURED_REPLY, Reply.ACK))];
  }

  #startTls(): readonly HandshakeStep[] {
    if (this.#isEncrypted) throw new OptionRefusal(Reply.ERR_INVALID, "this connection is encrypted already");
    // An attacker may have injected the plain text that follows (CVE-2021-3716).
    this.#input.clear();
    this.#phase = { kind: "tls" };
    return [this.#send(encodeReply(Option.STARTTLS, Reply.ACK)), { kind: "start-tls" }];
  }

  #infoOrGo(option: number, data: Uint8Array): readonly HandshakeStep[] {
    const { exportName, infos } = decodeInfoRequest(data);
    const facts = findExport(this.#host.offers, exportName);
    const answer = this.#send(answerInfo(option, infos, facts, this.#agreement));
    return option === Option.GO ? [answer, this.#transmit(facts)] : [answer];
  }

  #exportName(data: Uint8Array): readonly HandshakeStep[] {
    const withZeroes = !(this.#clientFlags & ClientFlag.NO_ZEROES);
    const { facts, bytes } = answerExportName(data, this.#host.offers, this.#agreement, withZeroes);
    return [this.#send(bytes), this.#transmit(facts)];
  }

  #send(bytes: Uint8Array): HandshakeStep {
    this.#answeredBytes += bytes.length;
    return { kind: "send", bytes };
  }

  #transmit(facts: ExportFacts): HandshakeStep {
    this.#phase = { kind: "over" };
    return { kind: "transmission", negotiated: negotiated(this.#agreement, facts), rest: this.#input.drain() };
  }

  #close(): readonly HandshakeStep[] {
    this.#phase = { kind: "over" };
    this.#input.clear();
    return [{ kind: "close" }];
  }
}
