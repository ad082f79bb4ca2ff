/**
 * Owns the names of the ways in which a stack is served.
 */

/** How the top of a stack is served. */
export type Access =
  /** The stack's last layer is a cowfile that takes the writes. */
  | "writable"
  /** Nothing can be written. */
  | "read-only"
  /** Writes go to a layer that is discarded with the server. */
  | "ephemeral";
