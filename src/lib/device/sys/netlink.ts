/**
 * Owns generic netlink: messages and attributes as bytes, and the socket over which the kernel's families are asked and
 * tell of events. Only with native calls; Node has no such sockets.
 *
 * linux/netlink.h, linux/genetlink.h: everything is in the byte order of the machine, padded to 4 bytes.
 */
import * as fs from "node:fs";
import { endianness } from "node:os";
import { promisify } from "node:util";
import { errnoName } from "../../errors.ts";
import { libc } from "./libc.ts";

const LITTLE = endianness() === "LE";
const HEADER_BYTES = 16;
const GENERIC_BYTES = 4;
const ATTRIBUTE_BYTES = 4;

const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL = { FAMILY_ID: 1, FAMILY_NAME: 2, MCAST_GROUPS: 7, GROUP_NAME: 1, GROUP_ID: 2 } as const;

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const NETLINK_GENERIC = 16;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
/** The kernel answers at once; this is for one that does not. */
const ANSWER_SECONDS = 10;
const RECEIVE_BYTES = 32 * 1024;

type Value = number | bigint | string | readonly Attribute[];

/** A number takes 4 bytes, a bigint 8; a string ends with a NUL; a list is nested. */
export type Attribute = readonly [type: number, value: Value];

/** A message of a generic family. */
export interface GenericMessage {
  readonly family: number;
  readonly command: number;
  readonly attributes: ReadonlyMap<number, Uint8Array>;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function valueBytes(value: Value): Uint8Array {
  if (typeof value === "string") return Buffer.from(`${value}\0`);
  if (typeof value === "object") return encodeAttributes(value);
  const bytes = new Uint8Array(typeof value === "bigint" ? 8 : 4);
  if (typeof value === "bigint") viewOf(bytes).setBigUint64(0, value, LITTLE);
  else viewOf(bytes).setUint32(0, value, LITTLE);
  return bytes;
}

/** @internal */
export function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  return Buffer.concat(
    attributes.map(([type, value]) => {
      const bytes = valueBytes(value);
      const padded = new Uint8Array(ATTRIBUTE_BYTES + ((bytes.length + 3) & ~3));
      viewOf(padded).setUint16(0, ATTRIBUTE_BYTES + bytes.length, LITTLE);
      viewOf(padded).setUint16(2, typeof value === "object" ? type | NLA_F_NESTED : type, LITTLE);
      padded.set(bytes, ATTRIBUTE_BYTES);
      return padded;
    }),
  );
}

/** Each attribute by its type; of a list of the same type, the last one. What is cut short is left out. @internal */
export function decodeAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  return new Map(listAttributes(bytes));
}

function* listAttributes(bytes: Uint8Array): Generator<readonly [type: number, value: Uint8Array]> {
  const view = viewOf(bytes);
  for (let at = 0; at + ATTRIBUTE_BYTES <= bytes.length; ) {
    const length = view.getUint16(at, LITTLE);
    if (length < ATTRIBUTE_BYTES || at + length > bytes.length) return;
    yield [view.getUint16(at + 2, LITTLE) & NLA_TYPE_MASK, bytes.subarray(at + ATTRIBUTE_BYTES, at + length)];
    at += (length + 3) & ~3;
  }
}

export function numberIn(value: Uint8Array | undefined): number | undefined {
  if (value?.length === 2) return viewOf(value).getUint16(0, LITTLE);
  return value && value.length >= 4 ? viewOf(value).getUint32(0, LITTLE) : undefined;
}

function textIn(value: Uint8Array | undefined): string {
  return Buffer.from(value ?? [])
    .toString("latin1")
    .replace(/\0.*/s, "");
}

/** @internal */
export function encodeRequest(
  { family, command }: Pick<GenericMessage, "family" | "command">,
  sequence: number,
  attributes: readonly Attribute[],
): Uint8Array {
  const body = encodeAttributes(attributes);
  const bytes = new Uint8Array(HEADER_BYTES + GENERIC_BYTES + body.length);
  const view = viewOf(bytes);
  view.setUint32(0, bytes.length, LITTLE);
  view.setUint16(4, family, LITTLE);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK, LITTLE);
  view.setUint32(8, sequence, LITTLE);
  view.setUint8(HEADER_BYTES, command);
  view.setUint8(HEADER_BYTES + 1, 1);
  bytes.set(body, HEADER_BYTES + GENERIC_BYTES);
  return bytes;
}

/** The messages in what was received: generic ones, and the end of a request with its errno (0: it was done). @internal */
export function* decodeMessages(
  bytes: Uint8Array,
): Generator<GenericMessage | { readonly sequence: number; readonly errno: number }> {
  const view = viewOf(bytes);
  for (let at = 0; at + HEADER_BYTES + GENERIC_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, LITTLE);
    if (length < HEADER_BYTES + GENERIC_BYTES || at + length > bytes.length) return;
    const type = view.getUint16(at + 4, LITTLE);
    const body = at + HEADER_BYTES;
    if (type === NLMSG_ERROR) yield { sequence: view.getUint32(at + 8, LITTLE), errno: -view.getInt32(body, LITTLE) };
    else if (type >= GENL_ID_CTRL) {
      const attributes = decodeAttributes(bytes.subarray(body + GENERIC_BYTES, at + length));
      yield { family: type, command: view.getUint8(body), attributes };
    }
    at += (length + 3) & ~3;
  }
}

/** A family of the kernel: its number, and those of its groups of events. */
export interface Family {
  readonly id: number;
  readonly groups: ReadonlyMap<string, number>;
}

export class NetlinkSocket {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(RECEIVE_BYTES);
  #sequence = 0;
  #isReading = false;
  #isClosed = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** @returns undefined without native calls, or where the system allows none */
  static open(): NetlinkSocket | undefined {
    const fd = libc()?.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC) ?? -1;
    if (fd < 0) return undefined;
    const socket = new NetlinkSocket(fd);
    socket.#waitAtMost(ANSWER_SECONDS);
    return socket;
  }

  #waitAtMost(seconds: number): void {
    const time = new Uint8Array(16);
    viewOf(time).setBigInt64(0, BigInt(Math.floor(seconds)), LITTLE);
    viewOf(time).setBigInt64(8, BigInt(Math.round((seconds % 1) * 1e6)), LITTLE);
    libc()?.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, time);
  }

  /**
   * Asks, and waits for the end of the answer.
   * @returns the errno, 0 if it was done, and the answer
   * @throws a system error
   */
  ask(
    to: Pick<GenericMessage, "family" | "command">,
    attributes: readonly Attribute[],
  ): { readonly errno: number; readonly answer: GenericMessage | undefined } {
    const sequence = ++this.#sequence;
    fs.writeSync(this.#fd, encodeRequest(to, sequence, attributes));
    let answer: GenericMessage | undefined;
    for (;;) {
      const got = fs.readSync(this.#fd, this.#buffer, 0, RECEIVE_BYTES, null);
      for (const message of decodeMessages(Uint8Array.from(this.#buffer.subarray(0, got)))) {
        if ("family" in message) answer = message;
        else if (message.sequence === sequence) return { errno: message.errno, answer };
      }
    }
  }

  /** @returns undefined if the kernel has no such family: its module is not loaded */
  family(name: string): Family | undefined {
    const ctrl = { family: GENL_ID_CTRL, command: CTRL_CMD_GETFAMILY };
    const { errno, answer } = this.ask(ctrl, [[CTRL.FAMILY_NAME, name]]);
    const id = numberIn(answer?.attributes.get(CTRL.FAMILY_ID));
    if (errno !== 0 || id === undefined) return undefined;
    const groups = new Map<string, number>();
    for (const [, item] of listAttributes(answer?.attributes.get(CTRL.MCAST_GROUPS) ?? new Uint8Array())) {
      const group = decodeAttributes(item);
      groups.set(textIn(group.get(CTRL.GROUP_NAME)), numberIn(group.get(CTRL.GROUP_ID)) ?? 0);
    }
    return { id, groups };
  }

  /**
   * Receives the events of a family's group from now on, and serves only next() any more, which waits for so long.
   * @returns false if there is no such group
   */
  join(family: string, group: string, waitSeconds: number): boolean {
    // Asking gives the socket a number: without one, the kernel passes it over when it sends events.
    const id = this.family(family)?.groups.get(group);
    if (id === undefined) return false;
    this.#waitAtMost(waitSeconds);
    return libc()?.setsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, valueBytes(id)) === 0;
  }

  /**
   * Waits for events on a thread of Node's.
   * @returns none after the time that was given; undefined if some were lost
   */
  async next(): Promise<readonly GenericMessage[] | undefined> {
    this.#isReading = true;
    try {
      const { bytesRead } = await promisify(fs.read)(this.#fd, this.#buffer, 0, RECEIVE_BYTES, null);
      const messages = [...decodeMessages(Uint8Array.from(this.#buffer.subarray(0, bytesRead)))];
      return messages.flatMap((message) => ("family" in message ? [message] : []));
    } catch (error) {
      const errno = errnoName(error);
      if (errno === "EAGAIN" || errno === "EINTR") return [];
      if (errno === "ENOBUFS") return undefined;
      throw error;
    } finally {
      this.#isReading = false;
      if (this.#isClosed) fs.closeSync(this.#fd);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // The descriptor's number must not be another file's while a thread waits on it.
    if (!this.#isReading) fs.closeSync(this.#fd);
  }
}
