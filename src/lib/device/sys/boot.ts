/**
 * Owns the machine's boot id: it tells whether the page cache of a dead process is still there.
 */
import * as fs from "node:fs";

const BYTES = 16;

let known: Uint8Array | undefined;

/** 16 bytes that change with each start of the machine; all zeros if the system has none. */
export function bootId(): Uint8Array {
  known ??= readBootId();
  return Uint8Array.from(known);
}

function readBootId(): Uint8Array {
  try {
    const hex = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").replaceAll(/[^0-9a-f]/g, "");
    const bytes = new Uint8Array(Buffer.from(hex, "hex"));
    return bytes.length === BYTES ? bytes : new Uint8Array(BYTES);
  } catch {
    return new Uint8Array(BYTES);
  }
}
