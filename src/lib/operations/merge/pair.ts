/**
 * Owns base and cowfile of a merge in place, open and each judged by itself, and what their fingerprints say of each other.
 * Everything here happens before the first write; nothing here writes.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError, shellWord } from "../../errors.ts";
import { type Fingerprint, takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { fingerprint32, formatFingerprint, hasCowMagic } from "../../formats/cowfile/head.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { type FoundJournal, JournalPlaces } from "../../notes/journal-places.ts";
import { cowfileDigest, type MergeJournal } from "../../notes/merge-journal.ts";
import { refuseStackFile } from "../../stack/open-part.ts";
import { howToOpen, type OpenFiles, refuseSameFile } from "../files.ts";
import type { Merging } from "../identity/merge-guard.ts";
import { type Size, sizeOf } from "./already.ts";
import { noticeUnmarked, requireSound } from "./doubts.ts";
import type { MergeRequest } from "./request.ts";

export interface Pair extends Merging {
  readonly layer: CowfileLayer;
  /** Of the cowfile. */
  readonly size: Size;
  /** Blocks of the cowfile that hold data without a mark. */
  readonly unmarked: number;
  readonly places: JournalPlaces;
  /** The journal of any merge into this base. */
  readonly found: FoundJournal | undefined;
  /** Which state of which cowfile it is. */
  readonly digest: string;
}

/** @throws CowError as merge() for what can be said of each by itself; `wrong-base` for a base of another size */
export async function openPair(
  files: OpenFiles,
  { rdofile, cowfile }: Pick<Merging, "rdofile" | "cowfile">,
  request: MergeRequest,
  context: OperationContext,
): Promise<Pair> {
  const { force = false } = request;
  refuseSameFile(files.storage, rdofile, [cowfile]);
  const cow = files.open(cowfile, { lock: "shared" });
  const base = files.open(rdofile, howToOpen(request));
  refuseCowfileAsBase(base, force);
  const layer = new CowfileLayer(cow, { allowDirty: force });
  requireSize(layer, base, force);
  await requireSound(layer, force, context);
  const unmarked = await noticeUnmarked(layer, context, "merged");
  const places = new JournalPlaces(files.storage, rdofile, [cowfile], { force });
  const found = places.find(base.sizeBytes, { claim: true });
  const size = await sizeOf(layer, context);
  return { base, rdofile, layer, cowfile, size, unmarked, places, found, digest: cowfileDigest(layer) };
}

/** @throws CowError `unsuitable` if the base looks like a cowfile: the arguments may be exchanged */
export function refuseCowfileAsBase(base: BlockDevice, force: boolean): void {
  refuseStackFile(base, base.name);
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
    hints: layer.base.resizedBlocks === undefined ? [] : resizedHints(layer, base.name),
  });
}

function resizedHints({ name, virtualSizeBytes }: CowfileLayer, base: string): readonly string[] {
  return [
    `${name} was resized: \`truncate -s ${virtualSizeBytes} ${shellWord(base)}\` gives the base its size; a base that other cowfiles use is to be copied first`,
    "--output FILE writes the result into a new image",
  ];
}

/** The error for a base with another fingerprint than the cowfile's. */
export function wrongBase(layer: CowfileLayer, base: BlockDevice, now: Fingerprint): CowError {
  const [expected, actual] = [fingerprint32(layer.opened.head), now.value].map(formatFingerprint);
  return new CowError(
    "wrong-base",
    `was made for a base with fingerprint ${expected}, but that of ${base.name} is ${actual}`,
    {
      file: layer.name,
      details: { fingerprint_expected: expected ?? "", fingerprint_actual: actual ?? "" },
      hints: ["--force merges anyway: right only if another tool's merge of this cowfile was interrupted"],
    },
  );
}

/**
 * The fingerprint that the base had before an interrupted merge, if the journal explains what is there now: of blocks that
 * the layer holds, it is made of what the journal noted; of all others, of what is there. Undefined where that is another one
 * than the journal says. The layer may be the undo file as well, which holds the same blocks.
 */
export async function fingerprintBefore(
  { layer, base }: Pick<Pair, "layer" | "base">,
  journal: MergeJournal,
  { signal }: OperationContext,
): Promise<Fingerprint | undefined> {
  const isOverridden = (block: number): boolean => {
    for (const _ of layer.extents(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)) return true;
    return false;
  };
  const contributions = journal.contributions.filter(({ block }) => isOverridden(block));
  const override = { isOverridden, contributions };
  const before = await takeFingerprint(base, layer.opened.geometry.rdoBlocks, { signal, override });
  return before.value === journal.fingerprint_before ? before : undefined;
}
