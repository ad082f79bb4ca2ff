/**
 * Owns what is different when a client started us with its own standard streams, by socket activation: they are the
 * client's, which may be copying an image through them.
 */

/** Were sockets handed down to this process (LISTEN_FDS)? Then stdout is not ours to print on. */
export function isActivated(): boolean {
  return process.env["LISTEN_PID"] === String(process.pid);
}

interface Handle {
  setBlocking?(isBlocking: boolean): void;
}

/** Node makes pipes non-blocking, for everybody who shares them: the client's reads and writes would fail with EAGAIN. */
export function keepBlocking(): void {
  for (const stream of [process.stdin, process.stdout, process.stderr]) {
    (stream as unknown as { readonly _handle?: Handle })._handle?.setBlocking?.(true);
  }
}
