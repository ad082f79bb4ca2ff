/**
 * Owns the names of how much of a base is recorded.
 */

/** Everything; as much as a moment allows; nothing. */
export const IDENTITY_MODES = ["full", "quick", "none"] as const;
/** How much of a base is recorded. */
export type IdentityMode = (typeof IDENTITY_MODES)[number];
