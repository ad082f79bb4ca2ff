/**
 * Owns writing an image: its parts go to the places that its writer gives, piece by piece, with notes of the progress.
 * One policy for zeros, for all readers and writers: zeros are never written as data. Whole units of zeros are `zeros`
 * to the writer, and parts of 4 KiB within others stay holes. So the same content gives the same file.
 */
import { type ByteSource, type Place, type ReadAhead, readZeroFilled } from "../bytes/byte-source.ts";
import { type Extent, widen, within } from "../bytes/extent.ts";
import { ExtentCursor } from "../bytes/extent-cursor.ts";
import { isZero } from "../bytes/zero.ts";
import { makeYielder, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { cloneFile } from "../device/sys/kernel-copy.ts";
import type { PlacedSource } from "../formats/format.ts";
import type { Destination, ImageWriter, WriterState } from "../formats/image-writer.ts";

/** The size of a read: a copy through memory of that size is as fast as the kernel's, and zeros are found on the way. */
const PIECE_BYTES = 1 << 20;
/** Zeros stay holes in parts of this size, which is what file systems allocate. */
const CELL_BYTES = 4096;

/** A part of the new image, with its content if that was read already, or the view that shows it if not the job's. */
export interface Held extends Extent {
  readonly bytes?: Uint8Array | undefined;
  readonly view?: ImageJob["view"] | undefined;
}

/** The progress of writing an image. */
export interface Position {
  /** Everything of the image before it is done, and durable. */
  readonly offset: number;
  readonly held: number;
  readonly copied: number;
  readonly sink: WriterState;
}

/** How often a long job makes its progress durable. */
export interface Pace {
  readonly bytes: number;
  readonly milliseconds: number;
}

export interface ImageJob {
  /** The content of the image: the parts that may be something other than zeros, ascending, each with its place. */
  readonly view: Pick<PlacedSource, "places">;
  /** Bytes of the image. */
  readonly sizeBytes: number;
  /**
   * The parts to write, ascending, in units of the writer; extents of no length are pauses. By default all that the view
   * shows, without its holes.
   */
  readonly held?: Iterable<Held> | undefined;
  readonly writer: ImageWriter;
  readonly target: BlockDevice;
  readonly phase: string;
  /** Makes the error for a job that was stopped. */
  readonly stopped: () => Error;
  /** Where an earlier run ended; `held` begins there. */
  readonly from?: Position | undefined;
  /** Receives positions that can be resumed from, as often as the pace says and before the job stops. */
  readonly notes?: { readonly pace: Pace; readonly save: (position: Position) => void };
}

/** A source as a view of itself. */
export function viewOf(source: ByteSource): ImageJob["view"] {
  return {
    *places(from, to) {
      for (const { offset, length } of source.dataExtents(from, to)) yield { offset, length, source, at: offset };
    },
  };
}

/** Makes the target share all blocks of the base, for a raw image to be written over them. False if impossible. */
export function cloneBase(base: BlockDevice, target: BlockDevice): boolean {
  return base.fd !== undefined && target.fd !== undefined && cloneFile(base.fd, target.fd);
}

/**
 * Writes all of the image but for the flush.
 * @returns bytes of the image that the file holds, and those that were looked at; holes are held, but not looked at
 * @throws CowError `io`, `no-space`; what `stopped` makes
 */
export async function writeImage(
  job: ImageJob,
  context: OperationContext,
): Promise<{ readonly held: number; readonly copied: number }> {
  const { view, writer, sizeBytes, phase } = job;
  const piece = new ImagePiece(job);
  const yieldToEventLoop = makeYielder(context.pace);
  let { held, copied } = job.from ?? { held: 0, copied: 0 };
  let noted = { copied, at: performance.now() };
  const note = (offset: number): void => {
    job.notes?.save({ offset, held, copied, sink: writer.checkpoint() });
    noted = { copied, at: performance.now() };
  };
  const pause = (offset: number): Promise<void> | undefined => {
    if (context.signal?.aborted) {
      note(offset);
      throw job.stopped();
    }
    context.onProgress?.({ phase, done: Math.min(offset, sizeBytes), total: sizeBytes, unit: "bytes" });
    const { pace } = job.notes ?? {};
    const isDue = pace && (copied - noted.copied >= pace.bytes || performance.now() - noted.at >= pace.milliseconds);
    if (isDue) note(offset);
    return yieldToEventLoop();
  };
  if (job.from) writer.resume(job.from.offset, job.from.sink);
  const start = job.from?.offset ?? 0;
  for (const extent of job.held ?? [{ offset: start, length: sizeBytes - start }]) {
    if (extent.length === 0) await pause(extent.offset);
    const content = extent.bytes ? shownBy(extent.bytes, extent.offset) : (extent.view ?? view);
    for (const run of runsOf(content, extent, piece, job.held ? undefined : writer.unitBytes)) {
      const end = run.offset + run.length;
      if (run.places) {
        await piece.write(run.offset, end, run.places);
        copied += run.length;
      } else if (job.held && run.length > 0) writer.zeros(run.offset, run.length);
      held += run.held;
      await pause(end);
    }
  }
  writer.finish();
  return { held, copied };
}

/** The bytes of an extent that begins at an offset, as a view. */
function shownBy(bytes: Uint8Array, start: number): ImageJob["view"] {
  const read = (target: Uint8Array, at: number): number => {
    target.set(bytes.subarray(at, at + target.length));
    return target.length;
  };
  const all = { name: "", sizeBytes: bytes.length, allocationUnitBytes: 1, seesHoles: false, read };
  const source = { ...all, dataExtents: () => [{ offset: 0, length: bytes.length }] };
  return { places: (from, to) => [{ offset: from, length: to - from, source, at: from - start }] };
}

/** A part of the image that may hold data, in whole grains, with what shows in its piece; a hole without that. */
interface Run extends Extent {
  readonly places?: readonly Place[];
  /** How much of it the file holds. */
  readonly held: number;
}

/**
 * Divides an extent into runs; one without a length is a pause.
 * @param unitBytes units that are held where they show data; undefined if all of the extent is held
 */
function* runsOf(
  view: ImageJob["view"],
  { offset, length }: Extent,
  { grainBytes, sizeBytes }: Pick<ImagePiece, "grainBytes" | "sizeBytes">,
  unitBytes: number | undefined,
): Generator<Run> {
  const end = offset + length;
  let at = offset;
  const hole = (to: number): Run => ({ offset: at, length: to - at, held: unitBytes === undefined ? to - at : 0 });
  for (const places of piecesOf(view, offset, end, sizeBytes)) {
    if (places.length === 0) yield hole(at);
    const units = unitBytes === undefined ? undefined : new ExtentCursor(widen(places, unitBytes, end));
    for (const run of within(widen(places, grainBytes, end), offset, end)) {
      if (run.offset > at) yield hole(run.offset);
      at = run.offset + run.length;
      let held = units ? 0 : run.length;
      for (const unit of units?.allBelow(at) ?? []) held += unit.length;
      if (run.length > 0) yield { ...run, places, held };
    }
  }
  if (at < end) yield hole(end);
}

/**
 * The places of a part of the image, by pieces that end at multiples of a size; pieces without any are left out. The view is
 * walked once. An empty list is a pause.
 */
function* piecesOf(view: ImageJob["view"], from: number, to: number, sizeBytes: number): Generator<readonly Place[]> {
  let places: Place[] = [];
  let end = 0;
  for (const { offset, length, source, at } of view.places(from, to)) {
    if (length === 0) yield [];
    for (let done = 0; done < length; ) {
      const start = offset + done;
      if (start >= end && places.length > 0) {
        yield places;
        places = [];
      }
      end = (Math.floor(start / sizeBytes) + 1) * sizeBytes;
      const size = Math.min(length - done, end - start);
      places.push({ offset: start, length: size, source, at: at + done });
      done += size;
    }
  }
  if (places.length > 0) yield places;
}

/** A piece of the image in memory, on its way from the view to the target. */
class ImagePiece {
  /** Zeros are searched in parts of this size, at multiples of it. */
  readonly grainBytes: number;
  /** Whole grains; pieces end at multiples of it. */
  readonly sizeBytes: number;
  readonly #job: ImageJob;
  readonly #buffer: Uint8Array;
  /** For each slow source, the prepared part. */
  readonly #prepared = new Map<ByteSource, { from: number; to: number }>();
  #places: readonly Place[] = [];
  /** The first of them that may not be read to its end yet. */
  #next = 0;

  constructor(job: ImageJob) {
    this.#job = job;
    const { unitBytes, marksZeros = false } = job.writer;
    this.grainBytes = marksZeros ? unitBytes : Math.max(CELL_BYTES, unitBytes);
    this.sizeBytes = Math.max(PIECE_BYTES, this.grainBytes);
    this.#buffer = new Uint8Array(PIECE_BYTES);
  }

  /** Writes a run of grains. @param places what shows in the piece; runs of one piece are given ascending */
  async write(from: number, to: number, places: readonly Place[]): Promise<void> {
    const { writer } = this.#job;
    if (places !== this.#places) this.#next = 0;
    this.#places = places;
    if (to - from > PIECE_BYTES) {
      // In a unit that is larger than the buffer, parts of zeros stay holes.
      for (const { offset, length, at } of writer.data(from, to - from)) {
        for (let done = 0; done < length; done += PIECE_BYTES) {
          const stop = Math.min(length, done + PIECE_BYTES);
          this.#put(await this.#read(offset + done, offset + stop), offset + done, at + done);
        }
      }
      return;
    }
    const content = await this.#read(from, to);
    for (const run of zeroRuns(content, from, this.grainBytes)) {
      if (run.isZero) writer.zeros(run.offset, run.length);
      else
        for (const { offset, length, at } of writer.data(run.offset, run.length))
          this.#put(content.subarray(offset - from, offset - from + length), offset, at);
    }
  }

  /** Writes everything that cannot stay a hole. */
  #put(content: Uint8Array, offset: number, at: number): void {
    for (const run of zeroRuns(content, offset, CELL_BYTES)) {
      const start = run.offset - offset;
      if (!run.isZero) this.#job.target.write(content.subarray(start, start + run.length), at + start);
    }
  }

  /** Valid until the next call. */
  async #read(from: number, to: number): Promise<Uint8Array> {
    const content = this.#buffer.subarray(0, to - from);
    let end = from;
    for (; this.#next < this.#places.length; this.#next++) {
      const { offset, length, source, at } = this.#places[this.#next] as Place;
      if (offset >= to) break;
      const start = Math.max(end, offset);
      const stop = Math.min(to, offset + length);
      if (start >= stop) continue;
      const part = { offset: start, length: stop - start, at: at + start - offset };
      if (source.ahead) await this.#prepare(source, source.ahead, part);
      content.fill(0, end - from, start - from);
      readZeroFilled(source, content.subarray(start - from, stop - from), part.at);
      end = stop;
      if (stop < offset + length) break;
    }
    content.fill(0, end - from);
    return content;
  }

  /** Has a part prepared on other threads, with what follows it in the same source, in parallel. */
  async #prepare(source: ByteSource, ahead: ReadAhead, { offset, length, at }: Destination): Promise<void> {
    const ready = this.#prepared.get(source);
    if (ready && at >= ready.from && at + length <= ready.to) return;
    let size = length;
    for (const place of this.#job.view.places(offset, offset + ahead.mostBytes)) {
      if (place.length === 0) continue;
      if (place.source === source && place.at === at) size = Math.max(size, place.length);
      break;
    }
    await ahead.prepare(at, size);
    this.#prepared.set(source, { from: at, to: at + size });
  }
}

interface ZeroRun extends Extent {
  readonly isZero: boolean;
}

/** The runs of zeros, and of anything else, in content that begins at `offset`; told apart at multiples of `step`. */
function* zeroRuns(content: Uint8Array, offset: number, step: number): Generator<ZeroRun> {
  const end = offset + content.length;
  let start = offset;
  let wasZero: boolean | undefined;
  for (let at = offset; at < end; ) {
    const stop = Math.min(end, (Math.floor(at / step) + 1) * step);
    const zero = isZero(content, at - offset, stop - offset);
    if (zero !== wasZero && at > start) yield { offset: start, length: at - start, isZero: !zero };
    if (zero !== wasZero) start = at;
    wasZero = zero;
    at = stop;
  }
  if (wasZero !== undefined) yield { offset: start, length: end - start, isZero: wasZero };
}
