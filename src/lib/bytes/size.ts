/**
 * Owns how sizes are read from people and shown to them. Powers of 1024 only; must not accept anything ambiguous.
 */
import { CowError } from "../errors.ts";

const UNITS = ["", "k", "m", "g", "t", "p", "e"] as const;
const PATTERN = /^(\d+)(?:([kmgtpe])(?:ib)?|b|s)?$/i;
const SECTOR_BYTES = 512;

/**
 * Reads a size such as `4096`, `64k`, `8GiB`, `16s` (512-byte sectors).
 *
 * @returns bytes, at most 2^53-1
 * @throws CowError `usage` for fractions, signs, hex, `KB` and friends, and sizes above 2^53-1
 */
export function parseSize(text: string): number {
  const match = PATTERN.exec(text);
  const digits = match?.[1];
  if (!match || digits === undefined) {
    throw new CowError(
      "usage",
      `"${text}" is not a size: expected digits and one of k m g t p e (powers of 1024), b or s`,
    );
  }
  const unit = match[2]?.toLowerCase();
  const factor = unit
    ? 1024n ** BigInt(UNITS.indexOf(unit as (typeof UNITS)[number]))
    : text.toLowerCase().endsWith("s")
      ? BigInt(SECTOR_BYTES)
      : 1n;
  const bytes = BigInt(digits) * factor;
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER))
    throw new CowError("usage", `"${text}" is too large: the limit is 2^53-1 bytes`);
  return Number(bytes);
}

/** `8 GiB`, `1.5 MiB`, `900 B`: the rounded figure alone, for places that also show the exact one. */
export function roundedSize(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit === 0) return `${bytes} B`;
  const shown = Number.isInteger(value) || value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return `${shown} ${(UNITS[unit] ?? "").toUpperCase()}iB`;
}

/** `1048576 (1 MiB)`: the exact figure first, the rounded one where it says more. */
export function formatSize(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : `${bytes} (${roundedSize(bytes)})`;
}
