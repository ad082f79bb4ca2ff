/**
 * Owns the client's commands, read and block status, split into requests that the server accepts, on one connection.
 */
import type { Duplex } from "node:stream";
import { CowError } from "../../errors.ts";
import type { StatusExtent } from "../../protocol/client-requests.ts";
import { Command, Context } from "../../protocol/constants.ts";
import type { NbdUri } from "../../protocol/uri.ts";
import { WireViolation } from "../../protocol/wire-violation.ts";
import { connectTo, secure, tlsOptions } from "./connect.ts";
import { Conversation } from "./conversation.ts";
import { ConnectionLost } from "./failures.ts";
import { negotiate, type RemoteExport } from "./negotiate.ts";
import { flatSink, pieces, withUnitsAround } from "./pieces.ts";
import type { ReadSink } from "./receiver.ts";

export interface ClientOptions {
  /** The URI as the user wrote it, for messages. */
  readonly name: string;
  /** Meta contexts to ask for besides base:allocation. */
  readonly contexts?: readonly string[];
  /** Limit for connecting and the handshake. */
  readonly handshakeMs?: number;
  /** If a request is under way and no reply completes for this long, the server is gone. */
  readonly silenceMs?: number;
}

const HANDSHAKE_MS = 20_000;
const SILENCE_MS = 30_000;
/** Payloads are requested in pieces of at most this, so that each reply is a sign of life. */
const LARGEST_PAYLOAD = 32 << 20;
/** Commands without a payload, with 32-bit lengths. */
const LARGEST_EXTENT = 1 << 30;

export class NbdClient {
  readonly name: string;
  readonly export: RemoteExport;
  readonly #conversation: Conversation;

  private constructor(name: string, agreed: RemoteExport, conversation: Conversation) {
    this.name = name;
    this.export = agreed;
    this.#conversation = conversation;
  }

  /**
   * Connects and negotiates.
   *
   * @throws CowError `not-found` (no such export, no such file for TLS), `permission`, `unsuitable`, `io`;
   * ConnectionLost where trying again may help
   */
  static async connect(uri: NbdUri, options: ClientOptions): Promise<NbdClient> {
    const { name } = options;
    const host = uri.address.kind === "tcp" ? uri.address.host : undefined;
    const tls = uri.tls && tlsOptions(uri.tls, host);
    const limitMs = options.handshakeMs ?? HANDSHAKE_MS;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), limitMs);
    let socket: Duplex | undefined;
    try {
      const plain = await connectTo(uri.address, limit.signal);
      socket = plain;
      const { socket: final, agreed } = await negotiate(plain, {
        name,
        exportName: uri.exportName,
        contexts: [...new Set([Context.ALLOCATION, ...(options.contexts ?? [])])],
        secure: tls && (async () => (socket = await secure(plain, tls, limit.signal))),
      });
      return new NbdClient(name, agreed, new Conversation(name, final, agreed, options.silenceMs ?? SILENCE_MS));
    } catch (error) {
      socket?.destroy();
      if (limit.signal.aborted) throw new ConnectionLost(`the server did not answer within ${limitMs / 1000} s`);
      if (error instanceof WireViolation) {
        throw new CowError("io", `the server breaks the protocol: ${error.message}`, { file: name, cause: error });
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Why the connection was lost, or undefined. */
  get lost(): Error | undefined {
    return this.#conversation.lost;
  }

  /**
   * Fills `target` from `offset`; the range must be within the export.
   * @throws CowError, naming the export and the offset; ConnectionLost
   */
  async read(target: Uint8Array, offset: number): Promise<void> {
    await this.readInto(flatSink(target), offset, target.length);
  }

  /** As read(), to the sink's places. Bytes outside of `[offset, offset + length)` are not given to it. */
  async readInto(sink: ReadSink, offset: number, length: number): Promise<void> {
    const around = withUnitsAround(sink, offset, length, this.export.blockSizes.minimum, this.export.sizeBytes);
    await pieces(around.offset, around.length, this.#largestPayload(), (at, size) =>
      this.#conversation.request({
        command: Command.READ,
        verb: "read",
        offset: at,
        length: size,
        sink: around.sinkAt(at),
      }),
    );
  }

  /**
   * The server's status for each context from `offset` on: at least one extent each, which may end before `offset +
   * length` or go beyond it. Empty if no context was negotiated.
   */
  async blockStatus(offset: number, length: number): Promise<ReadonlyMap<string, readonly StatusExtent[]>> {
    const { contexts, blockSizes } = this.export;
    if (contexts.size === 0) return new Map();
    const from = Math.floor(offset / blockSizes.minimum) * blockSizes.minimum;
    const to = Math.min(Math.ceil((offset + length) / blockSizes.minimum) * blockSizes.minimum, from + LARGEST_EXTENT);
    const { status } = await this.#conversation.request({
      command: Command.BLOCK_STATUS,
      verb: "learn what is data",
      offset: from,
      length: to - from,
    });
    const before = offset - from;
    return new Map(
      [...status].map(([id, extents]) => [contexts.get(id) ?? "", before === 0 ? extents : without(extents, before)]),
    );
  }

  /** Disconnects, after pending requests. Resolves once the server has been told, or is gone. */
  disconnect(): Promise<void> {
    return this.#conversation.close();
  }

  #largestPayload(): number {
    const { minimum, maximum } = this.export.blockSizes;
    return Math.max(minimum, Math.floor(Math.min(maximum, LARGEST_PAYLOAD) / minimum) * minimum);
  }
}

/** Extents less their first `bytes`. */
function without(extents: readonly StatusExtent[], bytes: number): StatusExtent[] {
  let skip = bytes;
  return extents.flatMap(({ length, flags }) => {
    const rest = length - skip;
    skip = Math.max(0, -rest);
    return rest > 0 ? [{ length: rest, flags }] : [];
  });
}
