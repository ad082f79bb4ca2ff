/**
 * Owns the ways in which a session ends early.
 */

/** What must never be seen was seen. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** The process is dead: nothing more reaches the disk. */
export class Died extends Error {}

/** The process gives up and ends, as a crash would leave it. */
export class Lost extends Error {}
