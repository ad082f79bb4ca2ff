/**
 * Owns a control socket over a history that does nothing but note what it is asked for, for tests of what is before it: the
 * command line, the client, HTTP.
 */
import type { Server } from "node:http";
import { afterAll } from "vitest";
import { interrupted } from "../../../src/lib/context.ts";
import { ControlClient } from "../../../src/lib/control/client.ts";
import { Control } from "../../../src/lib/control/control.ts";
import { EventHub } from "../../../src/lib/control/events.ts";
import type { HistoryHost } from "../../../src/lib/control/history.ts";
import { controlApp } from "../../../src/lib/control/http.ts";
import { createAdaptorServer } from "../../../src/lib/control/vendor.ts";
import { nodeStorage } from "../../../src/lib/device/node-storage.ts";
import type { CowError } from "../../../src/lib/errors.ts";
import { Exports } from "../../../src/lib/nbd/server/exports.ts";
import type { History } from "../../../src/lib/nbd/server/history.ts";

export interface ToldHistory {
  readonly client: ControlClient;
  readonly exports: Exports;
  /** What it was asked for: verb and arguments. */
  readonly told: (readonly unknown[])[];
  /** Lets the job that runs end. */
  finish: (failure?: CowError) => void;
}

/** @param socket of the control side */
export async function tellHistory(socket: string): Promise<ToldHistory> {
  const exports = new Exports({ defaults: {}, onClosed: () => undefined, isSound: () => true }, {});
  const told: (readonly unknown[])[] = [];
  const history: ToldHistory = { client: new ControlClient(socket), exports, told, finish: () => undefined };
  const job = async ({ signal, onProgress }: Parameters<HistoryHost["verbs"]["flatten"]>[2] = {}): Promise<void> => {
    onProgress?.({ phase: "joining", done: 1024, total: 4096, unit: "bytes" });
    await new Promise<void>((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(interrupted("x", "nothing was changed")));
      history.finish = (failure) => (failure ? reject(failure) : resolve());
    });
  };
  const verbs: HistoryHost["verbs"] = {
    checkpoint: async (names, request) => {
      told.push(["checkpoint", names, request]);
      const made = names.map((name) => ({
        name: exports.get(name).name,
        frozen: `${name}-1.cow`,
        top: `${name}-2.cow`,
      }));
      return { checkpoint: request.as, time: "2026-11-29T12:00:00.000Z", pauseMs: 1.25, exports: made };
    },
    rollback: async (...asked) => {
      told.push(["rollback", ...asked]);
      return { removed: ["x-2.cow"] };
    },
    fork: async (...asked) => {
      told.push(["fork", ...asked]);
      const [name, { as, checkpoint = as }] = asked;
      return { entry: exports.get(name), checkpoint };
    },
    squash: async (name, request, context) => {
      told.push(["squash", name, request]);
      await job(context);
      return { stack: "x.stack", squashed: [], removed: [], left: [] };
    },
    drop: async (...asked) => void told.push(["drop", ...asked]),
    flatten: async (name, request, context) => {
      told.push(["flatten", name, request]);
      await job(context);
      return { stack: "x.stack", base: request.into, layers: [], dropped: [], removed: [], left: [] };
    },
    grow: async (...asked) => void told.push(["grow", ...asked]),
  };
  const server = {
    exports,
    history: verbs as unknown as History,
    urisOf: () => ["nbd://x"],
    connectionCount: () => 0,
    end: () => undefined,
  };
  const control = new Control(server, nodeStorage, new EventHub(), { control: socket, state: null });
  const http = createAdaptorServer({ fetch: controlApp(control).fetch }) as Server;
  await new Promise<void>((resolve) => http.listen(socket, resolve));
  afterAll(async () => {
    http.close();
    http.closeAllConnections();
    await exports.end();
  });
  return history;
}
