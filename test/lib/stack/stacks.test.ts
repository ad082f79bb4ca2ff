/**
 * Proves stacks of any mix of formats: they show what their layers, one after the other, make of the base; squash, invert and
 * merge keep what is shown; and parts are taken apart, or refused, as they are written.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CowError,
  check,
  diff,
  invert,
  MemoryStorage,
  merge,
  openStack,
  parseStack,
  squash,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { parsePart } from "../../../src/lib/stack/part.ts";
import { StackSpec } from "../../../src/lib/stack/spec.ts";
import { appliedTo, LAYER_KINDS, type LayerPlan, makeLayer } from "../../support/images/mixed-stacks.ts";

const SECTOR = 512;
const SECTORS = 96;

const plan = fc.record({
  kind: fc.constantFrom(...LAYER_KINDS),
  sectors: fc.array(fc.tuple(fc.nat(SECTORS - 1), fc.nat(255)), { maxLength: 12 }),
});
const plans = fc.array(plan, { minLength: 1, maxLength: 5 });

interface Built {
  readonly storage: MemoryStorage;
  readonly parts: readonly string[];
  /** What is shown up to each part, the base first. */
  readonly shown: readonly Uint8Array[];
}

async function build(layers: readonly LayerPlan[]): Promise<Built> {
  const storage = new MemoryStorage();
  const base = Uint8Array.from({ length: SECTORS * SECTOR }, (_, i) => (i * 31 + (i >> 9)) % 251);
  storage.put("base", base);
  const parts = ["base"];
  const shown: Uint8Array[] = [base];
  for (const [i, layer] of layers.entries()) {
    const below = shown.at(-1) ?? base;
    parts.push(await makeLayer(storage, `layer${i}`, layer, { text: parts.join(","), below }));
    shown.push(appliedTo(below, layer));
  }
  return { storage, parts, shown };
}

async function read(storage: MemoryStorage, text: string): Promise<Uint8Array> {
  const stack = await openStack(storage, text);
  try {
    const bytes = new Uint8Array(stack.device.sizeBytes);
    stack.device.read(bytes, 0);
    return bytes;
  } finally {
    stack.close();
  }
}

async function expectShown(storage: MemoryStorage, text: string, wanted: Uint8Array | undefined): Promise<void> {
  expect(Buffer.compare(await read(storage, text), wanted ?? new Uint8Array()), text).toBe(0);
}

const SOME = { numRuns: 60 };

describe("a stack of any mix", () => {
  it("shows what each layer makes of those below it", async () => {
    await fc.assert(
      fc.asyncProperty(plans, async (layers) => {
        const { storage, parts, shown } = await build(layers);
        for (const i of parts.keys()) await expectShown(storage, parts.slice(0, i + 1).join(","), shown[i]);
      }),
      SOME,
    );
  });

  it("shows the same when any range of its layers is squashed into one", async () => {
    await fc.assert(
      fc.asyncProperty(plans, fc.nat(), fc.nat(), async (layers, a, b) => {
        const { storage, parts, shown } = await build(layers);
        const from = 1 + (a % layers.length);
        const to = from + (b % (layers.length - from + 1));
        const { over } = await squash(parts.join(","), "one", { from, to }, { storage });
        await expectShown(storage, `${over},one`, shown[to]);
        await expectShown(storage, parts.join(","), shown.at(-1));
        // What lies above it, and knows its base by a fingerprint, still fits.
        await expectShown(storage, [...parts.slice(0, from), "one", ...parts.slice(to + 1)].join(","), shown.at(-1));
        expect((await verifyFingerprint(over, "one", {}, { storage })).match).toBe(true);
        expect((await check("one", {}, { storage })).worst).toMatchObject({ fixable: 0, unfixable: 0 });
      }),
      SOME,
    );
  });

  it("shows the old base through base and layer exchanged, and itself when they are exchanged again", async () => {
    await fc.assert(
      fc.asyncProperty(plans, async (layers) => {
        const { storage, parts, shown } = await build(layers);
        const below = parts.slice(0, -1).join(",");
        await invert(below, parts.at(-1) ?? "", { output: "new", layer: "old" }, { storage });
        await expectShown(storage, "new", shown.at(-1));
        await expectShown(storage, "new,old", shown.at(-2));
        await invert("new", "old", { output: "again", layer: "back" }, { storage });
        await expectShown(storage, "again", shown.at(-2));
        await expectShown(storage, "again,back", shown.at(-1));
      }),
      SOME,
    );
  });

  it("is merged layer by layer: into the base, into a cowfile, into a new image", async () => {
    await fc.assert(
      fc.asyncProperty(plans, async (layers) => {
        const { storage, parts, shown } = await build(layers);
        const top = parts.at(-1) ?? "";
        const below = parts.slice(0, -1);
        await merge(below.join(","), top, { output: "out" }, { storage });
        await expectShown(storage, "out", shown.at(-1));
        await expectShown(storage, parts.join(","), shown.at(-1));
        if (below.length > 1 && layers.at(-2)?.kind !== "cowfile") {
          await expect(merge(below.join(","), top, {}, { storage })).rejects.toMatchObject({ code: "unsupported" });
          return;
        }
        const result = await merge(below.join(","), top, {}, { storage });
        expect(result.output).toBe(below.at(-1));
        await expectShown(storage, below.join(","), shown.at(-1));
      }),
      SOME,
    );
  });

  it("differs from another over the same base where they show different bytes", async () => {
    await fc.assert(
      fc.asyncProperty(plans, fc.nat(), async (layers, cut) => {
        const { storage, parts, shown } = await build(layers);
        const depth = cut % parts.length;
        const { identical } = await diff(parts.join(","), parts.slice(0, depth + 1).join(","), {}, { storage });
        expect(identical).toBe(
          Buffer.compare(shown.at(-1) ?? new Uint8Array(), shown[depth] ?? new Uint8Array()) === 0,
        );
      }),
      SOME,
    );
  });

  it("takes 64 layers", async () => {
    const layers = Array.from({ length: 64 }, (_, i) => ({
      kind: LAYER_KINDS[i % LAYER_KINDS.length] ?? "cowfile",
      sectors: [[i, i + 1]] as const,
    }));
    const { storage, parts, shown } = await build(layers);
    await expectShown(storage, parts.join(","), shown.at(-1));
    await expect(openStack(storage, [...parts, "layer0"].join(","))).rejects.toMatchObject({ code: "usage" });
  });
});

describe("a stack as written", () => {
  it.each([
    ["base", ["base"]],
    ["base,vm", ["base,vm"]],
    ["raw:base,vm", ["base,vm"]],
    ["base\\,vm", ["base,vm"]],
    ["base,vm,top", ["base", "vm", "top"]],
    ["base\\,vm,snap:a;b", ["base,vm", "a", "b"]],
    [`base,${"x".repeat(300)},y`, ["base", "x".repeat(300), "y"]],
    ["nbd://host/base,vm", ["nbd://host/base", "vm"]],
  ])("%s", (text, files) => {
    const there = ["base", "base,vm", "vm", "nbd://host/base,vm"];
    const storage = Object.assign(new MemoryStorage(), {
      facts(path: string) {
        if (path.length > 255) throw new CowError("io", "cannot look at it", { file: path });
        const kind = path.includes("://") ? "remote" : "file";
        return there.includes(path) ? { kind, sizeBytes: 1, allocatedBytes: 1, identity: path } : undefined;
      },
    });
    const spec = StackSpec.parse(storage, text);
    expect(spec.files).toEqual(files);
    expect(spec.text).toBe(text);
    const [base, ...layers] = spec.parts;
    const again = new StackSpec([base]).with(...layers);
    expect(parseStack(again.text).map((part) => parsePart(part))).toEqual(spec.parts);
    if (layers.length > 0) expect(spec.below.with(spec.top).files).toEqual(files);
  });
});

describe("a part of a stack", () => {
  it.each([
    ["base.img", undefined, [], ["base.img"]],
    ["a:b;c=d", undefined, [], ["a:b;c=d"]],
    ["./raw:disk", undefined, [], ["./raw:disk"]],
    ["nbd://host/name", undefined, [], ["nbd://host/name"]],
    ["raw:disk.img", "raw", [], ["disk.img"]],
    ["raw:a;b", "raw", [], ["a;b"]],
    [
      "snap:block=1024;word=4;endian=little;log0;log1",
      "snap",
      ["block=1024", "word=4", "endian=little"],
      ["log0", "log1"],
    ],
    ["snap:a\\;b;c", "snap", [], ["a;b", "c"]],
    ["dm-cow:layer", "dm-cow", [], ["layer"]],
    ["dm-cow:recover;recover", "dm-cow", ["recover="], ["recover"]],
    ["dm-cow:bitmap=as-coded:4096;recover;./x=y", "dm-cow", ["bitmap=as-coded:4096", "recover="], ["./x=y"]],
  ])("%s", (text, format, settings, paths) => {
    const part = parsePart(text);
    expect(typeof part.format === "object" ? part.format.id : part.format).toBe(format);
    expect([...part.settings].map(([name, value]) => `${name}=${value}`)).toEqual(settings);
    expect([part.path, ...part.more]).toEqual(paths);
  });

  it.each([
    "raw:",
    "snap:",
    "snap:block=1;",
    "dm-cow:nonsense=1;t",
    "dm-cow:recover=1;t",
    "dm-cow:a;b",
    "dm-cow:bitmap;t",
    "snap:a;;b",
  ])("%s is refused", (text) => expect(() => parsePart(text)).toThrow(expect.objectContaining({ code: "usage" })));

  it("is refused as a base if it looks like another format, unless it is said to be raw", async () => {
    const { storage } = await build([
      { kind: "cowfile", sectors: [[1, 1]] },
      { kind: "dm-snapshot", sectors: [[2, 2]] },
      { kind: "dm-cow", sectors: [[3, 3]] },
    ]);
    for (const name of ["layer0", "layer1", "layer2"]) {
      await expect(openStack(storage, name), name).rejects.toMatchObject({
        code: "unsuitable",
        hints: expect.arrayContaining([expect.stringContaining(`raw:${name}`)]),
      });
      (await openStack(storage, `raw:${name}`)).close();
    }
    await expect(openStack(storage, "base,layer2")).rejects.toMatchObject({ code: "usage" });
    await expect(openStack(storage, "base,raw:layer2")).rejects.toMatchObject({ code: "usage" });
  });
});
