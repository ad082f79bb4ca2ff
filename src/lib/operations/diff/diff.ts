/**
 * Owns `diff`: where two images, stacks or bare cowfiles differ. Metadata first: what no layer holds is never read.
 */
import { type Extent, ExtentList, inOrder, intersect, subtract, widen } from "../../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { Layer } from "../../formats/format.ts";
import { allocatedBy, LayeredImage } from "../../formats/layered-image.ts";
import { walkExtents } from "../../formats/walk-extents.ts";
import { sharedParts } from "../../stack/open.ts";
import type { StackSpec } from "../../stack/spec.ts";
import { create } from "../create.ts";
import { OpenFiles } from "../files.ts";
import { type ComparisonHooks, compareExtents } from "./comparison.ts";
import type { Difference, DifferenceKind, DiffRequest, DiffResult } from "./request.ts";
import { candidates, isBareLayer, openBare, requireSameBase } from "./sides.ts";

/**
 * Compares A with B. Each is a stack `BASE[,LAYER]…`, an image, or a cowfile by itself; cowfiles by themselves must be of
 * one base, and are read over `rdofile` if one is given.
 *
 * @throws CowError `usage`, `wrong-base`, `dirty`, `packed`, `damaged`, `not-found`, `locked`, `exists`, `io`, `interrupted`
 */
export async function diff(
  a: string,
  b: string,
  request: DiffRequest = {},
  context: OperationContext = {},
): Promise<DiffResult> {
  return OpenFiles.during(context, async (files) => {
    const [specA, specB] = [files.stackSpec(a), files.stackSpec(b)];
    const [bareA, bareB] = [isBareLayer(files, specA), isBareLayer(files, specB)];
    const rdofile = files.stackSpec(request.rdofile);
    if (rdofile && !bareA && !bareB) {
      throw new CowError("usage", "--rdofile goes with cowfiles by themselves: neither side is one");
    }
    if (!rdofile && bareA !== bareB) {
      throw new CowError("usage", "is a cowfile by itself, which cannot be compared with an image", {
        file: bareA ? a : b,
        hints: ["name its base, as BASE,COWFILE or with --rdofile BASE"],
      });
    }
    if (!rdofile && bareA) {
      if (request.delta !== undefined) throw new CowError("usage", "a delta needs the base: name it with --rdofile");
      const layer = await openBare(files, specA.base, context);
      return diffBare(layer, await openBare(files, specB.base, context), request, context);
    }
    const stackA = bareA && rdofile ? rdofile.with(specA.base) : specA;
    const stackB = bareB && rdofile ? rdofile.with(specB.base) : specB;
    const { result, differing } = await diffImages(files, [stackA, stackB], a, request, context);
    const { delta, force, replace } = request;
    if (delta !== undefined) await create(stackA, delta, { from: stackB, differing, force, replace }, context);
    return result;
  });
}

function hooksFor(name: string, total: number, request: DiffRequest, context: OperationContext): ComparisonHooks {
  return {
    samples: request.hexdump ?? 0,
    pause: makePause(context.signal, () => interrupted(name, "nothing was changed")),
    checkpoint: (done) => context.onProgress?.({ phase: "comparing", done, total, unit: "bytes" }),
  };
}

async function diffImages(
  files: OpenFiles,
  [stackA, stackB]: readonly [StackSpec, StackSpec],
  nameA: string,
  request: DiffRequest,
  context: OperationContext,
): Promise<{ readonly result: DiffResult; readonly differing: ExtentList }> {
  const a = await files.openStack(stackA);
  const b = await files.openStack(stackB);
  const size = Math.max(a.device.sizeBytes, b.device.sizeBytes);
  const common = Math.min(a.device.sizeBytes, b.device.sizeBytes);
  const hooks = hooksFor(nameA, size, request, context);
  const comparison = await compareExtents(
    a.device,
    b.device,
    widen(candidates(a, b, common), BLOCK_BYTES, common),
    hooks,
  );
  const changed = await listOf(comparison.different, hooks);
  // What only one side has is a difference, whatever it holds.
  changed.append(common, size - common);
  // Where one side holds nothing it shows the base: over a common base the other side's blocks are redundant if the same.
  const ofOneSide =
    sharedParts(a, b) > 0
      ? inOrder(
          subtract(allocatedBy(a.layers, 0, common), allocatedBy(b.layers, 0, common)),
          subtract(allocatedBy(b.layers, 0, common), allocatedBy(a.layers, 0, common)),
        )
      : [];
  const redundant = await listOf(intersect(comparison.same, ofOneSide), hooks);
  hooks.checkpoint(size);
  const result = {
    identical: changed.totalBytes === 0,
    virtualSizeBytes: size,
    bytesDifferent: comparison.different.totalBytes + size - common,
    extents: kinds(changed, "changed"),
    extentsOmitted: comparison.different.omitted,
    redundant,
    samples: comparison.samples,
  };
  return { result, differing: comparison.different };
}

async function diffBare(a: Layer, b: Layer, request: DiffRequest, context: OperationContext): Promise<DiffResult> {
  requireSameBase(a, b);
  const end = a.virtualSizeBytes;
  const hooks = hooksFor(a.name, end, request, context);
  const both = intersect(a.extents(0, end), b.extents(0, end));
  const comparison = await compareExtents(alone(a), alone(b), both, hooks);
  const { different } = comparison;
  const onlyA = await listOf(subtract(a.extents(0, end), b.extents(0, end)), hooks);
  const onlyB = await listOf(subtract(b.extents(0, end), a.extents(0, end)), hooks);
  hooks.checkpoint(end);
  const bytesDifferent = different.totalBytes + onlyA.totalBytes + onlyB.totalBytes;
  return {
    identical: bytesDifferent === 0,
    virtualSizeBytes: end,
    bytesDifferent,
    extents: {
      [Symbol.iterator]: () =>
        inOrder(kinds(different, "changed"), inOrder(kinds(onlyA, "only_a"), kinds(onlyB, "only_b"))),
    },
    extentsOmitted: different.omitted + onlyA.omitted + onlyB.omitted,
    redundant: new ExtentList(),
    samples: comparison.samples,
  };
}

async function listOf(extents: Iterable<Extent>, { pause }: ComparisonHooks): Promise<ExtentList> {
  const list = new ExtentList();
  await walkExtents(extents, pause, ({ offset, length }) => list.append(offset, length));
  return list;
}

function kinds(extents: Iterable<Extent>, kind: DifferenceKind): Iterable<Difference> {
  return {
    *[Symbol.iterator]() {
      for (const { offset, length } of extents) yield { offset, length, kind };
    },
  };
}

/** What a layer holds, over zeros. */
function alone(layer: Layer): LayeredImage {
  return new LayeredImage(layer.name, undefined, [layer]);
}
