/**
 * Owns names as bytes: whether they are UTF-8, and how the others are shown. Knows no files.
 */

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text, or undefined where the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** `k\xfcche.cow`: every byte that is not printable ASCII as a number. */
export function showBytes(bytes: Uint8Array): string {
  const shown = (byte: number): string =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  return Array.from(bytes, shown).join("");
}
