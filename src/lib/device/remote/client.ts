/**
 * Owns the client's commands: read, write and the rest, split into requests that the server accepts, on one connection.
 */
import type { Duplex } from "node:stream";
import { CowError } from "../../errors.ts";
import type { StatusExtent } from "../../protocol/client-requests.ts";
import { Command, Context, ExportFlag } from "../../protocol/constants.ts";
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

  has(flag: number): boolean {
    return (this.export.flags & flag) !== 0;
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

  /** @throws CowError `permission`, `no-space`, `io`; ConnectionLost */
  async write(source: Uint8Array, offset: number): Promise<void> {
    const unit = this.export.blockSizes.minimum;
    if (offset % unit === 0 && source.length % unit === 0) return this.#writeAligned(source, offset);
    // A part of a block cannot be written: the rest is read first, and written with it.
    const from = Math.floor(offset / unit) * unit;
    const to = Math.ceil((offset + source.length) / unit) * unit;
    const whole = new Uint8Array(to - from);
    await this.read(whole.subarray(0, unit), from);
    if (to - unit > from) await this.read(whole.subarray(to - unit - from), to - unit);
    whole.set(source, offset - from);
    return this.#writeAligned(whole, from);
  }

  async #writeAligned(source: Uint8Array, offset: number): Promise<void> {
    await pieces(offset, source.length, this.#largestPayload(), (at, length) => {
      const payload = source.subarray(at - offset, at - offset + length);
      return this.#conversation.request({ command: Command.WRITE, verb: "write", offset: at, length, payload });
    });
  }

  /** Everything written before is durable once this resolves. A server without flush is taken to need none. */
  async flush(): Promise<void> {
    if (this.has(ExportFlag.SEND_FLUSH))
      await this.#conversation.request({
        command: Command.FLUSH,
        verb: "make what was written durable",
        offset: 0,
        length: 0,
      });
  }

  /** Makes a range read as zeros. @returns false if the server lacks the command, or the range is not of whole blocks */
  async writeZeroes(offset: number, length: number): Promise<boolean> {
    const unit = this.export.blockSizes.minimum;
    if (!this.has(ExportFlag.SEND_WRITE_ZEROES) || offset % unit !== 0 || length % unit !== 0) return false;
    await pieces(offset, length, LARGEST_EXTENT, (at, size) =>
      this.#conversation.request({ command: Command.WRITE_ZEROES, verb: "write zeros", offset: at, length: size }),
    );
    return true;
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
