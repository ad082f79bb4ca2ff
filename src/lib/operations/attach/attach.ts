/**
 * Owns `attach`: an export becomes a device of the kernel's NBD client, and gets a new connection whenever the server was
 * restarted. Requests wait meanwhile; what was sent and not answered is sent again by the kernel.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { OperationContext } from "../../context.ts";
import { ConnectionLost } from "../../device/remote/failures.ts";
import type { KernelSocket } from "../../device/remote/kernel-socket.ts";
import type { NbdKernel } from "../../device/sys/nbd-kernel.ts";
import { CowError, shellWord } from "../../errors.ts";
import { ExportFlag } from "../../protocol/constants.ts";
import { type NbdUri, parseNbdUri } from "../../protocol/uri.ts";
import { waitUntilDetached } from "./detach.ts";
import {
  type AttachedDevice,
  attachedDevice,
  forgetKeeper,
  indexOf,
  isAttached,
  noteKeeper,
} from "./kernel-devices.ts";
import { type AttachSystem, requireKernel, thisMachine } from "./system.ts";

const WAIT_SECONDS = 300;
/**
 * The kernel looks at a request that has no answer after this time, and sends it again if the socket was exchanged. Its
 * own 30 s would be the pause after each restart of a server.
 */
const LOOK_AGAIN_MS = 600;
const MIN_BLOCK_BYTES = 512;
const MAX_BLOCK_BYTES = 4096;
/** Between attempts to reach a server that is gone: often at first, for one that is just being restarted. */
const RETRY_MS = 25;
const RETRY_LATER_MS = 500;
const LATER_MS = 10_000;

export interface AttachRequest {
  /** `/dev/nbdN`; default: the first free one. */
  readonly device?: string | undefined;
  /** How long requests wait for a server that is gone, before they fail; default 300. */
  readonly waitSeconds?: number | undefined;
  /** Called once the device can be used. */
  readonly onReady?: (result: AttachResult) => void | Promise<void>;
}

export interface AttachResult extends Omit<AttachedDevice, "in_use" | "uri"> {
  readonly uri: string;
  /** It was attached already, by a process that has ended. */
  readonly taken_over: boolean;
}

/**
 * Attaches an export, and keeps it attached until it is detached, or `context.signal` fires: then it is detached, unless
 * something uses it.
 *
 * @throws CowError `usage`, `permission` (not root), `unsupported` (no module, TLS, size), `locked` (the device is
 *   attached already), `not-found`, `unsuitable` (another disk after a restart), `io`
 */
export async function attach(
  uri: string,
  request: AttachRequest = {},
  context: OperationContext = {},
  system: AttachSystem = thisMachine,
): Promise<void> {
  const parsed = parseNbdUri(uri);
  if (parsed.tls)
    throw new CowError("unsupported", "the kernel's client does no TLS of its own", {
      file: uri,
      hints: [`\`nbdfuse disk/img ${shellWord(uri)}\` does, and shows a file`],
    });
  const wanted = request.device === undefined ? undefined : indexOf(request.device);
  const kernel = requireKernel(system, uri);
  try {
    const orphan = wanted === undefined ? undefined : orphanOf(system, wanted, uri);
    const keeper = new Keeper(kernel, system, { uri, parsed, waitSeconds: request.waitSeconds ?? WAIT_SECONDS });
    await keeper.begin(wanted, orphan);
    try {
      keeper.note();
      await request.onReady?.(keeper.result(orphan !== undefined));
      await keeper.keep(context);
    } finally {
      await keeper.end(context);
    }
  } finally {
    kernel.close();
  }
}

/** A device that is attached to the same export, and has no keeper any more. @throws CowError `locked` for any other */
function orphanOf({ roots }: AttachSystem, index: number, uri: string): AttachedDevice | undefined {
  const found = attachedDevice(roots, index);
  if (!found || (found.state === "orphan" && found.uri === uri)) return found;
  const by = found.pid === null ? "" : `, by pid ${found.pid}`;
  throw new CowError("locked", `is attached to ${found.uri ?? "another server"} already${by}`, {
    file: found.device,
    hints: [`\`cowtool detach ${found.device}\` detaches it`],
  });
}

interface Target {
  readonly uri: string;
  readonly parsed: NbdUri;
  readonly waitSeconds: number;
}

/** One attached device. */
class Keeper {
  readonly #kernel: NbdKernel;
  readonly #system: AttachSystem;
  readonly #target: Target;
  #index = -1;
  #facts: Pick<KernelSocket, "sizeBytes" | "flags"> = { sizeBytes: 0, flags: 0 };

  constructor(kernel: NbdKernel, system: AttachSystem, target: Target) {
    this.#kernel = kernel;
    this.#system = system;
    this.#target = target;
  }

  async begin(wanted: number | undefined, orphan: AttachedDevice | undefined): Promise<void> {
    const { uri, parsed } = this.#target;
    const socket = await this.#dial(parsed).catch((error: unknown) => {
      if (!(error instanceof ConnectionLost)) throw error;
      throw new CowError("io", `cannot connect: ${error.message}`, { file: uri, cause: error });
    });
    try {
      const geometry = geometryOf(socket, uri);
      this.#facts = { sizeBytes: orphan?.virtual_size ?? geometry.sizeBytes, flags: socket.flags };
      const connection = { ...this.#connection(socket), ...geometry };
      if (orphan && wanted !== undefined) {
        this.#index = wanted;
        this.#requireSame(socket);
        this.#kernel.reconnect(wanted, connection);
      } else this.#index = this.#kernel.connect({ ...connection, index: wanted, flags: socket.flags });
    } finally {
      socket.close();
    }
    this.#lookAgainSoon();
  }

  /** @throws CowError `permission`, … */
  note(): void {
    noteKeeper(this.#system.roots, this.#index);
  }

  result(taken_over: boolean): AttachResult {
    const { sizeBytes, flags } = this.#facts;
    return {
      device: this.#device,
      uri: this.#target.uri,
      virtual_size: sizeBytes,
      read_only: (flags & ExportFlag.READ_ONLY) !== 0,
      state: "attached",
      pid: process.pid,
      taken_over,
    };
  }

  /** Returns when the device was detached, or the signal fired. @throws CowError `unsuitable` for another disk */
  async keep(context: OperationContext): Promise<void> {
    const isOver = (): boolean => context.signal?.aborted || !isAttached(this.#system.roots, this.#index);
    while (!isOver()) {
      const dead = await this.#kernel.nextDead();
      if (dead && !dead.includes(this.#index)) continue;
      await this.#reconnect(isOver, context);
    }
  }

  /** Detaches it, unless that was done, or it is in use. */
  async end({ onNotice }: OperationContext): Promise<void> {
    const { roots } = this.#system;
    const found = attachedDevice(roots, this.#index);
    if (found && found.in_use === null) {
      this.#kernel.disconnect(this.#index);
      await waitUntilDetached(roots, this.#index);
    } else if (found) {
      const again = `\`cowtool attach ${shellWord(this.#target.uri)} ${found.device}\``;
      const message = `${found.in_use}, and stays attached, but gets no new connection: ${again} takes it over`;
      onNotice?.({ severity: "warning", file: found.device, message });
    }
    forgetKeeper(roots, this.#index);
  }

  get #device(): string {
    return `/dev/nbd${this.#index}`;
  }

  #dial(parsed: NbdUri): Promise<KernelSocket> {
    return this.#system.dial(parsed, this.#target.uri);
  }

  #connection({ fd }: KernelSocket) {
    return { socket: fd, backend: this.#target.uri, waitSeconds: this.#target.waitSeconds };
  }

  async #reconnect(isOver: () => boolean, { onNotice, signal }: OperationContext): Promise<void> {
    const start = performance.now();
    const say = (severity: "note" | "warning", message: string): void =>
      onNotice?.({ severity, file: this.#device, message });
    say("note", "its connection died: requests wait");
    let isTold = false;
    while (!isOver()) {
      try {
        const socket = await this.#dial(this.#target.parsed);
        try {
          this.#requireSame(socket);
          if (!this.#kernel.reconnect(this.#index, this.#connection(socket))) return;
        } finally {
          socket.close();
        }
        say("note", `reconnected after ${Math.round(performance.now() - start)} ms`);
        return;
      } catch (error) {
        // A server that is just starting may not have this export yet.
        const mayCome = error instanceof ConnectionLost || (error instanceof CowError && error.code !== "unsuitable");
        if (!mayCome) throw error;
        const isLater = performance.now() - start > LATER_MS;
        if (isLater && !isTold) say("warning", `still has no connection: ${error.message}`);
        isTold = isLater;
        await sleep(isLater ? RETRY_LATER_MS : RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** The same name may be another disk by now, which must not get the requests of this one. */
  #requireSame(socket: KernelSocket): void {
    const { READ_ONLY } = ExportFlag;
    const [now, before] = [socket.flags & READ_ONLY, this.#facts.flags & READ_ONLY];
    const { sizeBytes } = geometryOf(socket, this.#target.uri);
    if (sizeBytes === this.#facts.sizeBytes && now === before) return;
    const what =
      now === before ? `has ${sizeBytes} bytes now, not ${this.#facts.sizeBytes}` : "is read-only no more, or now";
    throw new CowError("unsuitable", `${what}: ${this.#device} is not connected to it again`, {
      file: this.#target.uri,
      hints: ["detach the device, and attach it anew"],
    });
  }

  #lookAgainSoon(): void {
    try {
      const file = path.join(this.#system.roots.sys, "block", `nbd${this.#index}`, "queue/io_timeout");
      fs.writeFileSync(file, `${LOOK_AGAIN_MS}\n`);
    } catch {
      // An old kernel: the pause after a restart is longer.
    }
  }
}

/** @throws CowError `unsupported` for what the kernel's client cannot be */
function geometryOf({ sizeBytes, blockSizes }: KernelSocket, file: string) {
  const blockBytes = Math.max(MIN_BLOCK_BYTES, blockSizes.minimum);
  if (blockBytes > MAX_BLOCK_BYTES)
    throw new CowError("unsupported", `has blocks of ${blockBytes} bytes: the kernel's client takes 4096 at most`, {
      file,
    });
  const size = sizeBytes - (sizeBytes % blockBytes);
  if (size === 0) throw new CowError("unsupported", `is smaller than a block of ${blockBytes} bytes`, { file });
  return { blockBytes, sizeBytes: size };
}
