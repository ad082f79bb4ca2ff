/**
 * Owns `rebase`: a cowfile gets another base, and shows what it did. Blocks in which the bases differ, and which it does not
 * hold, are copied up from the old base. A new cowfile takes the place of the old one, so that an interruption leaves one or
 * the other; the same command then completes the work.
 */
import { inOrder, subtract, widen } from "../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../context.ts";
import { CowError, shellWord } from "../errors.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { encodeHead, formatFingerprint, storedFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES } from "../formats/cowfile/layout.ts";
import { fitsSize } from "../formats/format.ts";
import { LayeredImage } from "../formats/layered-image.ts";
import { walkExtents } from "../formats/walk-extents.ts";
import { compare } from "../output/differences.ts";
import type { Held } from "../output/write-image.ts";
import type { Stack } from "../stack/open.ts";
import { requireBelongs } from "../stack/open.ts";
import type { StackSpec } from "../stack/spec.ts";
import { candidates } from "./diff/sides.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { askAboutBase } from "./identity/ask.ts";
import { sayChanged } from "./identity/merge-guard.ts";
import { forgetOld } from "./identity/take.ts";
import { sizeOf } from "./merge/already.ts";
import { requireNothingLost } from "./merge/doubts.ts";
import { takeIdentity } from "./new-cowfile.ts";
import { type OwnCowfile, openOwnCowfile, replaceCowfile } from "./replace-cowfile.ts";

/** What `rebase` is asked for. */
export interface RebaseRequest {
  /** The stack that the cowfile is over; may be missing if `unsafe`. */
  readonly from?: string | StackSpec | undefined;
  /** The stack that it is to be over, of the same size. */
  readonly to: string | StackSpec;
  /**
   * Give up blocks that are the same in the new base. Where that has the fingerprint of the old one, only those that the old
   * one has as well, so that the call can be repeated; a rebase from the new base to itself then gives up the others.
   */
  readonly dropEqual?: boolean | undefined;
  /** Write only the identity of the new base; the cowfile then shows something else wherever the bases differ. */
  readonly unsafe?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  /** Override the checks: a base that changed, problems of the cowfile. */
  readonly force?: boolean | undefined;
}

/** What `rebase` did, or with `dryRun` would do. */
export interface RebaseResult {
  readonly cowfile: string;
  readonly from: string | null;
  readonly to: string;
  readonly rdo_blocks: number;
  readonly virtual_size: number;
  /** Of the new base. */
  readonly fingerprint: string;
  /** Allocated before. */
  readonly blocks_before: number;
  /** Allocated afterwards. */
  readonly blocks_used: number;
  /** Copied up from the old base. */
  readonly blocks_added: number;
  /** The same in the new base, and no longer held. */
  readonly blocks_dropped: number;
  readonly unsafe: boolean;
  /** It is over the new base already, and not over the old one: nothing was written. */
  readonly already_done: boolean;
  readonly dry_run: boolean;
}

/**
 * Rebases `cowfile`, in place.
 *
 * @throws CowError `wrong-base` (it is not over `from`, or that has changed), `unsuitable` (bases of different sizes),
 *   `unsupported` (no unpacked cowfile), `dirty`, `damaged`, `pending-merge`, `usage`, `locked`, `no-space`, `io`, `interrupted`
 */
export async function rebase(
  cowfile: string,
  request: RebaseRequest,
  context: OperationContext = {},
): Promise<RebaseResult> {
  const { unsafe = false, dryRun = false, force = false } = request;
  if (request.from === undefined && !unsafe)
    throw new CowError(
      "usage",
      "--from OLDBASE is needed, so that the view can be kept; without it only --unsafe goes",
    );
  return OpenFiles.during(context, async (files) => {
    const specs = { from: files.stackSpec(request.from), to: files.stackSpec(request.to) };
    const stacks = specs.from ? [specs.from, specs.to] : [specs.to];
    refuseSameFile(
      files.storage,
      cowfile,
      stacks.flatMap((stack) => stack.files),
    );
    for (const stack of stacks) refusePending(files.storage, stack, [cowfile], force);
    const own = await openOwnCowfile(files, cowfile, { dryRun, force }, context);
    const from = specs.from && (await files.openStack(specs.from, force));
    const to = await files.openStack(specs.to, force);
    refuseSameFile(files.storage, own.path, [...(from?.paths ?? []), ...to.paths]);
    const { rdoBlocks, toBlocks } = requireSameSize(own, to, { ...specs, unsafe });
    const { value } = await takeFingerprint(to.device, toBlocks, { signal: context.signal });
    const before = (await sizeOf(own.layer, context)).units;
    const isDone = from !== undefined && !unsafe && (await isOver(own, value, from, context));
    const change = isDone
      ? { used: before, added: 0, dropped: 0 }
      : from && !unsafe
        ? await safely(files, own, { from, to, toFingerprint: value }, request, context)
        : await onlyHead(files, own, { to, fingerprint: value, blocks: before }, dryRun, context);
    return {
      cowfile,
      from: specs.from?.text ?? null,
      to: specs.to.text,
      rdo_blocks: rdoBlocks,
      virtual_size: rdoBlocks * BLOCK_BYTES,
      fingerprint: formatFingerprint(value),
      blocks_before: before,
      blocks_used: change.used,
      blocks_added: change.added,
      blocks_dropped: change.dropped,
      unsafe,
      already_done: isDone,
      dry_run: dryRun,
    };
  });
}

/** Blocks afterwards, of those added, and those given up. */
interface Change {
  readonly used: number;
  readonly added: number;
  readonly dropped: number;
}

function requireSameSize(
  { layer, path }: OwnCowfile,
  { device }: Stack,
  { from, to, unsafe }: { readonly from: StackSpec | undefined; readonly to: StackSpec; readonly unsafe: boolean },
): { readonly rdoBlocks: number; readonly toBlocks: number } {
  const { rdoBlocks } = layer.opened.geometry;
  const blocks = Math.floor(device.sizeBytes / BLOCK_BYTES);
  if (blocks === rdoBlocks || (!unsafe && fitsSize(layer.base, blocks))) return { rdoBlocks, toBlocks: blocks };
  throw new CowError("unsuitable", `has ${blocks} blocks, but ${path} is over ${rdoBlocks}: its view cannot be kept`, {
    file: device.name,
    details: { rdo_blocks_expected: rdoBlocks, rdo_blocks_actual: blocks },
    hints: [
      `\`cowtool convert ${from?.text ?? "OLDBASE"},${path} NEW.qcow2 --to qcow2 --base ${to.text}\` makes a layer of another size`,
    ],
  });
}

/** Was it rebased already, as its head says? @throws CowError `wrong-base` if it is over neither */
async function isOver(
  { layer }: OwnCowfile,
  toFingerprint: number,
  from: Stack,
  { signal }: OperationContext,
): Promise<boolean> {
  try {
    await requireBelongs(layer, from.device, signal);
    return false;
  } catch (error) {
    if (error instanceof CowError && error.code === "wrong-base" && layer.base.fingerprint === toFingerprint)
      return true;
    throw error;
  }
}

interface Bases {
  readonly from: Stack;
  readonly to: Stack;
  readonly toFingerprint: number;
}

async function safely(
  files: OpenFiles,
  own: OwnCowfile,
  { from, to, toFingerprint }: Bases,
  request: RebaseRequest,
  context: OperationContext,
): Promise<Change> {
  const { dropEqual = false, dryRun = false, force = false } = request;
  const { layer, path, file } = own;
  const answer = await askAboutBase(files, { cow: file, cowfile: path, stack: from }, {}, context);
  const way = force ? undefined : "--force rebases all the same";
  sayChanged(answer, { rdofile: from.device.name, cowfile: path }, way, context);
  await requireNothingLost(layer, "a new cowfile in its place", force, context);
  const view = new LayeredImage(from.base.name, from.base, [...from.layers, layer]);
  const counts = { added: 0, dropped: 0, spared: 0 };
  // Run again, the command must not read through blocks that were given up what the old base has there.
  const drop = !dropEqual ? "nothing" : layer.base.fingerprint === toFingerprint ? "common" : "all";
  const held = heldAfter(own, { from, to, view, drop }, counts);
  const { rdoBlocks } = layer.opened.geometry;
  let used = 0;
  if (dryRun) {
    const pause = makePause(context.signal, () => interrupted(path, "nothing was changed"));
    await walkExtents(held, pause, ({ length }) => {
      used += length / BLOCK_BYTES;
    });
  } else {
    const inputs = [...from.paths, ...to.paths];
    const job = { view, held, phase: "rebasing", inputs, rdoBlocks };
    used = (await replaceCowfile(files, own, to, job, context)).writer.blocksUsed;
  }
  if (counts.spared > 0) sayWhatIsSpared(own, to, counts.spared, context);
  return { used, added: counts.added, dropped: counts.dropped };
}

function sayWhatIsSpared({ path }: OwnCowfile, to: Stack, spared: number, { onNotice }: OperationContext): void {
  const again = `cowtool rebase ${shellWord(path)} --from NEWBASE --to NEWBASE --drop-equal`;
  const message = `${spared} blocks as ${to.device.name} has them are kept, since its fingerprint is that of the old base: \`${again}\` gives them up`;
  onNotice?.({ severity: "note", file: path, message });
}

/** Which blocks that are the same in the new base are given up: none, those that the old base has as well, or all. */
type Drop = "nothing" | "common" | "all";

/** What the cowfile is to hold over the new base, ascending; counts what that changes while it is gone through. */
function heldAfter(
  { layer }: OwnCowfile,
  { from, to, view, drop }: Omit<Bases, "toFingerprint"> & { readonly view: LayeredImage; readonly drop: Drop },
  counts: { added: number; dropped: number; spared: number },
): Iterable<Held> {
  const end = layer.virtualSizeBytes;
  const ours = () => layer.extents(0, end);
  const mayDiffer = widen(candidates(from, to, end), BLOCK_BYTES, end);
  function* copiedUp(): Generator<Held> {
    const unheld = subtract(mayDiffer, ours());
    for (const { offset, length, differs, a } of compare(from.device, to.device, unheld, BLOCK_BYTES)) {
      if (differs) counts.added += length / BLOCK_BYTES;
      if (differs || length === 0) yield { offset, length, bytes: length === 0 ? undefined : a };
    }
  }
  function* kept(): Generator<Held> {
    for (const { offset, length, differs, a } of compare(view, to.device, ours(), BLOCK_BYTES)) {
      if (differs || length === 0) yield { offset, length, bytes: length === 0 ? undefined : a };
      else yield* spared(offset, length);
    }
  }
  /** Of a part that is as in the new base what stays all the same. */
  function* spared(offset: number, length: number): Generator<Held> {
    const parts =
      drop === "all"
        ? [{ offset, length, differs: false }]
        : compare(from.device, to.device, [{ offset, length }], BLOCK_BYTES);
    for (const part of parts) {
      counts[part.differs ? "spared" : "dropped"] += part.length / BLOCK_BYTES;
      if (part.differs) yield { offset: part.offset, length: part.length };
    }
  }
  return inOrder(drop === "nothing" ? ours() : kept(), copiedUp());
}

/** Writes the identity of the new base into the head, and nothing else. One sector: it is there, or not. */
async function onlyHead(
  files: OpenFiles,
  { layer, file, path }: OwnCowfile,
  { to, fingerprint, blocks }: { readonly to: Stack; readonly fingerprint: number; readonly blocks: number },
  dryRun: boolean,
  context: OperationContext,
): Promise<Change> {
  const change = { used: blocks, added: 0, dropped: 0 };
  if (dryRun) return change;
  const { head, headBlock, geometry } = layer.opened;
  const at = { base: to.device, paths: to.paths, blocks: geometry.rdoBlocks };
  const taken = await takeIdentity(files, at, undefined, context);
  forgetOld(files.storage, path, context);
  const block = Uint8Array.from(headBlock);
  const size = encodeHead({ ...head, fingerprint: storedFingerprint(head.abi, fingerprint) }, block);
  file.write(block.subarray(0, size), 0);
  file.flush();
  taken.write(path, fingerprint);
  return change;
}
