/**
 * Owns the differences when a client started us by socket activation: the standard streams are the client's, which may
 * be copying an image through them.
 */

/** Did systemd or a client pass sockets to this process (LISTEN_FDS)? Then stdout is not ours to print on. */
export function isActivated(): boolean {
  return process.env["LISTEN_PID"] === String(process.pid);
}

interface Handle {
  setBlocking?(isBlocking: boolean): void;
}

/**
 * Node makes pipes non-blocking for every process that shares them: the client's reads and writes would fail with
 * EAGAIN.
 */
export function keepBlocking(): void {
  for (const stream of [process.stdin, process.stdout, process.stderr]) {
    (stream as unknown as { readonly _handle?: Handle })._handle?.setBlocking?.(true);
  }
}
