/**
 * Owns `map`: where each part of a stack's image comes from, like `qemu-img map`. Reads metadata only.
 */
import type { ByteSource, Place } from "../bytes/byte-source.ts";
import { interrupted, makePause, type OperationContext, type Pause } from "../context.ts";
import type { Layer, Layered, PlacedSource } from "../formats/format.ts";
import { shown } from "../formats/layered-image.ts";
import { formatOf } from "../formats/registry.ts";
import type { Stack } from "../stack/open.ts";
import { OpenFiles } from "./files.ts";

/** A part of the image; keys and their order as `qemu-img map --output=json` has them. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  /** The file that has it: 0 is the top of the stack, 1 its backing, and so on. */
  readonly depth: number;
  /** False if no file of the stack has it allocated. */
  readonly present: boolean;
  /** It reads as zeros, and metadata says so. */
  readonly zero: boolean;
  readonly data: boolean;
  readonly compressed: boolean;
  /** Where its first byte is in that file; absent if the file does not have it as it is. */
  readonly offset?: number | undefined;
}

/** Where the data of an image is. Its list is made while it is read: close it afterwards. */
export interface MapResult {
  readonly virtualSizeBytes: number;
  /** The files of the stack, by depth. */
  readonly names: readonly string[];
  /**
   * Covers the whole image, ascending; of an image of no bytes one entry without a length; made while it is read. The files stay open and locked until the last entry was read,
   * or close() was called.
   */
  readonly entries: AsyncIterable<MapEntry>;
  close(): void;
}

/** @throws CowError as for opening a stack; while the entries are read `damaged`, `io`, `interrupted` */
export async function map(stack: string, context: OperationContext = {}): Promise<MapResult> {
  const files = new OpenFiles(context);
  try {
    const opened = await files.openStack(files.stackSpec(stack));
    const { sizeBytes } = opened.device;
    const pause = makePause(context.signal, () => interrupted(stack, "nothing was changed"));
    return {
      virtualSizeBytes: sizeBytes,
      names: [...namesOf(opened)],
      entries: joined(walk(opened, ownFiles(opened), 0, sizeBytes, 0), pause, () => files.close()),
      close: () => files.close(),
    };
  } catch (error) {
    files.close();
    throw error;
  }
}

function* namesOf({ base, layers }: Layered): Generator<string> {
  for (const { name } of layers.toReversed()) yield name;
  const inside = (base as PlacedSource | undefined)?.layered;
  if (inside) yield* namesOf(inside);
  else if (base) yield base.name;
}

interface OwnFile {
  readonly file: ByteSource;
  readonly isCompressed: boolean;
}

/** The file of each layer of a stack. */
function ownFiles({ parts, layers }: Stack): ReadonlyMap<Layer, OwnFile> {
  return new Map(
    layers.flatMap((layer, i) => {
      const file = parts[i]?.file;
      return file ? [[layer, { file, isCompressed: formatOf(layer)?.isCompressed?.(file) ?? false }]] : [];
    }),
  );
}

/** Entries; neighbours may be equal; those without a length are pauses. */
function* walk(
  { base, layers }: Layered,
  files: ReadonlyMap<Layer, OwnFile>,
  from: number,
  to: number,
  depth: number,
): Generator<MapEntry> {
  let at = from;
  for (const place of shown(base, layers, from, to)) {
    const { offset, length, level } = place;
    if (length === 0) {
      yield entry(at, at, depth, "zero");
      continue;
    }
    yield* unheld({ base, layers }, at, offset, depth);
    const below = depth + layers.length - level;
    const layer = layers[level - 1];
    if (layer) yield* held(place, below, files.get(layer));
    else yield* bottom(place, below, files);
    at = offset + length;
  }
  yield* unheld({ base, layers }, at, to, depth);
}

type Kind = "data" | "zero" | "compressed" | "absent";

function entry(start: number, end: number, depth: number, kind: Kind, offset?: number): MapEntry {
  const has = { present: kind !== "absent", zero: kind === "zero" || kind === "absent" };
  const isCompressed = kind === "compressed";
  const place = offset === undefined ? {} : { offset };
  return { start, length: end - start, depth, ...has, data: !has.zero, compressed: isCompressed, ...place };
}

/** The parts of a layer. Its format tells zeros from data, or else the holes of its file. */
function* held(place: Place, depth: number, own: OwnFile | undefined): Generator<MapEntry> {
  const { offset, length, source, at, kind } = place;
  const end = offset + length;
  if (kind === "data") yield entry(offset, end, depth, kind, at);
  else if (kind === "zero") yield entry(offset, end, depth, kind, at === 0 ? undefined : at);
  else if (kind === "compressed" || own?.isCompressed) yield entry(offset, end, depth, "compressed");
  else yield* holes(place, depth, source === own?.file);
}

function* holes({ offset, length, source, at }: Place, depth: number, hasOffset: boolean): Generator<MapEntry> {
  const part = (from: number, to: number, kind: Kind): MapEntry =>
    entry(offset + from - at, offset + to - at, depth, kind, hasOffset ? from : undefined);
  let done = at;
  for (const data of source.dataExtents(at, at + length)) {
    if (data.offset > done) yield part(done, data.offset, "zero");
    yield part(data.offset, data.offset + data.length, "data");
    done = data.offset + data.length;
  }
  if (done < at + length) yield part(done, at + length, "zero");
}

/** The parts of the base: a file as it is, or an image with layers of its own. */
function bottom(place: Place, depth: number, files: ReadonlyMap<Layer, OwnFile>): Generator<MapEntry> {
  const inside = (place.source as PlacedSource).layered;
  if (inside) return walk(inside, files, place.offset, place.offset + place.length, depth);
  return holes(place, depth, !place.source.places);
}

/** Unallocated parts, with the depth of the lowest file that reaches that far. */
function* unheld({ base, layers }: Layered, from: number, to: number, depth: number): Generator<MapEntry> {
  const sizes = [
    ...layers.map(({ virtualSizeBytes }) => virtualSizeBytes).reverse(),
    ...(base ? [base.sizeBytes] : []),
  ];
  for (let at = from; at < to; ) {
    const ended = sizes.findIndex((sizeBytes) => sizeBytes <= at);
    const stop = Math.min(to, ...sizes.filter((sizeBytes) => sizeBytes > at));
    yield entry(at, stop, depth + (ended < 0 ? sizes.length : ended) - 1, "absent");
    at = stop;
  }
}

/** An image of no bytes has an entry, too, as qemu-img says. */
const EMPTY: MapEntry = {
  start: 0,
  length: 0,
  depth: 0,
  present: false,
  zero: false,
  data: false,
  compressed: false,
};

/** Equal neighbours are joined, as by qemu-img. */
async function* joined(entries: Iterable<MapEntry>, pause: Pause, close: () => void): AsyncGenerator<MapEntry> {
  try {
    let last: MapEntry | undefined;
    for (const next of entries) {
      await pause();
      if (next.length === 0) continue;
      if (last && goesOn(last, next)) last = { ...last, length: last.length + next.length };
      else {
        if (last) yield last;
        last = next;
      }
    }
    yield last ?? EMPTY;
  } finally {
    close();
  }
}

const FLAGS = ["depth", "present", "zero", "data", "compressed"] as const;

function goesOn(a: MapEntry, b: MapEntry): boolean {
  if (FLAGS.some((flag) => a[flag] !== b[flag])) return false;
  return a.offset === undefined ? b.offset === undefined : a.offset + a.length === b.offset;
}
