/**
 * Owns the work of a conversion: what the output is to hold goes to where its sink says, piece by piece, with notes of how
 * far it got.
 */
import { type Extent, widen } from "../../bytes/extent.ts";
import { makeBreath, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import type { Place, PreparingSource } from "../../formats/format.ts";
import type { Position } from "./partial.ts";
import type { Sink } from "./sink.ts";
import type { StackView } from "./view.ts";

/** A copy is cut into pieces of this size, so that a signal is noticed within one of them. */
const PIECE_BYTES = 32 << 20;

export interface CopyJob {
  readonly view: StackView;
  /** Bytes of the output's image. */
  readonly sizeBytes: number;
  /** What the output is to hold from an offset on, in units of the sink; extents of no length are pauses. */
  readonly held: (from: number, unitBytes: number) => Iterable<Extent>;
  readonly sink: Sink;
  /** Undefined for a dry run, which copies nothing. */
  readonly target: BlockDevice | undefined;
  readonly from: Position | undefined;
}

export interface CopyHooks {
  /** Notes are made that often; see Pace. */
  readonly pace: Pace;
  /** Called with a position that can be gone on from. */
  readonly note: (position: Position) => void;
  /** Makes the error for a conversion that was stopped, noted before. */
  readonly stopped: () => Error;
}

/** How often a conversion makes sure of what it has done. */
export interface Pace {
  readonly bytes: number;
  readonly milliseconds: number;
}

/** @returns bytes of the image that the output holds, and those that were copied; what is held and zero is not */
export async function copyImage(
  job: CopyJob,
  hooks: CopyHooks,
  context: OperationContext,
): Promise<{ readonly held: number; readonly copied: number }> {
  const { view, sink, target, sizeBytes } = job;
  const { unitBytes } = sink;
  const pieceBytes = Math.max(unitBytes, Math.floor(PIECE_BYTES / unitBytes) * unitBytes);
  const copier = new Copier();
  const breath = makeBreath();
  let { held, copied } = job.from ?? { held: 0, copied: 0 };
  let noted = { copied, at: performance.now() };
  const note = (offset: number): void => {
    hooks.note({ offset, held, copied, sink: sink.checkpoint() });
    noted = { copied, at: performance.now() };
  };
  const pause = async (offset: number): Promise<void> => {
    if (context.signal?.aborted) {
      note(offset);
      throw hooks.stopped();
    }
    context.onProgress?.({ phase: "converting", done: Math.min(offset, sizeBytes), total: sizeBytes, unit: "bytes" });
    const { pace } = hooks;
    if (copied - noted.copied >= pace.bytes || performance.now() - noted.at >= pace.milliseconds) note(offset);
    await breath();
  };
  const copyPiece = async (offset: number, length: number): Promise<void> => {
    for (const to of sink.data(offset, length)) {
      for (const part of view.data(to.offset, to.offset + to.length)) {
        if (target && part.length > 0) await copyPart(copier, part, target, to.at + part.offset - to.offset);
        copied += part.length;
      }
    }
  };
  if (job.from) sink.resume(job.from.offset, job.from.sink);
  for (const extent of job.held(job.from?.offset ?? 0, unitBytes)) {
    for (const { offset, length, isData } of runsOf(view, extent, unitBytes)) {
      if (length === 0) await pause(offset);
      for (let at = offset; at < offset + length; at += pieceBytes) {
        const size = Math.min(pieceBytes, offset + length - at);
        if (isData) await copyPiece(at, size);
        else sink.zeros(at, size);
        held += size;
        await pause(at + size);
      }
    }
    await pause(extent.offset + extent.length);
  }
  sink.finish();
  return { held, copied };
}

/** Copies a part; what takes long to read is made ready on other threads before. */
async function copyPart(copier: Copier, part: Place, target: BlockDevice, targetOffset: number): Promise<void> {
  const { source, at, length } = part;
  if (!("prepare" in source)) {
    copier.copy({ source, sourceOffset: at, target, targetOffset, length });
    return;
  }
  const { preparesBytes } = source as PreparingSource;
  for (let done = 0; done < length; done += preparesBytes) {
    const size = Math.min(preparesBytes, length - done);
    await (source as PreparingSource).prepare(at + done, size);
    copier.copy({ source, sourceOffset: at + done, target, targetOffset: targetOffset + done, length: size });
  }
}

/** An extent, divided into what holds data and what is nothing but zeros, in whole units; without a length a pause. */
function* runsOf(view: StackView, { offset, length }: Extent, unitBytes: number) {
  const end = offset + length;
  let at = offset;
  for (const data of widen(view.data(offset, end), unitBytes, end)) {
    if (data.length === 0) {
      yield { offset: at, length: 0, isData: true };
      continue;
    }
    if (data.offset > at) yield { offset: at, length: data.offset - at, isData: false };
    yield { ...data, isData: true };
    at = data.offset + data.length;
  }
  if (at < end) yield { offset: at, length: end - at, isData: false };
}
