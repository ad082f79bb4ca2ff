/**
 * Owns a worker thread of the data plane: it blocks on one connection after the other, or serves several on its event
 * loop.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { closeThreadFetcher } from "../../device/sys/fetcher.ts";
import { takeSocket } from "../../device/sys/socket.ts";
import { assert } from "../../errors.ts";
import { Passage } from "../../stack/live/gate.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import { wordsOf } from "../transmission/wire-errors.ts";
import { BlockingSession } from "./blocking-session.ts";
import { ThreadImages } from "./thread-images.ts";
import { MemoryTidier } from "./tidy-memory.ts";
import { warmUp } from "./warm-up.ts";
import {
  END,
  type Forget,
  type News,
  type NumberedJob,
  READY,
  type WorkerDone,
  type WorkerSetup,
} from "./worker-messages.ts";

assert(parentPort, "this file is a worker");
const port = parentPort;
const { busy, warmUpFd, news } = workerData as WorkerSetup;
const images = new ThreadImages(() => {
  for (let got = receiveMessageOnPort(news); got; got = receiveMessageOnPort(news)) tell(got.message as News);
});
const tidier = new MemoryTidier();
let session: BlockingSession | undefined;

function tell({ exportNumber, image }: News): void {
  images.tell(exportNumber, image);
}

// A thread without a connection does not read them by itself.
news.on("message", tell);
news.unref();

function serve(job: NumberedJob): Promise<void> {
  return images.with(job.exportNumber, job.image, (image, current) => {
    const passage = new Passage(job.gate, current);
    if (job.shared) return serveOnLoop(job, image, passage);
    session ??= new BlockingSession(busy);
    return session.run(job.fd, { image, passage }, job.negotiated, job.rest, job.meter);
  });
}

/** Most threads never need these modules, and start sooner without them. */
async function serveOnLoop(job: NumberedJob, image: LiveImage, passage: Passage): Promise<void> {
  const { Socket } = await import("node:net");
  const { LoopSession } = await import("../transmission/loop-session.ts");
  // The stream closes its descriptor by itself, so it gets its own.
  const fd = takeSocket(job.fd);
  if (fd === undefined) throw new Error("too many open files");
  const stream = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
  await new LoopSession(stream, { image, passage }, job.negotiated, job.rest, job.meter).run();
}

port.on("message", (job: NumberedJob | Forget | typeof END) => {
  if (job === END) {
    closeThreadFetcher();
    tidier.end();
    news.close();
    port.close();
    return;
  }
  if ("forget" in job) {
    images.forget(job.forget);
    return;
  }
  const tell = (failure: string | undefined): void => {
    const done: WorkerDone = { id: job.id, failure };
    port.postMessage(done);
    tidier.count();
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
