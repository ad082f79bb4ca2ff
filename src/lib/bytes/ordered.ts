/**
 * Owns doing independent pieces of work several at a time while their results come in order. Memory is bounded: at most
 * `concurrency` + 1 inputs are taken at a time, and large buffers are freed at once: they are outside the heap, so the garbage
 * collector notices them late.
 */

/** Maps `inputs` through `work`, at most `concurrency` at once; yields in the order of the inputs. */
export async function* mapOrdered<Input, Output>(
  inputs: Iterable<Input>,
  concurrency: number,
  work: (input: Input) => Promise<Output>,
): AsyncGenerator<Output> {
  const running: Promise<Output>[] = [];
  try {
    for (const input of inputs) {
      const result = work(input);
      // A failure is reported when its turn comes, and must not end the process before.
      result.catch(() => undefined);
      running.push(result);
      // One more than can run, so that the workers need not wait for the consumer.
      if (running.length > concurrency) {
        const first = running.shift();
        if (first) yield await first;
      }
    }
    for (let first = running.shift(); first; first = running.shift()) yield await first;
  } finally {
    // A consumer that stops early must not leave unhandled rejections behind.
    await Promise.allSettled(running);
  }
}

/** Frees a buffer that is no longer used; views of it become empty. Buffers that share their memory are left alone. */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) buffer.transfer(0);
}
