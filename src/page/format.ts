/**
 * Owns how figures and names are shown. Pure, without the browser.
 */
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;

/** `1.5 GiB` */
export function size(bytes: number): string {
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${bytes < 0 ? "−" : ""}${short(value)} ${UNITS[unit] ?? ""}`;
}

export function rate(bytesPerSecond: number): string {
  return `${size(bytesPerSecond)}/s`;
}

/** `950`, `12.3 k`, `4.5 M` */
export function count(value: number): string {
  if (value < 9999.5) return short(value);
  return value < 999_500 ? `${short(value / 1000)} k` : `${short(value / 1e6)} M`;
}

/** At most three digits, or the whole part. */
function short(value: number): string {
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 9.95 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(0);
}

/** @param microseconds 0 for none */
export function latency(microseconds: number): string {
  if (microseconds === 0) return "–";
  if (microseconds < 999.5) return `${short(microseconds)} µs`;
  return microseconds < 999_500 ? `${short(microseconds / 1000)} ms` : `${short(microseconds / 1e6)} s`;
}

const SPANS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1000, "s"],
] as const;

/** The two largest units: `3 h 20 min`. */
export function duration(milliseconds: number): string {
  const at = SPANS.findIndex(([ms]) => milliseconds >= ms);
  if (at === -1) return "0 s";
  let left = milliseconds;
  const parts = SPANS.slice(at, at + 2).map(([ms, unit]) => {
    const whole = Math.floor(left / ms);
    left -= whole * ms;
    return whole > 0 ? `${whole} ${unit}` : "";
  });
  return parts.filter((part) => part !== "").join(" ");
}

/** An export's name; what is invisible or changes the order of text is shown as its code. */
export function shownName(name: string): string {
  return name === "" ? "(default)" : visible(name);
}

export function visible(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** How a name is written in an address: as on the control socket, decoded. */
export function segment(name: string): string {
  return name === "" || name.startsWith("~") ? `~${name}` : name;
}
