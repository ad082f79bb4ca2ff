/**
 * Owns the three-way merge of siblings: two layers over one base become one cowfile over it, with what each of them changed.
 * What both changed to different things is a conflict: it is listed, and nothing is written unless one side is preferred.
 */
import { type Extent, ExtentList, inOrder, intersect, subtract, widen } from "../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { CowfileLayer } from "../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../formats/cowfile/layout.ts";
import type { Layer } from "../formats/format.ts";
import { LayeredImage } from "../formats/layered-image.ts";
import { walkExtents } from "../formats/walk-extents.ts";
import type { Overwrite } from "../output/claim.ts";
import { compare } from "../output/differences.ts";
import type { Held } from "../output/write-image.ts";
import { belowLayer } from "../stack/overlay.ts";
import { parsePart, type StackPart } from "../stack/part.ts";
import type { StackSpec } from "../stack/spec.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { requireFit } from "./fit.ts";
import { requireSameBases } from "./identity/stack-bases.ts";
import { noticeUnmarkedOf, requireUndoubted } from "./merge/doubts.ts";
import { makeCowfile } from "./new-cowfile.ts";

/** The side that is taken where both changed the same. */
export type Preferred = "a" | "b";

/** What `mergeSiblings` is asked for. */
export interface ThreeWayRequest extends Overwrite {
  /** The new cowfile. */
  readonly output: string;
  /** Which side to take where both changed; without it a conflict ends the merge. */
  readonly prefer?: Preferred | undefined;
  readonly dryRun?: boolean | undefined;
}

/** What `mergeSiblings` took from which side, and where they contradict each other. */
export interface ThreeWayResult {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly sibling: string;
  readonly mode: "three-way";
  readonly output: string;
  /** Blocks of the new cowfile, and their bytes. */
  readonly blocks_merged: number;
  readonly bytes_merged: number;
  /** Bytes that only the first layer changed, and that only the second one did. */
  readonly from_a: number;
  readonly from_b: number;
  /** Bytes that both hold alike. */
  readonly in_both: number;
  /** Where both changed the base to different things; whole blocks, in bytes of the image. */
  readonly conflicts: Iterable<Extent>;
  readonly conflicts_omitted: number;
  readonly bytes_in_conflict: number;
  readonly preferred: Preferred | null;
  /** False for a dry run, and where conflicts ended the merge. */
  readonly written: boolean;
  readonly dry_run: boolean;
  /** As other merges have it. */
  readonly resumed: false;
}

/**
 * Merges layers `a` and `b` over `base` (a stack) into a new cowfile over it, which appears whole or not at all. With conflicts
 * and no preference nothing is written, and the result lists them.
 *
 * @throws CowError `wrong-base`, `unsuitable` (a layer that changes the size), `dirty`, `damaged`, `exists`, `usage`,
 *   `pending-merge`, `locked`, `no-space`, `io`, `interrupted`
 */
export async function mergeSiblings(
  base: string | StackSpec,
  a: string,
  b: string,
  request: ThreeWayRequest,
  context: OperationContext = {},
): Promise<ThreeWayResult> {
  const { output, prefer, dryRun = false, force = false } = request;
  return OpenFiles.during(context, async (files) => {
    const spec = files.stackSpec(base);
    const parts = [parsePart(a), parsePart(b)] as const;
    refuseSameFile(files.storage, output, spec.with(...parts).files);
    refusePending(files.storage, spec, [a, b, output], force);
    const [ours, theirs] = [
      await openSibling(files, spec, parts[0], force, context),
      await openSibling(files, spec, parts[1], force, context),
    ];
    refuseSameFile(files.storage, output, [...ours.paths, ...theirs.paths]);
    const abi = ours.layer instanceof CowfileLayer ? ours.layer.opened.head.abi : "le64";
    const rdoBlocks = requireFit(ours.below, ours.device, abi, context);
    requireFit(theirs.below, theirs.device, abi, {});
    const layers = [ours.layer, theirs.layer];
    for (const layer of layers) await requireUndoubted(layer, force, context);
    await noticeUnmarkedOf(layers, context, "merged");
    const all = () => decisions(ours, theirs, rdoBlocks * BLOCK_BYTES);
    const found = await survey(all(), context);
    const isRefused = found.conflict.totalBytes > 0 && prefer === undefined;
    const inputs = [...ours.paths, ...theirs.paths];
    if (!dryRun && !isRefused) {
      const over = { base: ours.below, basePaths: ours.basePaths, inputs, rdoBlocks, abi };
      const held = heldOf(all(), ours, theirs, prefer);
      const job = { ...over, output, allowed: request, phase: "merging", view: ours.view, held };
      await makeCowfile(files, job, context);
    }
    const { totals, conflict } = found;
    const bytes = totals.a + totals.b + totals.both + conflict.totalBytes;
    return {
      rdofile: spec.text,
      cowfile: a,
      sibling: b,
      mode: "three-way",
      output,
      blocks_merged: isRefused ? 0 : bytes / BLOCK_BYTES,
      bytes_merged: isRefused ? 0 : bytes,
      from_a: totals.a,
      from_b: totals.b,
      in_both: totals.both,
      conflicts: conflict,
      conflicts_omitted: conflict.omitted,
      bytes_in_conflict: conflict.totalBytes,
      preferred: prefer ?? null,
      written: !dryRun && !isRefused,
      dry_run: dryRun,
      resumed: false,
    };
  });
}

interface Sibling {
  readonly layer: Layer;
  /** What it is over, and what it shows of that. */
  readonly below: BlockDevice;
  readonly device: BlockDevice;
  readonly view: LayeredImage;
  readonly basePaths: readonly string[];
  readonly paths: readonly string[];
}

async function openSibling(
  files: OpenFiles,
  base: StackSpec,
  part: StackPart,
  force: boolean,
  context: OperationContext,
): Promise<Sibling> {
  const stack = await files.openStack(base.with(part), force);
  const { layers, device, paths } = stack;
  const layer = layers.at(-1);
  if (!layer) throw new CowError("usage", "is not a layer", { file: part.path });
  const way = force ? undefined : "--force merges all the same";
  await requireSameBases(files, stack, { from: layers.length, way }, context);
  const view = new LayeredImage(stack.base.name, stack.base, layers);
  return {
    layer,
    below: belowLayer(stack, layers.length),
    device,
    view,
    basePaths: stack.pathsOf(layers.length),
    paths,
  };
}

/** Whole blocks, and whose content they get; extents without a length are pauses. */
interface Decision extends Extent {
  readonly take: Preferred | "both" | "conflict";
}

/** What becomes of each block that a layer holds, ascending. What no layer holds stays as the base has it. */
function decisions(ours: Sibling, theirs: Sibling, end: number): Iterable<Decision> {
  const held = ({ layer }: Sibling) => widen(layer.extents(0, Math.min(end, layer.virtualSizeBytes)), BLOCK_BYTES, end);
  const alone = inOrder(taken(subtract(held(ours), held(theirs)), "a"), taken(subtract(held(theirs), held(ours)), "b"));
  return inOrder(alone, together(intersect(held(ours), held(theirs)), ours, theirs));
}

function* taken(extents: Iterable<Extent>, take: Preferred): Generator<Decision> {
  for (const { offset, length } of extents) yield { offset, length, take };
}

/** Of what both hold: the same on both sides, changed by one of them only, or by both. */
function* together(extents: Iterable<Extent>, ours: Sibling, theirs: Sibling): Generator<Decision> {
  for (const part of compare(ours.device, theirs.device, extents, BLOCK_BYTES)) {
    if (part.differs) yield* changed(part, ours, theirs);
    else yield { offset: part.offset, length: part.length, take: "both" };
  }
}

function* changed({ offset, length }: Extent, ours: Sibling, theirs: Sibling): Generator<Decision> {
  for (const part of compare(ours.device, ours.below, [{ offset, length }], BLOCK_BYTES)) {
    if (part.length === 0) continue;
    const at = { offset: part.offset, length: part.length };
    if (!part.differs) yield { ...at, take: "b" };
    else
      for (const inner of compare(theirs.device, ours.below, [at], BLOCK_BYTES))
        yield { offset: inner.offset, length: inner.length, take: inner.differs ? "conflict" : "a" };
  }
}

async function survey(all: Iterable<Decision>, { signal, onProgress }: OperationContext) {
  const totals = { a: 0, b: 0, both: 0 };
  const conflict = new ExtentList();
  const pause = makePause(signal, () => interrupted("", "nothing was created"));
  let done = 0;
  await walkExtents(all, pause, ({ offset, length, take }) => {
    if (take === "conflict") conflict.append(offset, length);
    else totals[take] += length;
    done += length;
    onProgress?.({ phase: "comparing", done, total: done, unit: "bytes" });
  });
  return { totals, conflict };
}

/** What the new cowfile holds: each part as its side shows it. */
function* heldOf(
  all: Iterable<Decision>,
  ours: Sibling,
  theirs: Sibling,
  prefer: Preferred | undefined,
): Generator<Held> {
  for (const { offset, length, take } of all) {
    const isTheirs = take === "b" || (take === "conflict" && prefer === "b");
    yield { offset, length, view: (isTheirs ? theirs : ours).view };
  }
}
