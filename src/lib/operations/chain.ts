/**
 * Owns opening a stack to look at it part by part: dirty layers and layers that do not fit, too, and where asked for files that
 * are being written. What cannot be read is said of its part. Changes nothing, and is no way to read an image: that is stack/open.ts.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import type { Layer, LayerFormat, Problem } from "../formats/format.ts";
import { formatOfPart, type OpenPart, openAsLayer, openBase } from "../stack/open-part.ts";
import { Overlay } from "../stack/overlay.ts";
import type { StackPart } from "../stack/part.ts";
import type { StackSpec } from "../stack/spec.ts";
import { type OpenFiles, refusePending } from "./files.ts";

/** A part of a stack: its base or a layer. */
export interface Link {
  readonly opened: OpenPart;
  /** Undefined for a raw base, and for what is of no format. */
  readonly format: LayerFormat | undefined;
  /** What is below it; undefined for the base, and where that cannot be read. */
  readonly below: { readonly device: BlockDevice; readonly paths: readonly string[] } | undefined;
  /** What the stack shows up to here, if that can be read. */
  readonly device: BlockDevice | undefined;
  readonly layer: Layer | undefined;
  /** Why it cannot be read. */
  readonly error: CowError | undefined;
  /** Another process is writing it, and it is read without a lock. */
  readonly isBeingWritten: boolean;
}

/** @throws CowError `usage` for a base besides that of the stack */
export function refuseSecondBase(spec: StackSpec, rdofile: unknown): void {
  if (rdofile !== undefined)
    throw new CowError("usage", `"${spec.text}" has a base of its own: --rdofile goes with a single file`);
}

/**
 * Opens every part, base first.
 *
 * @param lock `if-free`: a shared one, or none where another process is writing the part
 * @throws CowError `locked` unless lock is `if-free` or `none`; `not-found`, `permission`, `usage`, `io`
 */
export async function openChain(
  files: OpenFiles,
  spec: StackSpec,
  lock: "shared" | "none" | "if-free",
  context: OperationContext,
): Promise<readonly Link[]> {
  const links: Link[] = [];
  let shown: BlockDevice | undefined;
  let base: BlockDevice | undefined;
  const layers: Layer[] = [];
  for (const part of spec.parts) {
    const { opened, isBeingWritten } =
      lock === "if-free" ? openIfFree(files, part) : { opened: files.openPart(part, { lock }), isBeingWritten: false };
    const paths = links.flatMap((link) => link.opened.paths);
    const below = shown && { device: shown, paths };
    let [format, layer, error]: [LayerFormat | undefined, Layer | undefined, CowError | undefined] = [
      undefined,
      undefined,
      undefined,
    ];
    try {
      if (links.length === 0) {
        format = typeof part.format === "object" ? part.format : undefined;
        base = openBase(opened);
        shown = base;
      } else {
        format = formatOfPart(opened);
        const how = { allowDirty: true, backing: below?.device, signal: context.signal };
        ({ layer } = await openAsLayer(opened, how, () => files.scratch(part.path)));
        layers.push(layer);
        shown = base && shown && new Overlay(spec.lower(layers.length).text, base, [...layers]);
      }
    } catch (failure) {
      if (!(failure instanceof CowError) || failure.code === "interrupted") throw failure;
      if (failure.code === "locked" && lock !== "if-free") throw failure;
      error = failure;
      shown = undefined;
    }
    const over = links.length === 0 ? undefined : below;
    links.push({ opened, format, below: over, device: shown, layer, error, isBeingWritten });
  }
  return links;
}

function openIfFree(files: OpenFiles, part: StackPart): Pick<Link, "opened" | "isBeingWritten"> {
  try {
    return { opened: files.openPart(part, { lock: "shared" }), isBeingWritten: false };
  } catch (error) {
    if (!(error instanceof CowError) || error.code !== "locked") throw error;
    return { opened: files.openPart(part, { lock: "none" }), isBeingWritten: true };
  }
}

/** What stands in the way of using a base: a merge into it that was interrupted. */
export function pendingMergeOf(storage: Storage, spec: StackSpec): CowError | undefined {
  try {
    refusePending(storage, spec, [], false);
    return undefined;
  } catch (error) {
    if (error instanceof CowError) return error;
    throw error;
  }
}

/** An error as a problem at the place that it names, or of the whole file. */
export function asProblem({ code, message, details }: CowError): Problem {
  const number = (value: unknown): number => (typeof value === "number" ? value : 0);
  const at = { offset: number(details["offset"]), length: number(details["length"]) };
  return { id: code, severity: "error", fixable: false, ...at, message };
}
