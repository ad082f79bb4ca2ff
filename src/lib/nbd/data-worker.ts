/**
 * Owns a worker thread of the data plane: it gets one connection after the other, and serves each to its end.
 */
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../errors.ts";
import { receiveImage } from "../overlay/live/handover.ts";
import type { LiveImage } from "../overlay/live/image.ts";
import { BlockingSession } from "./blocking-session.ts";
import { wordsOf } from "./wire-errors.ts";
import type { WorkerDone, WorkerJob, WorkerSetup } from "./worker-pool.ts";

assert(parentPort, "this file is a worker");
const port = parentPort;
const { busy } = workerData as WorkerSetup;
const session = new BlockingSession(busy);
const images = new Map<number, LiveImage>();

async function imageOf({ exportNumber, image }: WorkerJob): Promise<LiveImage> {
  const known = images.get(exportNumber);
  if (known) return known;
  const received = await receiveImage(image);
  images.set(exportNumber, received);
  return received;
}

port.on("message", async (job: WorkerJob) => {
  let failure: string | undefined;
  try {
    session.run(job.fd, await imageOf(job), job.negotiated, job.rest);
  } catch (error) {
    failure = wordsOf(error);
  }
  const done: WorkerDone = { failure };
  port.postMessage(done);
});
