/**
 * Owns the words in which locks are asked for, whichever way they are taken.
 */

/** `shared`: read while nobody writes; `exclusive`: write while nobody reads. */
export type LockMode = "shared" | "exclusive";

/** Releases a lock. Closing the file releases a kernel lock too. */
export type Unlock = () => void;
