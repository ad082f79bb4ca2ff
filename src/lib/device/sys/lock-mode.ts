/**
 * Owns the modes of locks, for every kind of lock.
 */

/** `shared`: others may read, not write; `exclusive`: others may neither read nor write. */
export type LockMode = "shared" | "exclusive";

/** Releases a lock. Closing the file releases a kernel lock too. */
export type Unlock = () => void;
