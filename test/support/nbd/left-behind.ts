/**
 * Owns the look at what a server that has ended left behind, by the library: is the cowfile sound, and what does the stack
 * read as?
 */
import { expect } from "vitest";
import { check, nodeStorage, openStack } from "../../../src/lib/index.ts";

/** The cowfile is clean, and `check` finds nothing but what is worth a note. */
export async function expectClean(cowfile: string, rdofile: string): Promise<void> {
  const { state, problems } = await check(cowfile, { rdofile }, {});
  expect([state, ...[...problems].filter(({ severity }) => severity !== "note")], cowfile).toEqual(["clean"]);
}

/** All bytes of a stack. */
export async function contentOf(...parts: readonly string[]): Promise<Buffer> {
  const { device, close } = await openStack(nodeStorage, parts.join(","));
  try {
    const bytes = Buffer.alloc(device.sizeBytes);
    expect(device.read(bytes, 0)).toBe(bytes.length);
    return bytes;
  } finally {
    close();
  }
}
