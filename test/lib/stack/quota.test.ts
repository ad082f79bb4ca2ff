/**
 * Proves that a quota is exact: what a written layer has allocated is counted as its bitmap or its list says, with trims,
 * zeros and refused writes in between, and nothing is allocated beyond the quota.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CowError, create, MemoryStorage } from "../../../src/lib/index.ts";
import type { LiveImage } from "../../../src/lib/stack/live/image.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { createStore } from "../../support/images/write-store.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { bytesOf, deviceOf } from "../../support/storage/memory-files.ts";

const KIB = 1024;
/** Three regions of a cowfile's locks. */
const SIZE = 600 * KIB;
/** No byte of the base is zero, so that whatever becomes zero needs a mark. */
const BASE = noise(SIZE, 5).map((byte) => byte | 1);

const KINDS = { cowfile: KIB, store: 4 * KIB } as const;
type Kind = keyof typeof KINDS;

async function openFresh(kind: Kind): Promise<{ storage: MemoryStorage; stack: ServedStack }> {
  const storage = new MemoryStorage();
  storage.put("base", BASE);
  if (kind === "cowfile") await create("base", "top", {}, { storage });
  else {
    const device = deviceOf(0);
    createStore(device, { chunkSectors: KINDS.store / 512 });
    storage.put("top", bytesOf(device));
  }
  return { storage, stack: await ServedStack.open(storage, "base,top", { access: "writable" }) };
}

/** What the layer itself says. */
function allocatedBytes(image: LiveImage, from = 0, to = SIZE): number {
  let bytes = 0;
  image.status("dirty", from, to - from, (length, flags) => {
    bytes += flags * length;
    return true;
  });
  return bytes;
}

const ranges = { at: fc.integer({ min: 0, max: SIZE - 1 }), length: fc.integer({ min: 1, max: 40 * KIB }) };
const ops = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom("write" as const, "write" as const, "zero" as const, "punch" as const, "trim" as const),
      ...ranges,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("quota" as const),
      bytes: fc.option(fc.integer({ min: 0, max: SIZE }), { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "flush" as const }) },
);

describe.each(["cowfile", "store"] as const)("the quota of a %s", (kind) => {
  const unit = KINDS[kind];

  test("is what decides, and is never exceeded", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(ops, { minLength: 10, maxLength: 40 }), async (list) => {
        const { storage, stack } = await openFresh(kind);
        const { usage } = stack;
        const image = stack.image();
        const model = Buffer.from(BASE);
        for (const op of list) {
          if (op.kind === "quota") usage?.setQuota(op.bytes);
          else if (op.kind === "flush") image.flush();
          else {
            const { at } = op;
            const end = Math.min(SIZE, at + op.length);
            const [first, last] = [Math.floor(at / unit) * unit, Math.min(SIZE, Math.ceil(end / unit) * unit)];
            const units = (bytes: number): number => Math.ceil(bytes / unit);
            const before = units(allocatedBytes(image));
            const fresh = units(last - first) - units(allocatedBytes(image, first, last));
            const room = Math.floor((usage?.quotaBytes ?? Number.POSITIVE_INFINITY) / unit) - before;
            let failure: unknown;
            try {
              if (op.kind === "write") image.write(noise(end - at, before), at);
              else if (op.kind === "trim") image.trim(at, end - at);
              else image.zero(at, end - at, { mayPunch: op.kind === "punch" });
            } catch (error) {
              failure = error;
            }
            image.commit();
            if (op.kind === "trim") expect(failure).toBeUndefined();
            else if (fresh > Math.max(0, room)) expect(failure).toMatchObject({ code: "no-space" });
            else expect(failure).toBeUndefined();
            expect(failure === undefined || failure instanceof CowError).toBe(true);
            const after = Buffer.alloc(SIZE);
            image.read(after, 0);
            const wanted = op.kind === "write" ? noise(end - at, before) : Buffer.alloc(end - at);
            const isWhole = failure === undefined && op.kind !== "trim";
            for (let i = at; i < end; i++) {
              if (after[i] === wanted[i - at] || (!isWhole && after[i] === model[i])) continue;
              throw new Error(`${op.kind}: byte ${i} is ${after[i]}`);
            }
            expect(after.subarray(0, at).equals(model.subarray(0, at))).toBe(true);
            expect(after.subarray(end).equals(model.subarray(end))).toBe(true);
            model.set(after);
            expect(usage?.allocatedUnits).toBe(units(allocatedBytes(image)));
            expect(usage?.allocatedUnits).toBeLessThanOrEqual(Math.max(before, before + room));
          }
        }
        const last = usage?.allocatedUnits;
        stack.close();
        const again = await ServedStack.open(storage, "base,top", { access: "writable", quotaBytes: 7 * unit + 1 });
        expect(again.usage?.allocatedUnits).toBe(last);
        expect(again.usage?.quotaBytes).toBe(7 * unit);
        again.close();
      }),
      { numRuns: runs(25) },
    );
  });

  test("lets a trim of more than fits discard what is allocated", async () => {
    const { stack } = await openFresh(kind);
    const image = stack.image();
    image.write(noise(4 * unit, 2), 0);
    stack.usage?.setQuota(4 * unit);
    image.trim(0, 16 * unit);
    image.commit();
    const after = Buffer.alloc(16 * unit);
    image.read(after, 0);
    expect(after.subarray(0, 4 * unit).equals(Buffer.alloc(4 * unit))).toBe(true);
    expect(after.subarray(4 * unit).equals(BASE.subarray(4 * unit, 16 * unit))).toBe(true);
    // What was punched is still allocated, and can be written.
    image.write(noise(4 * unit, 3), 0);
    expect(() => image.write(noise(1, 3), 5 * unit)).toThrow("quota");
    stack.close();
  });
});

test("a throw-away layer has a quota as well", async () => {
  const storage = new MemoryStorage();
  storage.put("base", BASE);
  const stack = await ServedStack.open(storage, "base", { access: "ephemeral", quotaBytes: 2 * KIB });
  const image = stack.image();
  image.write(noise(2 * KIB, 1), 0);
  expect(() => image.write(noise(1, 1), 2 * KIB)).toThrow("quota");
  stack.close();
});
