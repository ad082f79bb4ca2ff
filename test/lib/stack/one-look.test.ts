/**
 * Proves that a write to a served cowfile looks its range up in the allocation bitmap once, whether it allocates, copies up
 * or only overwrites.
 */
import { writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { nodeStorage } from "../../../src/lib/index.ts";
import { BlockMap } from "../../../src/lib/stack/live/block-map.ts";
import type { LiveImage } from "../../../src/lib/stack/live/image.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { makeCowfile } from "../../support/nbd/test-server.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const LOOKS = ["has", "runEnd", "clearRuns"] as const;
const KIB = 1024;

const at = scratchDirectory();
let number = 0;
let looks = 0;
/** Runs once after a look. */
let afterLook: (() => void) | undefined;
let depth = 0;
const originals = new Map<string, unknown>();

/** Counts calls from outside, not those that a look makes of its own. */
function count(): void {
  for (const name of LOOKS) {
    const original = BlockMap.prototype[name] as (...parameters: unknown[]) => unknown;
    originals.set(name, original);
    Object.defineProperty(BlockMap.prototype, name, {
      configurable: true,
      writable: true,
      value(this: BlockMap, ...parameters: unknown[]): unknown {
        if (depth === 0) looks++;
        depth++;
        try {
          return original.apply(this, parameters);
        } finally {
          if (--depth === 0) {
            const then = afterLook;
            afterLook = undefined;
            then?.();
          }
        }
      },
    });
  }
}

describe("looks at the bitmap", () => {
  let stack: ServedStack;
  let image: LiveImage;

  beforeEach(async () => {
    const base = at("base.img");
    writeFileSync(base, Buffer.alloc(2048 * KIB, 0xb5));
    const cowfile = await makeCowfile(base, at(`${number++}.cow`));
    stack = await ServedStack.open(nodeStorage, `${base},${cowfile}`, { access: "writable" });
    image = stack.image();
    count();
  });

  afterEach(() => {
    for (const [name, value] of originals)
      Object.defineProperty(BlockMap.prototype, name, { configurable: true, writable: true, value });
    stack.abandon();
  });

  const looksOf = (work: () => void): number => {
    looks = 0;
    work();
    image.commit();
    return looks;
  };

  it.each([
    ["allocates", 4 * KIB, 4 * KIB],
    ["allocates one block", 4 * KIB, KIB],
    ["copies both ends up", 4 * KIB + 100, 3 * KIB],
    ["copies a block up around it", 4 * KIB + 100, 200],
  ])("a write that %s: one", (_, offset, length) => {
    expect(looksOf(() => image.write(new Uint8Array(length).fill(1), offset))).toBe(1);
    expect(looksOf(() => image.write(new Uint8Array(length).fill(2), offset))).toBe(1);
    const read = new Uint8Array(length + 2);
    image.read(read, offset - 1);
    expect(read).toEqual(Uint8Array.of(0xb5, ...new Uint8Array(length).fill(2), 0xb5));
  });

  it("a write over three regions: one for each", () => {
    expect(looksOf(() => image.write(new Uint8Array(512 * KIB).fill(1), 128 * KIB))).toBe(3);
    expect(looksOf(() => image.write(new Uint8Array(512 * KIB).fill(2), 128 * KIB))).toBe(3);
  });

  it("a write to blocks of which some are allocated: one", () => {
    image.write(new Uint8Array(2 * KIB).fill(1), 8 * KIB);
    image.commit();
    expect(looksOf(() => image.write(new Uint8Array(8 * KIB).fill(3), 5 * KIB + 1))).toBe(1);
    const read = new Uint8Array(8 * KIB);
    image.read(read, 5 * KIB + 1);
    expect(read.every((byte) => byte === 3)).toBe(true);
  });

  it("zeros: one", () => {
    expect(looksOf(() => image.zero(64 * KIB, 64 * KIB, { mayPunch: true }))).toBe(1);
    expect(looksOf(() => image.zero(64 * KIB, 64 * KIB, { mayPunch: false }))).toBe(1);
  });

  it("another thread's write between the look and the lock is not copied over", () => {
    const other = stack.image();
    afterLook = () => {
      other.write(new Uint8Array(100).fill(7), 12 * KIB);
      other.commit();
    };
    image.write(new Uint8Array(100).fill(8), 12 * KIB + 200);
    image.commit();
    const read = new Uint8Array(400);
    image.read(read, 12 * KIB);
    const of = (value: number): number[] => Array<number>(100).fill(value);
    expect([...read]).toEqual([...of(7), ...of(0xb5), ...of(8), ...of(0xb5)]);
  });
});
