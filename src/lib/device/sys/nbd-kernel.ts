/**
 * Owns the kernel's NBD client as its netlink family `nbd` has it: a device gets a connected socket, another one when that
 * died, and is taken apart. What the devices are is in sysfs: operations/attach/kernel-devices.ts.
 *
 * linux/nbd-netlink.h
 */
import { getSystemErrorName } from "node:util";
import { CowError } from "../../errors.ts";
import { type Attribute, type Family, NetlinkSocket, numberIn } from "./netlink.ts";

const FAMILY = "nbd";
const EVENTS = "nbd_mc_group";
const COMMAND = { CONNECT: 1, DISCONNECT: 2, RECONFIGURE: 3, LINK_DEAD: 4 } as const;
const ATTRIBUTE = {
  INDEX: 1,
  SIZE_BYTES: 2,
  BLOCK_SIZE_BYTES: 3,
  SERVER_FLAGS: 5,
  SOCKETS: 7,
  DEAD_CONN_TIMEOUT: 8,
  BACKEND_IDENTIFIER: 10,
} as const;
const SOCKET_ITEM = 1;
const SOCKET_FD = 1;
/** How often a caller of nextDead() gets a word in. */
const EVENT_SECONDS = 0.25;
const EBUSY = 16;
const ENODEV = 19;
const ENOSPC = 28;

/** A connection after its handshake, with simple replies, for the kernel. */
export interface KernelConnection {
  /** It may be closed as soon as the kernel has it. */
  readonly socket: number;
  /** Noted by the kernel, and the same whenever a socket is exchanged. */
  readonly backend: string;
  /** How long requests wait for a new socket before they fail. */
  readonly waitSeconds: number;
}

export interface NewDevice extends KernelConnection {
  /** Of `/dev/nbdN`; undefined lets the kernel choose. */
  readonly index: number | undefined;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** The transmission flags of the server. */
  readonly flags: number;
}

export interface NbdKernel {
  /** @returns the index @throws CowError `locked` if the device is in use; `permission`, `io` */
  connect(device: NewDevice): number;
  /** Replaces a dead socket. @returns false if none is dead, or the device has none any more @throws CowError `permission`, `io` */
  reconnect(index: number, connection: KernelConnection): boolean;
  /** @throws CowError `permission`, `io` */
  disconnect(index: number): void;
  /** The devices of which a connection died, after a quarter of a second at most; undefined if events were lost. */
  nextDead(): Promise<readonly number[] | undefined>;
  close(): void;
}

/** @returns undefined without the kernel's module, or without native calls */
export function openNbdKernel(): NbdKernel | undefined {
  const asking = NetlinkSocket.open();
  const family = asking?.family(FAMILY);
  const events = family && NetlinkSocket.open();
  if (asking && family && events?.join(FAMILY, EVENTS, EVENT_SECONDS)) return new Kernel(asking, events, family);
  asking?.close();
  events?.close();
  return undefined;
}

class Kernel implements NbdKernel {
  readonly #asking: NetlinkSocket;
  readonly #events: NetlinkSocket;
  readonly #family: Family;

  constructor(asking: NetlinkSocket, events: NetlinkSocket, family: Family) {
    this.#asking = asking;
    this.#events = events;
    this.#family = family;
  }

  #ask(command: number, attributes: readonly Attribute[]) {
    return this.#asking.ask({ family: this.#family.id, command }, attributes);
  }

  connect({ index, sizeBytes, blockBytes, flags, ...connection }: NewDevice): number {
    const { errno, answer } = this.#ask(COMMAND.CONNECT, [
      ...(index === undefined ? [] : [[ATTRIBUTE.INDEX, index] as const]),
      [ATTRIBUTE.SIZE_BYTES, BigInt(sizeBytes)],
      [ATTRIBUTE.BLOCK_SIZE_BYTES, BigInt(blockBytes)],
      [ATTRIBUTE.SERVER_FLAGS, BigInt(flags)],
      ...common(connection),
    ]);
    const got = numberIn(answer?.attributes.get(ATTRIBUTE.INDEX)) ?? index;
    if (errno !== 0 || got === undefined) throw failure(errno, index, "attach");
    return got;
  }

  reconnect(index: number, connection: KernelConnection): boolean {
    const { errno } = this.#ask(COMMAND.RECONFIGURE, [[ATTRIBUTE.INDEX, index], ...common(connection)]);
    if (errno === ENOSPC || errno === ENODEV) return false;
    if (errno !== 0) throw failure(errno, index, "reconnect");
    return true;
  }

  disconnect(index: number): void {
    const { errno } = this.#ask(COMMAND.DISCONNECT, [[ATTRIBUTE.INDEX, index]]);
    if (errno !== 0) throw failure(errno, index, "detach");
  }

  async nextDead(): Promise<readonly number[] | undefined> {
    const messages = await this.#events.next();
    return messages
      ?.filter(({ family, command }) => family === this.#family.id && command === COMMAND.LINK_DEAD)
      .flatMap(({ attributes }) => numberIn(attributes.get(ATTRIBUTE.INDEX)) ?? []);
  }

  close(): void {
    this.#asking.close();
    this.#events.close();
  }
}

function common({ socket, backend, waitSeconds }: KernelConnection): readonly Attribute[] {
  return [
    [ATTRIBUTE.SOCKETS, [[SOCKET_ITEM, [[SOCKET_FD, socket]]]]],
    [ATTRIBUTE.DEAD_CONN_TIMEOUT, BigInt(waitSeconds)],
    [ATTRIBUTE.BACKEND_IDENTIFIER, backend],
  ];
}

function failure(errno: number, index: number | undefined, doing: string): CowError {
  const name = errno === 0 ? "" : getSystemErrorName(-errno);
  const file = index === undefined ? undefined : `/dev/nbd${index}`;
  if (errno === EBUSY) return new CowError("locked", "is attached already, or in use", { file });
  const code = name === "EPERM" || name === "EACCES" ? "permission" : "io";
  return new CowError(code, `the kernel does not ${doing} it: ${name || "it gave no answer"}`, {
    file,
    details: name ? { errno: name } : {},
  });
}
