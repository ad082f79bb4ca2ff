/**
 * Proves that conversions keep what is shown: random stacks of every format of layers, converted there, on, and back. So
 * many runs as COWTOOL_CONVERT_RUNS says.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { convert, MemoryStorage, openStack } from "../../../src/lib/index.ts";
import {
  drawing,
  layerFormat,
  layerText,
  putStack,
  unitBits,
  unitOf,
  viewOf,
} from "../../support/images/random-stacks.ts";

const numRuns = Number(process.env["COWTOOL_CONVERT_RUNS"] ?? 200);
const timeout = Math.max(60_000, numRuns * 100);

function expectSame(seen: Uint8Array, wanted: Uint8Array, what: string): void {
  if (seen.length !== wanted.length) throw new Error(`${what}: ${seen.length} bytes, not ${wanted.length}`);
  if (Buffer.compare(seen, wanted) !== 0) {
    const at = seen.findIndex((byte, i) => byte !== wanted[i]);
    throw new Error(`${what}: differs at ${at}`);
  }
}

test(
  "conversions there, on and back keep the view",
  async () => {
    await fc.assert(
      fc.asyncProperty(
        drawing,
        fc.array(fc.record({ to: layerFormat, unit: unitBits, isWhole: fc.boolean() }), { minLength: 1, maxLength: 4 }),
        async (drawn, steps) => {
          const storage = new MemoryStorage();
          const { stack, image } = await putStack(storage, drawn);
          const inputs = new Map(storage.paths().map((path) => [path, storage.content(path)?.toBytes()]));
          expectSame(await viewOf(storage, stack), image, stack);
          let [at, path] = [stack, "begin"];
          for (const [i, { to, unit, isWhole }] of steps.entries()) {
            const output = `out${i}`;
            path += ` → ${to}`;
            const request = { to, ...unitOf(to, 2 ** unit) };
            if (isWhole) {
              await convert(at, `${output}.img`, { to: "raw" }, { storage });
              expectSame(storage.content(`${output}.img`)?.toBytes() ?? new Uint8Array(), image, `${path} as raw`);
              await convert(at, `${output}.qcow2`, { to: "qcow2", clusterBytes: 2 ** unit }, { storage });
              expectSame(await viewOf(storage, `qcow2:${output}.qcow2`), image, `${path} as qcow2`);
            }
            await convert(at, output, { ...request, base: "base.img" }, { storage });
            at = `base.img,${layerText(to, output)}`;
            expectSame(await viewOf(storage, at), image, path);
            if (to === "qcow2")
              expectSame(await viewOf(storage, `qcow2:backing;${output}`), image, `${path} and backing`);
            if (to === "dm-cow") expectSame(await viewOf(storage, `dm-cow:${output}`), image, `${path} and base`);
          }
          for (const [name, content] of inputs)
            expectSame(storage.content(name)?.toBytes() ?? new Uint8Array(), content ?? new Uint8Array(), name);
          expect(storage.paths().filter((name) => name.includes("partial"))).toEqual([]);
        },
      ),
      { numRuns },
    );
  },
  timeout,
);

test(
  "the page's exact conversions keep the extents: cowfile to a store of chunks of two sectors, and to dm-cow, and back",
  async () => {
    await fc.assert(
      fc.asyncProperty(drawing, async (drawn) => {
        const storage = new MemoryStorage();
        const { stack } = await putStack(storage, {
          ...drawn,
          layers: drawn.layers.map((layer) => ({ ...layer, format: "cowfile" })),
        });
        if (drawn.layers.length === 0) return;
        await convert(stack, "one", { to: "cowfile", flatten: true }, { storage });
        const extents = await extentsOf(storage, "base.img,one");
        for (const [to, unit] of [
          ["dm-snapshot", 1024],
          ["dm-cow", 512],
          ["cowfile", 1024],
        ] as const) {
          const result = await convert(
            "base.img,one",
            "two",
            { to, ...unitOf(to, unit), replace: ["two"] },
            { storage },
          );
          expect(result.losses.filter(({ id }) => id === "extents-rounded")).toEqual([]);
          expect(await extentsOf(storage, `base.img,${layerText(to, "two")}`)).toEqual(extents);
          await convert(`base.img,${layerText(to, "two")}`, "back", { to: "cowfile", force: true }, { storage });
          expect(await extentsOf(storage, "base.img,back")).toEqual(extents);
        }
      }),
      { numRuns: Math.ceil(numRuns / 10) },
    );
  },
  timeout,
);

async function extentsOf(storage: MemoryStorage, stack: string): Promise<unknown> {
  const opened = await openStack(storage, stack);
  try {
    return [...(opened.layers.at(-1)?.extents(0, opened.device.sizeBytes) ?? [])];
  } finally {
    opened.close();
  }
}
