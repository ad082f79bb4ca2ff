/**
 * Owns the starting of fake servers (fakes.ts), which say what a test wants, well or badly: in this process for a client
 * with an event loop, in a thread for a device that blocks. They end with the test file.
 */
import { Worker } from "node:worker_threads";
import { afterAll } from "vitest";
import { listenAs } from "./fake-thread.ts";
import type { FakeName } from "./fakes.ts";

const enders: (() => unknown)[] = [];
afterAll(() => Promise.all(enders.map((end) => end())));

/** Starts a fake in this process. */
export async function startFake(socket: string, name: FakeName): Promise<void> {
  enders.push(await listenAs(name, socket));
}

/** Starts a fake that answers while this thread blocks. @returns what ends it */
export async function startFakeThread(socket: string, fakeName: FakeName): Promise<() => Promise<unknown>> {
  const worker = new Worker(new URL("./fake-thread.ts", import.meta.url), { workerData: { fakeName, socket } });
  const end = (): Promise<unknown> => worker.terminate();
  enders.push(end);
  await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  return end;
}
