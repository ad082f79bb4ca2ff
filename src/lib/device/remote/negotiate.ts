/**
 * Owns the client's handshake: the order of its questions, and what it does without if a server refuses. Extended
 * headers, else structured replies, else simple ones; GO, else EXPORT_NAME.
 */
import type { Duplex } from "node:stream";
import { CowError, type ErrorCode } from "../../errors.ts";
import {
  type BlockSizes,
  decodeContext,
  decodeGreeting,
  decodeInfo,
  decodeOptionReplyHead,
  decodeSizeAndFlags,
  describeErrorReply,
  EXPORT_NAME_ANSWER_BYTES,
  encodeClientFlags,
  encodeContextRequest,
  encodeInfoRequest,
  encodeOption,
  GREETING_BYTES,
  isErrorReply,
  OPTION_REPLY_BYTES,
} from "../../protocol/client-options.ts";
import { EXPORT_NAME_PADDING_BYTES, Handshake, Info, Option, Reply } from "../../protocol/constants.ts";
import { violated } from "../../protocol/wire-violation.ts";
import { ConnectionLost } from "./failures.ts";
import { Pull } from "./pull.ts";

/** The result of a negotiation. */
export interface RemoteExport {
  readonly sizeBytes: number;
  /** Transmission flags; see ExportFlag. */
  readonly flags: number;
  readonly blockSizes: BlockSizes;
  readonly structured: boolean;
  readonly extended: boolean;
  /** The meta contexts that it reports, by the numbers that it gave them. */
  readonly contexts: ReadonlyMap<number, string>;
  readonly secured: boolean;
}

export interface Wanted {
  /** The URI, for messages. */
  readonly name: string;
  readonly exportName: string;
  readonly contexts: readonly string[];
  /** Only simple replies, as the kernel's client understands them. */
  readonly isSimple?: boolean;
  /** Puts TLS over the connection; undefined if it is not wanted. */
  readonly secure: (() => Promise<Duplex>) | undefined;
}

export interface Agreed {
  /** The socket to continue with: another one after TLS. */
  readonly socket: Duplex;
  readonly agreed: RemoteExport;
}

/** A client's assumptions if a server says nothing; every server accepts 32 MiB. */
const DEFAULT_SIZES: BlockSizes = { minimum: 1, preferred: 4096, maximum: 32 << 20 };
/** Replies to one option: a server must not go on for ever. */
const MOST_REPLIES = 64;

/** The last reply to an option, after any number of others that were handed to `onReply`. */
interface Answer {
  readonly type: number;
  readonly data: Buffer;
}

class Haggling {
  pull: Pull;

  constructor(socket: Duplex) {
    this.pull = new Pull(socket);
  }

  send(bytes: Uint8Array): void {
    this.pull.socket.write(bytes);
  }

  /** Sends an option. @returns its ACK or error @throws WireViolation, ConnectionLost */
  async ask(
    option: number,
    data?: Uint8Array,
    onReply: (type: number, data: Buffer) => void = () => undefined,
  ): Promise<Answer> {
    this.send(encodeOption(option, data));
    for (let i = 0; i < MOST_REPLIES; i++) {
      const head = decodeOptionReplyHead(await this.pull.read(OPTION_REPLY_BYTES), option);
      const answer = { type: head.type, data: await this.pull.read(head.length) };
      if (head.type === Reply.ACK || isErrorReply(head.type)) return answer;
      onReply(answer.type, answer.data);
    }
    return violated(`option ${option} has more than ${MOST_REPLIES} replies`);
  }

  async accepts(option: number): Promise<boolean> {
    return (await this.ask(option)).type === Reply.ACK;
  }
}

const CODE_OF_REFUSAL: Readonly<Record<number, ErrorCode>> = {
  [Reply.ERR_UNKNOWN]: "not-found",
  [Reply.ERR_POLICY]: "permission",
  [Reply.ERR_TLS_REQD]: "permission",
};

function refusal({ name, exportName }: Wanted, doing: string, { type, data }: Answer): Error {
  const words = `${doing}: ${describeErrorReply(type, data)}`;
  if (type === Reply.ERR_SHUTDOWN) return new ConnectionLost(words);
  const hints: Readonly<Record<number, string[]>> = {
    [Reply.ERR_TLS_REQD]: ["nbds:// and nbds+unix:// do TLS"],
    [Reply.ERR_UNKNOWN]:
      exportName === "" ? ["the name of the export is what follows the host: nbd://HOST/EXPORT"] : [],
  };
  return new CowError(CODE_OF_REFUSAL[type] ?? "io", words, { file: name, hints: hints[type] ?? [] });
}

/**
 * Shakes hands on a fresh connection.
 *
 * @throws CowError `not-found`, `permission`, `unsuitable`, `io`; ConnectionLost, WireViolation
 */
export async function negotiate(fresh: Duplex, wanted: Wanted): Promise<Agreed> {
  const haggling = new Haggling(fresh);
  const greeting = decodeGreeting(await haggling.pull.read(GREETING_BYTES));
  haggling.send(encodeClientFlags(greeting));
  if ((greeting & Handshake.FIXED_NEWSTYLE) === 0) {
    if (wanted.secure) throw new CowError("unsuitable", "the server is too old for TLS", { file: wanted.name });
    return byName(haggling, wanted, greeting, { structured: false, secured: false });
  }
  const secured = wanted.secure !== undefined;
  if (wanted.secure) await startTls(haggling, wanted, wanted.secure);
  const extended = !wanted.isSimple && (await haggling.accepts(Option.EXTENDED_HEADERS));
  const structured = extended || (!wanted.isSimple && (await haggling.accepts(Option.STRUCTURED_REPLY)));
  const contexts = structured ? await selectContexts(haggling, wanted) : new Map<number, string>();
  const facts = await go(haggling, wanted);
  if (facts === undefined) {
    // A client that negotiated extended headers may not ask in this way; no server is known that has one without the other.
    if (extended) violated("it has extended headers, but not GO");
    return byName(haggling, wanted, greeting, { structured, secured });
  }
  return { socket: haggling.pull.release(), agreed: { ...facts, structured, extended, contexts, secured } };
}

async function startTls(haggling: Haggling, wanted: Wanted, secure: () => Promise<Duplex>): Promise<void> {
  const answer = await haggling.ask(Option.STARTTLS);
  if (answer.type !== Reply.ACK) throw refusal(wanted, "the server does no TLS", answer);
  // Unencrypted bytes must not be taken for bytes under TLS (CVE-2021-3716).
  const { readableLength } = haggling.pull.release();
  if (readableLength > 0) violated("it sent bytes between its consent to TLS and TLS itself");
  haggling.pull = new Pull(await secure());
}

/** The wanted contexts that the server knows; none if it refuses. */
async function selectContexts(haggling: Haggling, { exportName, contexts }: Wanted): Promise<Map<number, string>> {
  const selected = new Map<number, string>();
  if (contexts.length === 0) return selected;
  const { type } = await haggling.ask(
    Option.SET_META_CONTEXT,
    encodeContextRequest(exportName, contexts),
    (kind, data) => {
      if (kind !== Reply.META_CONTEXT) return;
      const { id, name } = decodeContext(data);
      if (!contexts.includes(name)) violated("it selected a meta context that was not asked for");
      if (selected.has(id)) violated("two meta contexts have one number");
      selected.set(id, name);
    },
  );
  return type === Reply.ACK ? selected : new Map<number, string>();
}

type Facts = Pick<RemoteExport, "sizeBytes" | "flags" | "blockSizes">;

/** Asks for the export; undefined if the server does not know GO. */
async function go(haggling: Haggling, wanted: Wanted): Promise<Facts | undefined> {
  let told: Pick<Facts, "sizeBytes" | "flags"> | undefined;
  let blockSizes = DEFAULT_SIZES;
  const request = encodeInfoRequest(wanted.exportName, [Info.BLOCK_SIZE]);
  const answer = await haggling.ask(Option.GO, request, (type, data) => {
    const info = type === Reply.INFO ? decodeInfo(data) : undefined;
    if (info?.kind === "export") told = info;
    if (info?.kind === "block-size") ({ blockSizes } = info);
  });
  if (answer.type === Reply.ERR_UNSUP) return undefined;
  if (answer.type !== Reply.ACK) {
    const what = wanted.exportName === "" ? "the default export" : `the export "${wanted.exportName}"`;
    throw refusal(wanted, `the server does not give out ${what}`, answer);
  }
  return told ? { ...told, blockSizes } : violated("it accepted the export without saying how large it is");
}

/** The old way, which a server can only refuse by ending the connection. */
async function byName(
  haggling: Haggling,
  { name, exportName }: Wanted,
  greeting: number,
  agreed: { readonly structured: boolean; readonly secured: boolean },
): Promise<Agreed> {
  haggling.send(encodeOption(Option.EXPORT_NAME, Buffer.from(exportName)));
  const padding = (greeting & Handshake.NO_ZEROES) === 0 ? EXPORT_NAME_PADDING_BYTES : 0;
  let answer: Buffer;
  try {
    answer = await haggling.pull.read(EXPORT_NAME_ANSWER_BYTES + padding);
  } catch (error) {
    throw new CowError("not-found", `the server does not have the export "${exportName}"`, {
      file: name,
      cause: error,
    });
  }
  const facts = { ...decodeSizeAndFlags(answer), blockSizes: DEFAULT_SIZES, contexts: new Map<number, string>() };
  return { socket: haggling.pull.release(), agreed: { ...facts, ...agreed, extended: false } };
}
