/**
 * Owns a worker thread of the data plane: it blocks on one connection after the other, or serves several on its event
 * loop.
 */
import { parentPort, workerData } from "node:worker_threads";
import { closeThreadFetcher } from "../../device/sys/fetcher.ts";
import { takeSocket } from "../../device/sys/socket.ts";
import { assert } from "../../errors.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import { receiveImage } from "../../stack/live/passed-image.ts";
import { wordsOf } from "../transmission/wire-errors.ts";
import { BlockingSession } from "./blocking-session.ts";
import { warmUp } from "./warm-up.ts";
import { END, type Forget, type NumberedJob, READY, type WorkerDone, type WorkerSetup } from "./worker-messages.ts";

assert(parentPort, "this file is a worker");
const port = parentPort;
const { busy, warmUpFd } = workerData as WorkerSetup;
const images = new Map<number, Promise<LiveImage>>();
let session: BlockingSession | undefined;

/** All connections of this thread to one export share an image, so that each commits the writes of all. */
function imageOf({ exportNumber, image }: NumberedJob): Promise<LiveImage> {
  let known = images.get(exportNumber);
  if (!known) {
    known = receiveImage(image);
    images.set(exportNumber, known);
    // The cause may be gone when the next client comes, for instance a base whose server is down.
    known.catch(() => images.delete(exportNumber));
  }
  return known;
}

async function serve(job: NumberedJob): Promise<void> {
  const image = await imageOf(job);
  if (!job.shared) {
    session ??= new BlockingSession(busy);
    session.run(job.fd, image, job.negotiated, job.rest);
    return;
  }
  // Most threads never need these, and start sooner without them.
  const { Socket } = await import("node:net");
  const { LoopSession } = await import("../transmission/loop-session.ts");
  // The stream closes its descriptor by itself, so it gets its own.
  const fd = takeSocket(job.fd);
  if (fd === undefined) throw new Error("too many open files");
  const stream = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
  await new LoopSession(stream, image, job.negotiated, job.rest).run();
}

port.on("message", (job: NumberedJob | Forget | typeof END) => {
  if (job === END) {
    closeThreadFetcher();
    port.close();
    return;
  }
  if ("forget" in job) {
    images.delete(job.forget);
    return;
  }
  const tell = (failure: string | undefined): void => {
    const done: WorkerDone = { id: job.id, failure };
    port.postMessage(done);
  };
  serve(job).then(
    () => tell(undefined),
    (error: unknown) => tell(wordsOf(error)),
  );
});

if (warmUpFd !== undefined) {
  session = new BlockingSession(busy);
  try {
    warmUp(session, warmUpFd);
  } catch {
    // Then the first client warms it up.
  }
}
port.postMessage({ id: READY, failure: undefined } satisfies WorkerDone);
