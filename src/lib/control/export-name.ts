/**
 * Owns how an export's name is written in a path of the API: percent-encoded; `~` for the default export, whose name is
 * empty, and one more `~` before a name that begins with one. So every name has one spelling, and every spelling one name.
 */

/** The segment of a path for a name. */
export function segmentOf(name: string): string {
  return encodeURIComponent(name === "" || name.startsWith("~") ? `~${name}` : name).replace(/^\.+$/, (dots) =>
    dots.replaceAll(".", "%2E"),
  );
}

/** @param segment decoded already */
export function nameIn(segment: string): string {
  return segment.startsWith("~") ? segment.slice(1) : segment;
}
