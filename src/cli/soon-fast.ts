/**
 * Owns how JavaScript is compiled in a server. It holds for the whole process, so that it is not the library's to decide.
 */
import { setFlagsFromString } from "node:v8";

/**
 * Has JavaScript compiled by the quick compiler only. What the thorough one makes is some hundredths faster, but it is at
 * work for a tenth of a second on the processors that a server's first clients need, and slowed them by a third.
 */
export function preferSoonFast(): void {
  setFlagsFromString("--no-turbofan");
}
