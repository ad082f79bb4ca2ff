/**
 * Owns how an export's name is written in a path of the API: percent-encoded; with a `~` before it if it is empty, as that of the
 * default export is, `.` or `..`, which mean something else in a path, or begins with a `~`. So every name has one spelling, and
 * every spelling one name.
 */

/** The segment of a path for a name. */
export function segmentOf(name: string): string {
  return encodeURIComponent(/^(?:~.*|\.{0,2})$/s.test(name) ? `~${name}` : name);
}

/** @param segment decoded already */
export function nameIn(segment: string): string {
  return segment.startsWith("~") ? segment.slice(1) : segment;
}
