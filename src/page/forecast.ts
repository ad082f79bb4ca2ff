/**
 * Owns the forecast of space: a straight line through what was left in the last minutes. Pure, without the browser.
 */

export interface SpaceSample {
  readonly timeMs: number;
  readonly bytes: number;
}

export interface Forecast {
  /** Negative while space becomes less. */
  readonly bytesPerSecond: number;
  /** Until nothing is left; undefined if it does not become less. */
  readonly fullInMs: number | undefined;
}

/** Fewer seconds than this say nothing. */
const LEAST_MS = 10_000;
/** What is noise: less than this in a second. */
const STILL_BYTES = 64;

/** Least squares. @returns undefined for too short a time */
export function forecast(samples: readonly SpaceSample[]): Forecast | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || last.timeMs - first.timeMs < LEAST_MS) return undefined;
  const mean = (of: (sample: SpaceSample) => number): number =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const [time, bytes] = [mean(({ timeMs }) => timeMs), mean((sample) => sample.bytes)];
  const spread = mean(({ timeMs }) => (timeMs - time) ** 2);
  const slope = mean((sample) => (sample.timeMs - time) * (sample.bytes - bytes)) / spread;
  const bytesPerSecond = slope * 1000;
  if (bytesPerSecond > -STILL_BYTES) return { bytesPerSecond, fullInMs: undefined };
  return { bytesPerSecond, fullInMs: last.bytes / -slope };
}
