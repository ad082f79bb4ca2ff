/**
 * Owns the disk that tests of `cowtool serve` as a process serve, and the look whether a client gets it there.
 */
import { beforeAll, expect } from "vitest";
import { noise } from "../random.ts";
import { RawSession } from "./raw-session.ts";
import { makeCowfile, makeImage } from "./test-server.ts";

export const BASE_BYTES = 1 << 20;
export const BASE = noise(BASE_BYTES, 1);

/** Makes base.img and vm.cow over it before the tests of a file. */
export function useServedBase(at: (name: string) => string): void {
  beforeAll(async () => {
    makeImage(at("base.img"), BASE);
    await makeCowfile(at("base.img"), at("vm.cow"));
  });
}

/** As the program tells it. */
export function unixUri(socket: string, name = ""): string {
  return `nbd+unix:///${name}?socket=${socket}`;
}

/** A client is served there, and sees the base. */
export async function expectServed(where: string | number, name = ""): Promise<void> {
  const session = await RawSession.open(where, "structured", { name });
  expect((await session.read(100, 1000)).equals(BASE.subarray(100, 1100))).toBe(true);
  expect(await session.goodbye()).toHaveLength(0);
}
