/**
 * Owns how many pieces may be worked on at once.
 */
import { CowError } from "../../errors.ts";

const MOST_THREADS = 1024;

/** @throws CowError `usage` */
export function requireThreads(threads: number | undefined): void {
  if (threads === undefined || (Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS)) return;
  throw new CowError("usage", `${threads} is no number of threads: expected 1 to ${MOST_THREADS}`);
}
