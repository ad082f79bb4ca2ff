/**
 * Owns a client's end of a connection to an NBD server that can send anything: raw bytes, exact reads, the handshake in
 * the three styles of replies, rude ends. What requests and replies look like is nbd-raw-session.ts' business.
 */
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { EXTENDED, go, HELLO, STRUCTURED, setContexts } from "./handshake-client.ts";

/** No read waits longer: a hang is a failure, and says where. */
const PATIENCE_MS = 20_000;
const GREETING_BYTES = 18;
const REPLY_HEADER_BYTES = 20;

export type Style = "simple" | "structured" | "extended";
export const STYLES: readonly Style[] = ["simple", "structured", "extended"];

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

export interface Terms {
  readonly style: Style;
  readonly sizeBytes: bigint;
  readonly flags: number;
  /** Contexts by the ids that the server gave them. */
  readonly contexts: ReadonlyMap<number, string>;
}

export class RawClient {
  readonly socket: Socket;
  #chunks: Buffer[] = [];
  #buffered = 0;
  #hasEnded = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    const end = (): void => {
      this.#hasEnded = true;
      this.#wake();
    };
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      this.#wake();
    });
    socket.on("end", end).on("close", end).on("error", end);
  }

  /** @param where a unix socket's path, or a TCP port of this machine */
  static async connect(where: string | number): Promise<RawClient> {
    const options: NetConnectOpts = typeof where === "string" ? { path: where } : { host: "127.0.0.1", port: where };
    const once = (): Promise<RawClient> =>
      new Promise((resolve, reject) => {
        const socket = connect({ ...options, allowHalfOpen: true });
        socket.once("error", reject).once("connect", () => {
          socket.off("error", reject);
          resolve(new RawClient(socket));
        });
      });
    for (let tries = 0; ; tries++) {
      try {
        return await once();
      } catch (error) {
        // Thousands came before and are not yet let in: the kernel's way of saying "later".
        if (tries === 200 || !(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    }
  }

  /** Connects and goes through the handshake by the book. */
  static async enter(where: string | number, style: Style, entry: Entry = {}): Promise<[RawClient, Terms]> {
    const client = await RawClient.connect(where);
    return [client, await client.shakeHands(style, entry)];
  }

  /** Resolves when the bytes have left this process, or the connection is gone. */
  send(...pieces: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed) resolve();
      else this.socket.write(pieces.length === 1 ? (pieces[0] ?? "") : Buffer.concat(pieces), () => resolve());
    });
  }

  /** One byte at a time: each is a packet of its own, as far as that can be had. */
  async dribble(bytes: Uint8Array): Promise<void> {
    for (let i = 0; i < bytes.length; i++) await this.send(bytes.subarray(i, i + 1));
  }

  /** Exactly that many bytes. Throws if the connection ends before. */
  async read(length: number): Promise<Buffer> {
    const bytes = await this.tryRead(length);
    if (!bytes) throw new Error(`the server hung up, ${length} bytes were expected`);
    return bytes;
  }

  /** Exactly that many bytes, or undefined if the connection ended before any came. */
  async tryRead(length: number): Promise<Buffer | undefined> {
    await this.#until(() => this.#buffered >= length || this.#hasEnded, `${length} bytes`);
    if (this.#buffered >= length) return this.#take(length);
    if (this.#buffered > 0) throw new Error(`the server hung up after ${this.#buffered} of ${length} bytes`);
    return undefined;
  }

  /** Waits for the server to hang up; what came before it is returned. */
  async end(): Promise<Buffer> {
    await this.#until(() => this.#hasEnded, "the end");
    return this.#take(this.#buffered);
  }

  /** Bytes that have come and were not read. */
  get unread(): number {
    return this.#buffered;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Closes our side; the server may still talk. */
  finish(): void {
    this.socket.end();
  }

  leave(): void {
    this.socket.destroy();
  }

  /** TCP only: the connection ends with RST. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  async greeting(): Promise<void> {
    const bytes = await this.read(GREETING_BYTES);
    if (bytes.toString("latin1", 0, 16) !== "NBDMAGICIHAVEOPT") throw new Error("this is no NBD server");
  }

  async optionReply(): Promise<OptionReply> {
    const header = await this.read(REPLY_HEADER_BYTES);
    if (header.toString("hex", 0, 8) !== "0003e889045565a9") throw new Error("not the reply to an option");
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  async shakeHands(style: Style, { name = "", contexts = [] }: Entry = {}): Promise<Terms> {
    await this.greeting();
    await this.send(...handshakeOf(style, { name, contexts }));
    const selected = new Map<number, string>();
    let facts: { readonly sizeBytes: bigint; readonly flags: number } | undefined;
    for (;;) {
      const { option, type, data } = await this.optionReply();
      if (type >= 2 ** 31) throw new Error(`option ${option}: ${data.toString()}`);
      if (type === 4) selected.set(data.readUInt32BE(0), data.toString("utf8", 4));
      if (type === 3 && data.readUInt16BE(0) === 0)
        facts = { sizeBytes: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) };
      if (option === 7 && type === 1) break;
    }
    if (!facts) throw new Error("the server did not say what it exports");
    return { style, contexts: selected, ...facts };
  }

  #take(length: number): Buffer {
    const taken: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      const [first] = this.#chunks;
      if (!first) break;
      if (first.length <= missing) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(missing);
      taken.push(first.subarray(0, missing));
      missing -= Math.min(missing, first.length);
    }
    this.#buffered -= length;
    return taken.length === 1 ? (taken[0] ?? Buffer.alloc(0)) : Buffer.concat(taken);
  }

  #until(holds: () => boolean, what: string): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited for ${what} in vain`)), PATIENCE_MS);
      this.#wake = () => {
        if (!holds()) return;
        clearTimeout(timer);
        this.#wake = () => undefined;
        resolve();
      };
    });
  }
}

export interface Entry {
  readonly name?: string;
  readonly contexts?: readonly string[];
}

/** All that a client by the book says before transmission. */
export function handshakeOf(style: Style, { name = "", contexts = [] }: Entry = {}): readonly Uint8Array[] {
  const styleOption = style === "structured" ? [STRUCTURED] : [EXTENDED];
  return [
    HELLO,
    ...(style === "simple" ? [] : styleOption),
    ...(contexts.length > 0 ? [setContexts(name, ...contexts)] : []),
    go(name),
  ];
}
