/**
 * Owns servers with a control socket for tests: one at a time, ended after each test.
 */
import { afterEach } from "vitest";
import { type ControlClient, connect } from "../../../src/lib/index.ts";
import { startServing, type TestServer } from "./test-server.ts";

export interface Controlled {
  /** The one that runs, or ran last in this test. */
  server: TestServer | undefined;
  /** Starts one without exports. */
  start(request?: Parameters<typeof startServing>[2]): Promise<ControlClient>;
}

/** @param at names of files in a directory of the test's own */
export function controlled(at: (name: string) => string): Controlled {
  let count = 0;
  const held: Controlled = {
    server: undefined,
    start: async (request = {}) => {
      const control = at(`control${count++}`);
      held.server = await startServing(at, [], { control, ...request });
      return connect({ server: control });
    },
  };
  afterEach(async () => {
    await held.server?.stop().catch(() => undefined);
    held.server = undefined;
  });
  return held;
}
