/**
 * Owns doing independent pieces of work several at a time while their results come in order. Memory is bounded: no more
 * inputs are taken than there is room for.
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
      // Until its turn comes nobody waits for it; a failure is heard then, and must not end the process before.
      result.catch(() => undefined);
      running.push(result);
      // One more than can run, so that none waits for the consumer.
      if (running.length > concurrency) {
        const first = running.shift();
        if (first) yield await first;
      }
    }
    for (let first = running.shift(); first; first = running.shift()) yield await first;
  } finally {
    // Whoever stops early must not leave rejections behind that nobody hears.
    await Promise.allSettled(running);
  }
}
