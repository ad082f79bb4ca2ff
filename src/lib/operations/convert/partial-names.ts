/**
 * Owns the names of unfinished outputs, which nothing else may have.
 */
export const PARTIAL_SUFFIX = ".cowtool-partial";
export const NOTE_SUFFIX = ".cowtool-partial-note";
