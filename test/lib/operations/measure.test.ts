/**
 * Proves that `measure` tells what `convert` then writes: lengths to the byte, and the space that the file takes; against
 * files in memory, a file system's own count, and what qemu-img measures.
 */
import { statSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { convert, create, MemoryStorage, measure } from "../../../src/lib/index.ts";
import { hasQemu, qemuImg } from "../../support/images/qemu-img.ts";
import { drawing, layerFormat, putStack, unitBits, unitOf } from "../../support/images/random-stacks.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();
const PAGE = 4096;

test("required and allocated_size are those of the file that is then written", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, layerFormat, unitBits, fc.boolean(), async (drawn, to, unit, isWhole) => {
      const storage = new MemoryStorage();
      const { stack } = await putStack(storage, drawn);
      const request = isWhole
        ? { to: to === "qcow2" ? to : ("raw" as const), ...(to === "qcow2" ? unitOf(to, 2 ** unit) : {}) }
        : { to, base: "base.img", ...unitOf(to, 2 ** unit) };
      const told = await measure(stack, request, { storage });
      const made = await convert(stack, "out", request, { storage });
      const names = request.to === "dm-cow" ? ["out.data", "out.bitmap"] : ["out"];
      const sum = (of: (name: string) => number): number => names.reduce((total, name) => total + of(name), 0);
      expect(told.required).toBe(sum((name) => storage.content(name)?.sizeBytes ?? 0));
      expect(told.allocated_size).toBe(sum((name) => (storage.content(name)?.pages.size ?? 0) * PAGE));
      expect([told.bytes_held, told.virtual_size, told.base]).toEqual([made.bytes_held, made.virtual_size, made.base]);
      expect(told.fully_allocated).toBeGreaterThanOrEqual(told.required);
    }),
    { numRuns: runs(60) },
  );
});

test("a file of which every block is held has the size that was told as the largest", async () => {
  const storage = new MemoryStorage();
  storage.put("base", noise(300 * 1024, 1));
  storage.put("image", noise(300 * 1024, 2));
  for (const to of ["raw", "qcow2", "cowfile", "dm-snapshot", "dm-cow"] as const) {
    const request = to === "raw" || to === "qcow2" ? { to } : { to, base: "base" };
    const { required, fully_allocated } = await measure("image", request, { storage });
    expect(fully_allocated, to).toBe(required);
  }
});

test("is what du counts, within 1 %, and what qemu-img measures of a qcow2 file", async () => {
  const size = 24 << 20;
  const bytes = new Uint8Array(size);
  for (const [from, length] of [
    [0, 3 << 20],
    [(5 << 20) + 4096, 8192],
    [20 << 20, 1 << 20],
  ] as const)
    bytes.set(noise(length, from + 1), from);
  writeFileSync(at("image"), bytes);
  writeFileSync(at("base"), new Uint8Array(size));
  await create(at("base"), at("cow"), { from: at("image") }, {});
  for (const to of ["raw", "qcow2", "cowfile", "dm-snapshot"] as const) {
    const stack = `${at("base")},${at("cow")}`;
    const told = await measure(stack, { to }, {});
    await convert(stack, at(`out.${to}`), { to }, {});
    const { size: length, blocks } = statSync(at(`out.${to}`));
    expect(told.required, to).toBe(length);
    expect(Math.abs(told.allocated_size - blocks * 512), to).toBeLessThanOrEqual(0.01 * blocks * 512 + PAGE);
    if (to !== "qcow2" || !hasQemu) continue;
    const theirs = JSON.parse(
      qemuImg(["measure", "-O", "qcow2", "--output=json", "-f", "raw", at("out.raw")]),
    ) as Record<string, number>;
    expect([told.required, told.fully_allocated]).toEqual([theirs["required"], theirs["fully-allocated"]]);
  }
});
