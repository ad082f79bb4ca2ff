/**
 * Owns the long changes to the chains of running exports: squash and flatten, and squashing by itself where a chain gets too
 * deep. The new file is written in the background; its content is that of layers that are frozen, so it does not matter what
 * clients do meanwhile. docs/internals/checkpoints.md has what is on disk at each step.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { LayeredImage } from "../../formats/layered-image.ts";
import { OpenFiles, storageOf } from "../../operations/files.ts";
import { shownPath } from "../../operations/history/checkpoint.ts";
import type { SquashChainRequest, SquashChainResult, SquashedRun } from "../../operations/history/squash-chain.ts";
import { fillCowfile } from "../../operations/new-cowfile.ts";
import { joinedLayers } from "../../operations/squash.ts";
import { writeWhole } from "../../operations/whole-image.ts";
import { claimOutput, NEVER } from "../../output/claim.ts";
import {
  announced,
  checkpointNames,
  flattened,
  type LayerRange,
  rangeOf,
  squashed,
  unnamedRuns,
} from "../../stack/chain.ts";
import { makeTop, nameFrom } from "../../stack/live/checkpoint-chain.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import { replaceBelow } from "../../stack/live/replace-below.ts";
import type { ServedStack } from "../../stack/live/served-stack.ts";
import type { LowerStack } from "../../stack/live/shared-lower.ts";
import { newLayerPath } from "../../stack/new-layer-path.ts";
import type { Stack } from "../../stack/open.ts";
import type { LayerPart, StackDocument } from "../../stack/stack-document.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { ExportJob, type JobContext, type Turn } from "./export-job.ts";
import type { Exports } from "./exports.ts";
import type { LiveExport } from "./live-export.ts";

export interface FlattenRequest {
  /** The new raw image. */
  readonly into: string;
}

/** What a flattening did. */
export interface FlattenResult {
  readonly stack: string;
  /** The raw image that is the base now. */
  readonly base: string;
  /** The layers that are in it. */
  readonly layers: readonly string[];
  /** Checkpoints that went. */
  readonly dropped: readonly string[];
  /** Files that are no longer layers, and were removed. */
  readonly removed: readonly string[];
  /** Files that are to be removed once no process has them open. */
  readonly left: readonly string[];
}

/** A new file that is being written, and what it is made of. */
interface Begun {
  readonly held: HeldStackFile;
  /** As it was when this began. */
  readonly document: StackDocument;
  /** Its layers up to this one are in the new file, or below it. */
  readonly upTo: number;
  /** These layers, with one more user. */
  readonly lower: LowerStack;
}

export class HistoryJobs {
  readonly #exports: Exports;
  readonly #context: OperationContext;
  readonly #tell: (number: number, image: PassedImage) => void;
  readonly #maxDepth: number;
  /** Exports that are too deep, and have nothing to squash: it was said. */
  readonly #told = new WeakSet<LiveExport>();

  /** @param maxDepth deeper chains are squashed without being asked, as far as no checkpoint is lost */
  constructor(
    exports: Exports,
    context: OperationContext,
    tell: (number: number, image: PassedImage) => void,
    maxDepth = Number.POSITIVE_INFINITY,
  ) {
    this.#exports = exports;
    this.#context = context;
    this.#tell = tell;
    this.#maxDepth = maxDepth;
  }

  /**
   * Joins frozen layers of an export, while clients read and write. Without a range no checkpoint is lost.
   *
   * @throws CowError `not-found` for an export or a checkpoint; `usage` for a range that is none; `unsuitable` for an export
   *   without a stack file that is written; `locked` while another one is under way; `interrupted`, `no-space`, `io`: the layers
   *   are as they were, but for runs that were joined before
   */
  squash(
    name: string,
    range: NonNullable<SquashChainRequest["range"]>,
    how: JobContext = {},
  ): Promise<SquashChainResult> {
    return this.#run(name, how, async (job) => {
      const { from, to } = range;
      const { held, ranges, stack } = await job.inTurn(async ({ held, stack }) => {
        const isAll = from === undefined && to === undefined;
        const all = isAll ? unnamedRuns(held.document) : [rangeOf(held.document, range, held.name)];
        return { held, stack, ranges: all.filter((each) => each.to > each.from) };
      });
      const done: SquashedRun[] = [];
      // From the top, so that the numbers of those below stay.
      for (const each of [...ranges].reverse()) done.unshift(await this.#squashRun(job, each));
      await job.retired(stack);
      return { stack: held.name, squashed: done, ...(await this.#removeGone(job, held)) };
    });
  }

  async #squashRun(job: ExportJob, range: LayerRange): Promise<SquashedRun> {
    const storage = storageOf(this.#context);
    const begun = await job.inTurn(async (turn) => {
      const { held, top, stack } = turn;
      const name = held.document.layers[range.to]?.checkpoint?.name ?? "squashed";
      const output = newLayerPath(storage, held.path, stack.writtenPath ?? "", name);
      const stored = nameFrom(path.dirname(held.path), output);
      const { abi } = new CowfileLayer(top.device, { allowDirty: true }).opened.head;
      // A file that no stack file names would stay for ever.
      held.replace(announced(held.document, stored));
      makeTop(storage, top, output);
      return { ...beginAt(turn, range.to), output, stored, abi };
    });
    const { held, lower, output, stored, abi } = begun;
    let device: BlockDevice | undefined;
    try {
      try {
        device = storage.open(output, { writable: true, lock: "exclusive" });
        const joined = joinedLayers(stackOf(lower), range.from + 1, abi, job.context);
        const filling = { ...joined, target: device, stopped: () => job.stopped() };
        await fillCowfile(new OpenFiles(job.context), filling, job.context);
        await flush(device);
      } finally {
        lower.release();
      }
      device.file?.shareLock();
      return await job.inTurn(async (turn) => {
        requireUnchanged(turn, begun);
        const { document, gone } = squashed(held.document, range, stored);
        await replaceBelow(turn, held, document);
        job.entry.layersChanged(storage);
        const name = document.layers[range.from]?.checkpoint?.name;
        const dropped = checkpointNames({ layers: gone }).filter((each) => each !== name);
        return { output: shownPath(held, stored), checkpoint: name ?? null, layers: shown(held, gone), dropped };
      });
    } catch (error) {
      device?.close();
      device = undefined;
      await this.#removeGone(job, held);
      throw error;
    } finally {
      device?.close();
    }
  }

  /**
   * Writes the base and all frozen layers of an export as a raw image, which is its base then, while clients read and write.
   *
   * @throws CowError as squash(); `exists` for the new image
   */
  flatten(name: string, { into }: FlattenRequest, how: JobContext = {}): Promise<FlattenResult> {
    return this.#run(name, how, async (job) => {
      const begun = await job.inTurn(async (turn) => {
        claimOutput(new OpenFiles(this.#context), into, NEVER, "raw");
        return beginAt(turn, turn.held.document.layers.length - 2);
      });
      const { held, document, upTo } = begun;
      await job.retired(await this.#flattenInto(job, into, begun));
      const gone = document.layers.slice(0, upTo + 1);
      const facts = { base: into, layers: shown(held, gone), dropped: checkpointNames({ layers: gone }) };
      return { stack: held.name, ...facts, ...(await this.#removeGone(job, held)) };
    });
  }

  async #flattenInto(job: ExportJob, into: string, begun: Begun): Promise<ServedStack> {
    const storage = storageOf(this.#context);
    const { held, lower, upTo } = begun;
    const { base, paths } = lower.stack;
    const pending = storage.create(into, { inputs: paths, onNotice: this.#context.onNotice });
    try {
      try {
        const view = new LayeredImage(base.name, base, stackOf(lower).layers);
        const whole = { view, base, target: pending.device, phase: "flattening", stopped: () => job.stopped() };
        await writeWhole(whole, job.context);
        await flush(pending.device);
      } finally {
        lower.release();
      }
      return await job.inTurn(async (turn) => {
        requireUnchanged(turn, begun);
        const target = path.join(storage.realPath(path.dirname(into)), path.basename(into));
        const { document } = flattened(held.document, upTo, nameFrom(path.dirname(held.path), target));
        pending.commit({ replace: false });
        try {
          await replaceBelow(turn, held, document, (below) => nameBase(turn, document, below));
        } catch (error) {
          if (held.document !== document) storage.remove(into);
          throw error;
        }
        job.entry.layersChanged(storage);
        return turn.stack;
      });
    } finally {
      pending.abandon();
    }
  }

  /** After a change that makes chains deeper: squashes in the background what has no name. */
  keepShallow(entry: LiveExport): void {
    const { stack } = entry.served ?? {};
    if (!stack?.held || stack.depth <= this.#maxDepth || entry.job) return;
    const { onNotice } = this.#context;
    if (unnamedRuns(stack.held.document).length > 0) {
      this.squash(entry.name, {}).catch((error: unknown) => {
        if (!(error instanceof CowError)) throw error;
        if (error.code === "interrupted") return;
        const message = `${error.message}: its layers are not squashed`;
        onNotice?.({ severity: "warning", file: error.file ?? stack.name, message });
      });
      return;
    }
    if (this.#told.has(entry)) return;
    this.#told.add(entry);
    const message = `has ${stack.depth} layers, more than --max-depth ${this.#maxDepth}: all but the last are checkpoints or shared, and are kept`;
    onNotice?.({ severity: "warning", file: stack.name, message });
  }

  #run<Result>(name: string, how: JobContext, work: (job: ExportJob) => Promise<Result>): Promise<Result> {
    return ExportJob.run({ entry: this.#exports.get(name), context: this.#context, how, tell: this.#tell }, work);
  }

  /** Removes what is no layer any more. What fails here, or is in use, is left to the next time. */
  async #removeGone(job: ExportJob, held: HeldStackFile): Promise<Pick<FlattenResult, "removed" | "left">> {
    let removed: readonly string[] = [];
    try {
      removed = await job.inTurn(async () => held.removeGone(this.#context.onNotice), { isUndoing: true });
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
    }
    const named = (files: readonly string[]): readonly string[] => files.map((file) => shownPath(held, file));
    return { removed: named(removed), left: named(held.document.to_remove ?? []) };
  }
}

/** The lowest layers of an export, up to one, as they are now. The caller releases them. */
function beginAt({ held, lower }: Turn, upTo: number): Begun {
  return { held, document: held.document, upTo, lower: lower.at(upTo + 1) };
}

/** They with bitmaps in memory, where they have them. */
function stackOf({ stack, layers }: LowerStack): Pick<Stack, "base" | "layers" | "device"> {
  return { base: stack.base, device: stack.device, layers: layers.map(({ layer }) => layer) };
}

function shown(held: HeldStackFile, layers: readonly LayerPart[]): readonly string[] {
  return layers.map(({ file }) => shownPath(held, file));
}

/** Makes a file durable, without holding up the event loop. */
async function flush(device: BlockDevice): Promise<void> {
  await device.file?.flushAside();
  device.flush();
}

/** @throws CowError `unsuitable` if other layers are there by now */
function requireUnchanged({ held }: Turn, { document, upTo }: Begun): void {
  const facts = ({ base, layers }: StackDocument): string =>
    JSON.stringify([base, layers.slice(0, upTo + 1).map(({ file }) => file), layers.length > upTo + 1]);
  if (facts(held.document) === facts(document)) return;
  throw new CowError("unsuitable", "has other layers than when this began: they are as they were left", {
    file: held.name,
  });
}

/**
 * Puts the fingerprint of a new base into the top, if that is directly over it: it may have been made over a layer that was
 * still written. The old and the new base have the same content, so either may count afterwards.
 */
async function nameBase({ top }: Turn, { layers }: StackDocument, below: LowerStack): Promise<void> {
  if (layers.length > 1) return;
  const fingerprint = await below.fingerprint(Math.floor(below.stack.device.sizeBytes / BLOCK_BYTES));
  top.makeReady?.();
  top.nameBase?.(fingerprint);
  await flush(top.device);
}
