/**
 * Owns the helper thread of a remote device: it holds the connection, and serves requests through shared memory. Every
 * error must reach the caller, who is blocked and receives nothing else.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Helper, type HelperData } from "./helper.ts";
import { announce, mapSharedMemory, Word } from "./shared-memory.ts";

const PULSE_MS = 1000;

/** Starts serving; the thread lives until it has disconnected, or the caller ends it. */
function serve({ buffer, ...about }: HelperData): void {
  const memory = mapSharedMemory(buffer);
  const helper = new Helper(memory, about);
  const end = (error: unknown): void => {
    helper.fail(error);
    announce(memory.words, Word.ENDED, 1);
  };
  process.on("uncaughtException", end);
  process.on("exit", () => announce(memory.words, Word.ENDED, 1));
  // The pulse shows that this thread lives, and keeps it alive.
  const pulse = setInterval(() => Atomics.add(memory.words, Word.PULSE, 1), PULSE_MS);
  Atomics.add(memory.words, Word.PULSE, 1);
  helper.run().then(() => clearInterval(pulse), end);
}

if (parentPort) serve(workerData as HelperData);
