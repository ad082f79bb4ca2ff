/**
 * Owns the decision whether a cowfile may be merged into a base, and whether this begins a merge or goes on with an
 * interrupted one. Everything here happens before the first write; nothing here writes.
 */

import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { type Fingerprint, takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { fingerprint32, formatFingerprint, hasCowMagic } from "../../formats/cowfile/head.ts";
import type { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { holdsAll } from "./already.ts";
import type { MergeJournal } from "./journal.ts";
import { countBlocks } from "./write-blocks.ts";

/** How the base relates to the cowfile. */
export type Admission =
  /** The base is the one the cowfile was made for. */
  | { readonly kind: "fresh"; readonly before: Fingerprint }
  /** A merge of this very cowfile was interrupted. */
  | { readonly kind: "resume"; readonly before: Fingerprint }
  /** The base is another, but holds every block of the cowfile already. */
  | { readonly kind: "merged" }
  /** Another base, and the user insists. */
  | { readonly kind: "forced"; readonly before: Fingerprint };

/** @throws CowError `unsuitable` if the base looks like a cowfile: the arguments may be exchanged */
export function refuseCowfileAsBase(base: BlockDevice, force: boolean): void {
  const head = new Uint8Array(4);
  readZeroFilled(base, head, 0);
  if (hasCowMagic(head) && !force) {
    throw new CowError("unsuitable", "is itself a cowfile, not a base", {
      file: base.name,
      hints: ["the order is RDOFILE COWFILE"],
    });
  }
}

/** @throws CowError `wrong-base` if the base is shorter than the image, or (unless `force`) longer */
export function requireSize(layer: CowfileLayer, base: BlockDevice, force: boolean): void {
  const actual = Math.floor(base.sizeBytes / BLOCK_BYTES);
  const { rdoBlocks } = layer.opened.geometry;
  if (actual === rdoBlocks || (force && actual > rdoBlocks)) return;
  throw new CowError("wrong-base", `was made for a base of ${rdoBlocks} blocks, but ${base.name} has ${actual}`, {
    file: layer.name,
    details: { rdo_blocks_expected: rdoBlocks, rdo_blocks_actual: actual },
  });
}

/**
 * Judges the base by its fingerprint, the journal of an interrupted merge, and if need be its content.
 *
 * @param journal one that speaks of this very cowfile, or undefined
 * @throws CowError `wrong-base`
 */
export async function admit(
  layer: CowfileLayer,
  base: BlockDevice,
  journal: MergeJournal | undefined,
  force: boolean,
  context: OperationContext,
): Promise<Admission> {
  const { rdoBlocks } = layer.opened.geometry;
  const expected = fingerprint32(layer.opened.head);
  const now = await takeFingerprint(base, rdoBlocks, { signal: context.signal });
  if (journal) {
    const before = await fingerprintBefore(layer, base, journal, context);
    if (before.value === journal.fingerprint_before && (before.value === expected || force))
      return { kind: "resume", before };
  }
  if (now.value === expected) return { kind: "fresh", before: now };
  // Of no blocks every base holds all: that says nothing.
  if ((await countBlocks(layer, context)) > 0 && (await holdsAll(layer, base, context))) return { kind: "merged" };
  if (force) return { kind: "forced", before: now };
  throw new CowError(
    "wrong-base",
    `was made for a base with fingerprint ${formatFingerprint(expected)}, but that of ${base.name} is ${formatFingerprint(now.value)}`,
    {
      file: layer.name,
      details: { fingerprint_expected: formatFingerprint(expected), fingerprint_actual: formatFingerprint(now.value) },
      hints: ["--force merges anyway: right only if another tool's merge of this cowfile was interrupted"],
    },
  );
}

/** Does what the journal tells of the base before agree with what is there now? The layer may be the undo file as well. */
export async function isExplained(
  layer: CowfileLayer,
  base: BlockDevice,
  journal: MergeJournal,
  context: OperationContext,
): Promise<boolean> {
  const { value } = await fingerprintBefore(layer, base, journal, context);
  return value === journal.fingerprint_before;
}

/**
 * The fingerprint that the base had before the interrupted merge: of blocks that the cowfile holds, what the journal
 * noted; of all others, what is there.
 */
async function fingerprintBefore(
  layer: CowfileLayer,
  base: BlockDevice,
  journal: MergeJournal,
  context: OperationContext,
): Promise<Fingerprint> {
  const isOverridden = (block: number): boolean => {
    for (const _ of layer.extents(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)) return true;
    return false;
  };
  const contributions = journal.contributions.filter(({ block }) => isOverridden(block));
  return takeFingerprint(base, layer.opened.geometry.rdoBlocks, {
    signal: context.signal,
    override: { isOverridden, contributions },
  });
}
