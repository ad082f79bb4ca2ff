/**
 * Owns opening a stack to look at it part by part: dirty layers, layers that do not fit, and files that are being written, too.
 * What cannot be read is said of its part. Changes nothing, and is no way to read an image: that is stack/open.ts.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import type { Layer, LayerFormat, Problem } from "../formats/format.ts";
import { formatOfPart, type OpenPart, openAsLayer, openBase } from "../stack/open-part.ts";
import { Overlay } from "../stack/overlay.ts";
import type { StackPart, StackSpec } from "../stack/spec.ts";
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
}

/**
 * Opens every part, base first, with shared locks; what another process is writing without one.
 *
 * @throws CowError `not-found`, `permission`, `usage`, `io`
 */
export async function openChain(
  files: OpenFiles,
  spec: StackSpec,
  context: OperationContext,
): Promise<readonly Link[]> {
  const links: Link[] = [];
  let shown: BlockDevice | undefined;
  let base: BlockDevice | undefined;
  const layers: Layer[] = [];
  for (const part of spec.parts) {
    const opened = openShared(files, part);
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
        const how = { allowDirty: true, below: below?.device, signal: context.signal };
        ({ layer } = await openAsLayer(opened, how, () => files.scratch(part.path)));
        layers.push(layer);
        shown = base && shown && new Overlay(spec.lower(layers.length).text, base, [...layers]);
      }
    } catch (failure) {
      if (!(failure instanceof CowError) || failure.code === "interrupted") throw failure;
      error = failure;
      shown = undefined;
    }
    links.push({ opened, format, below: links.length === 0 ? undefined : below, device: shown, layer, error });
  }
  return links;
}

function openShared(files: OpenFiles, part: StackPart): OpenPart {
  try {
    return files.openPart(part, { lock: "shared" });
  } catch (error) {
    if (!(error instanceof CowError) || error.code !== "locked") throw error;
    return files.openPart(part, { lock: "none" });
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

/** An error as a problem of the whole file. */
export function asProblem({ code, message }: CowError): Problem {
  return { id: code, severity: "error", fixable: false, offset: 0, length: 0, message };
}
