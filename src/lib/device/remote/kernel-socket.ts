/**
 * Owns connecting to an export for the kernel's client: the handshake here, and then the socket as a descriptor that no
 * event loop reads.
 */
import * as fs from "node:fs";
import { CowError } from "../../errors.ts";
import type { NbdUri } from "../../protocol/uri.ts";
import { WireViolation } from "../../protocol/wire-violation.ts";
import { takeSocket } from "../sys/socket.ts";
import { connectTo } from "./connect.ts";
import { ConnectionLost } from "./failures.ts";
import { negotiate, type RemoteExport } from "./negotiate.ts";

/** A server that is just starting listens before it answers. */
const HANDSHAKE_MS = 3000;

export interface KernelSocket extends Pick<RemoteExport, "sizeBytes" | "flags" | "blockSizes"> {
  readonly fd: number;
  close(): void;
}

/**
 * @param name the URI, for messages
 * @throws CowError `not-found` for an unknown export, `permission`, `unsupported`, `io`; ConnectionLost where trying again may help
 */
export async function openKernelSocket(uri: NbdUri, name: string): Promise<KernelSocket> {
  const limit = AbortSignal.timeout(HANDSHAKE_MS);
  const socket = await connectTo(uri.address, limit);
  const late = (): void => void socket.destroy();
  limit.addEventListener("abort", late);
  try {
    const wanted = { name, exportName: uri.exportName, contexts: [], isSimple: true, secure: undefined };
    const { agreed } = await negotiate(socket, wanted);
    const handle = (socket as unknown as { _handle?: { readonly fd: number; readStop?(): void } })._handle;
    // From here on, the event loop must not read a byte.
    handle?.readStop?.();
    const fd = takeSocket(handle?.fd ?? -1);
    if (fd === undefined) throw new CowError("unsupported", "a socket cannot be handed over without native calls");
    return { ...agreed, fd, close: () => fs.closeSync(fd) };
  } catch (error) {
    if (limit.aborted) throw new ConnectionLost(`the server did not answer within ${HANDSHAKE_MS / 1000} s`);
    if (error instanceof WireViolation)
      throw new CowError("io", `the server breaks the protocol: ${error.message}`, { file: name, cause: error });
    throw error;
  } finally {
    limit.removeEventListener("abort", late);
    socket.destroy();
  }
}
