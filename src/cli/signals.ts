/**
 * Owns SIGINT and SIGTERM: the first asks the operation to stop at its next safe boundary, a second one ends the process
 * at once. Must not know what a safe boundary is.
 */
import { exitOfSignal, type StopSignal } from "./exit-codes.ts";

export interface StopSignals {
  /** Fires at the first signal; goes into the OperationContext. */
  readonly signal: AbortSignal;
  /** Which signal came first, if one came. */
  readonly received: () => StopSignal | undefined;
  /** Gives the signals back their default meaning. */
  readonly dispose: () => void;
}

/** @param onFirst told once, when the first signal arrives */
export function catchStopSignals(onFirst: (signal: StopSignal) => void = () => {}): StopSignals {
  const controller = new AbortController();
  let first: StopSignal | undefined;
  const handler = (signal: NodeJS.Signals): void => {
    const name: StopSignal = signal === "SIGTERM" ? "SIGTERM" : "SIGINT";
    if (first) process.exit(exitOfSignal(name));
    first = name;
    onFirst(name);
    controller.abort();
  };
  process.on("SIGINT", handler).on("SIGTERM", handler);
  return {
    signal: controller.signal,
    received: () => first,
    dispose: () => {
      process.off("SIGINT", handler).off("SIGTERM", handler);
    },
  };
}
