/**
 * Owns hearing promise rejections that nobody handles: in a program each of them ends the process with a stack trace, in
 * a test they would fail whatever runs at that moment. Must not swallow what the work itself throws.
 */

/**
 * Runs `work`, and returns what was rejected meanwhile without anybody having listened. `work` sees the same list grow:
 * what it did is in it one turn of the event loop later, and what threads still did for it at the end.
 */
export async function unheardDuring(work: (heard: readonly unknown[]) => Promise<void>): Promise<readonly unknown[]> {
  const unheard: unknown[] = [];
  const others = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", (reason) => unheard.push(reason));
  try {
    await work(unheard);
    // They are reported once the microtasks are done.
    await new Promise((resolve) => setTimeout(resolve, 20));
  } finally {
    process.removeAllListeners("unhandledRejection");
    for (const other of others) process.on("unhandledRejection", other);
  }
  return unheard;
}
