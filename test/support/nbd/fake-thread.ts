/**
 * Owns the fake servers' listening, and a thread that does nothing else: so that one answers while the test blocks.
 */
import { createServer, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { Peer } from "./fake-peer.ts";
import { FAKES, type FakeName } from "./fakes.ts";

/** Listens on a Unix socket. @returns what ends it and all its connections */
export function listenAs(name: FakeName, socket: string): Promise<() => void> {
  const open = new Set<Socket>();
  let count = 0;
  const server = createServer((client) => {
    open.add(client);
    client.on("error", () => undefined).on("close", () => open.delete(client));
    FAKES[name](new Peer(client), count++).catch(() => client.destroy());
  });
  return new Promise((resolve) => {
    server.listen(socket, () =>
      resolve(() => {
        server.close();
        for (const client of open) client.destroy();
      }),
    );
  });
}

const job = workerData as { readonly fakeName?: FakeName; readonly socket?: string } | null;
if (parentPort && job?.fakeName && job.socket !== undefined) {
  await listenAs(job.fakeName, job.socket);
  parentPort.postMessage("listening");
}
