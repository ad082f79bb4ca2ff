/**
 * Owns the instant at which running stacks get other parts: every connection of all of them is between two batches.
 *
 *   told     every thread knows the parts of the next epoch
 *   shut     no connection changes anything
 *   decided  the one change on disk from which on the new parts count
 *   switched the epoch of each stack says so
 *   open     connections take the new parts, each at its next batch
 *
 * Nothing but decide() is done between shut and open.
 */
import { CowError } from "../../errors.ts";
import { shut } from "./gate.ts";
import type { PassedImage } from "./passed-image.ts";
import type { ServedStack } from "./served-stack.ts";
import type { StackParts } from "./stack-parts.ts";

/** How long batches may take to end. */
const LIMIT_MS = 1000;

/** A running stack, and the parts that it is to have. */
export interface PartsSwitch {
  readonly stack: ServedStack;
  readonly next: StackParts;
  /** Tells every thread that may have the stack. */
  readonly tell: (image: PassedImage) => void;
}

/**
 * Replaces the parts of running stacks at one instant. What they were made of is the caller's to retire.
 *
 * @param decide makes the new parts count; nothing is switched if it throws
 * @returns how long connections were kept waiting, in milliseconds
 * @throws CowError `unsuitable` if a thread could not have a new part; `locked` if a batch does not end; what `decide` throws
 */
export async function switchParts(switches: readonly PartsSwitch[], decide: () => void): Promise<number> {
  for (const each of switches) tellNext(each);
  const gates = switches.map(({ stack }) => stack.gate);
  const start = performance.now();
  const busy = await shut(gates, LIMIT_MS);
  if (busy.length > 0) {
    const names = switches.flatMap(({ stack }) => (busy.includes(stack.gate) ? stack.name : []));
    throw new CowError("locked", `a request of a client has not ended within ${LIMIT_MS} ms: nothing was changed`, {
      file: names.join(", "),
      hints: ["a disk that is slow, or does not answer, may be the cause: try again"],
    });
  }
  try {
    decide();
    for (const { stack, next } of switches) stack.switchTo(next);
  } finally {
    for (const gate of gates) gate.open();
  }
  return performance.now() - start;
}

/**
 * Replaces the parts of a running stack by others with the same content: no connection waits.
 * @throws CowError `unsuitable` as switchParts()
 */
export function exchangeParts(each: PartsSwitch): void {
  tellNext(each);
  each.stack.switchTo(each.next);
}

function tellNext({ stack, next, tell }: PartsSwitch): void {
  const image = stack.passed(next, stack.gate.epoch + 1);
  if (image) tell(image);
  else if (stack.passed())
    throw new CowError("unsuitable", "has a new part that threads cannot share", { file: stack.name });
}
