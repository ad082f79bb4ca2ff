/**
 * Owns reading a cowfile as a killed server of ours left it, with its journal's allocations: so that it can be served
 * where nothing can be written, for instance on a full disk.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { bootId } from "../../device/sys/boot.ts";
import { CowError } from "../../errors.ts";
import { isDirty } from "../../formats/cowfile/head.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer, type OpenedCowfile } from "../../formats/cowfile/layer.ts";
import { journalPath } from "../../formats/cowfile/live/journal.ts";
import { type LastSession, lastSession } from "../../formats/cowfile/live/last-session.ts";
import { detectFormat } from "../../formats/registry.ts";
import { isYetToBeNamed } from "../open.ts";
import type { StackSpec } from "../spec.ts";
import { type KeptLayer, keepMapped } from "./kept-layer.ts";
import type { OpenCowfileOptions } from "./open-cowfile.ts";
import type { LowerStack, LowerStacks } from "./shared-lower.ts";

/** A layer that is read with what a journal says, over what is below. */
export interface LeftLayer {
  readonly lower: LowerStack;
  readonly kept: KeptLayer;
  readonly device: BlockDevice;
}

/**
 * Opens a stack for reading whose last layer a killed server of ours left.
 *
 * @returns undefined for any other stack: it is opened in the usual way, or refused there
 * @throws CowError as openStack does
 */
export async function openLeft(
  storage: Storage,
  spec: StackSpec,
  lowers: LowerStacks,
  options: Pick<OpenCowfileOptions, "boot"> & Pick<OperationContext, "signal" | "onNotice">,
): Promise<LeftLayer | undefined> {
  const { path, format } = spec.top;
  if (spec.layers.length === 0 || format === "raw" || !storage.facts(path)) return undefined;
  const device = storage.open(path, { lock: "shared" });
  let lower: LowerStack | undefined;
  try {
    const kept = keepLeft(storage, path, device, options.boot ?? bootId());
    if (kept) {
      lower = await lowers.acquire(spec.below, options);
      if (!isYetToBeNamed(kept.layer, spec.top, spec.below.top)) await lower.requireBelongs(kept.layer, options.signal);
      return { lower, kept, device };
    }
  } catch (error) {
    lower?.release();
    device.close();
    throw error;
  }
  device.close();
  return undefined;
}

function keepLeft(storage: Storage, path: string, device: BlockDevice, boot: Uint8Array): KeptLayer | undefined {
  try {
    if (detectFormat(device) !== cowfileFormat) return undefined;
    const layer = new CowfileLayer(device, { allowDirty: true });
    const { opened } = layer;
    if (!isDirty(opened.head)) return undefined;
    const session = readSession(storage, path, opened, boot);
    // After a power cut, the data of the journal's log would have to be written first.
    if (session.kind !== "killed") return undefined;
    return keepMapped(device, layer, session.runs);
  } catch (error) {
    // The usual way of opening it reports the problem.
    if (error instanceof CowError) return undefined;
    throw error;
  }
}

function readSession(storage: Storage, path: string, opened: OpenedCowfile, boot: Uint8Array): LastSession {
  const journal = journalPath(storage.realPath(path));
  const device = storage.facts(journal, { own: true })
    ? storage.open(journal, { lock: "shared", own: true })
    : undefined;
  try {
    return lastSession(opened, () => device, boot);
  } finally {
    device?.close();
  }
}
