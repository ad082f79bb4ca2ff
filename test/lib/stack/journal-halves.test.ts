/**
 * Proves that a checkpoint does not use a half of the live journal again while another thread still writes into it.
 */
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { switchHalf } from "../../../src/lib/stack/live/journal-writer.ts";
import { Control } from "../../../src/lib/stack/live/shared-state.ts";

const WRITER = `
  const { workerData } = require("node:worker_threads");
  const control = new Int32Array(workerData.control);
  const written = new Int32Array(workerData.written);
  Atomics.store(written, 0, 1);
  Atomics.sub(control, workerData.writers, 1);
`;

test.each([0, 1])("half %i is switched to only once its last writer has left it", async (half) => {
  const control = new Int32Array(new SharedArrayBuffer(4 * Control.LENGTH));
  const written = new Int32Array(new SharedArrayBuffer(4));
  Atomics.store(control, Control.EPOCH, half + 1);
  Atomics.store(control, Control.WRITERS + half, 1);
  Atomics.store(control, Control.NEXT_SLOT + half, 17);
  const worker = new Worker(WRITER, {
    eval: true,
    workerData: { control: control.buffer, written: written.buffer, writers: Control.WRITERS + half },
  });
  try {
    switchHalf(control);
    expect(Atomics.load(written, 0)).toBe(1);
    expect(Atomics.load(control, Control.EPOCH)).toBe(half + 2);
    expect(Atomics.load(control, Control.NEXT_SLOT + half)).toBe(0);
  } finally {
    await worker.terminate();
  }
});
