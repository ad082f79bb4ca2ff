/**
 * Owns `pack`: an unpacked, clean cowfile into one of the three packed forms. The output appears whole, or not at all;
 * the same input and level give the same bytes, whatever the machine or the number of threads.
 */
import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import { mapOrdered, release } from "../../bytes/ordered.ts";
import { encodeDigestFrame, encodeSeekTable, entryOf, type SeekEntry } from "../../bytes/zstd-seekable.ts";
import { interrupted, makeYielder, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError, shellWord } from "../../errors.ts";
import { BitmapReader } from "../../formats/cowfile/bitmap-windows.ts";
import { checkWithoutContent } from "../../formats/cowfile/check.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES, HEAD_BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { gzipMember, MEMBER_BYTES } from "../../formats/cowfile/pack/gzip-stream.ts";
import { type Payload, payloadOf, readPayload } from "../../formats/cowfile/pack/payload.ts";
import { FRAME_BYTES } from "../../formats/cowfile/pack/zstd-pack.ts";
import { detectFormat } from "../../formats/registry.ts";
import { claimOutput } from "../../output/claim.ts";
import { OpenFiles, refuseSameFile } from "../files.ts";
import { noticeUnmarked } from "../merge/doubts.ts";
import { plainPieces } from "./plain.ts";
import { type PackRequest, type PackResult, requireThreads } from "./request.ts";
import { type StreamSink, spool } from "./streams.ts";

const LEVELS = { gzip: { default: 9, max: 9 }, zstd: { default: 3, max: 22 } } as const;

/** What does not compress grows a little; room for it makes one piece of each frame. */
const CHUNK_SLACK_BYTES = 64 * 1024;

const compress = promisify(zstdCompress);

/**
 * Packs `cowfile` into `packfile`; either may be `-` if the request brings the stream for it.
 *
 * @throws CowError `dirty`, `packed`, `damaged`, `truncated`, `bad-head`, `exists`, `usage`, `locked`, `io`, `no-space`, `interrupted`
 */
export async function pack(
  cowfile: string,
  packfile: string,
  request: PackRequest = {},
  context: OperationContext = {},
): Promise<PackResult> {
  const format = request.format ?? "zstd";
  const level = levelOf(format, request.level);
  const threads = request.threads ?? availableParallelism();
  requireThreads(threads);
  return OpenFiles.during(context, async (files) => {
    const input = onlyLayer(files, cowfile);
    const source = await openInput(files, input, request, context);
    const layer = new CowfileLayer(source, { allowDirty: false });
    await requirePackable(layer, context);
    noticeMissing(layer, context);
    await noticeUnmarked(layer, context, "packed");
    const payload = payloadOf(source, layer.opened);
    const pieces = piecesOf({ format, level, threads, layer, payload });
    const watch = watcher(packfile, payload.sizeBytes, context);
    const result = (bytesOut: number): PackResult => {
      // Compressed output is smaller than the input: the end of the progress is known only here.
      context.onProgress?.({ phase: "packing", done: payload.sizeBytes, total: payload.sizeBytes, unit: "bytes" });
      return {
        cowfile,
        packfile,
        format,
        blocks: payload.blocks,
        bytes_in: source.sizeBytes,
        bytes_out: bytesOut,
      };
    };
    if (packfile === "-") return result(await toStream(pieces, requireSink(request), watch));
    refuseSameFile(files.storage, packfile, [input]);
    claimOutput(files, packfile, request, "pack");
    return files.write(packfile, [input], request, async (device) => result(await toDevice(pieces, device, watch)));
  });
}

function levelOf(format: PackResult["format"], level: number | undefined): number {
  if (format === "plain") {
    if (level !== undefined)
      throw new CowError("usage", "--level makes no sense with --format plain, which does not compress");
    return 0;
  }
  const { max, default: usual } = LEVELS[format];
  if (level !== undefined && (level < 1 || level > max))
    throw new CowError("usage", `${level} is not a level of ${format}: expected 1 to ${max}`);
  return level ?? usual;
}

/** The file to pack: of a stack file its layer, if there is one. */
function onlyLayer(files: OpenFiles, cowfile: string): string {
  if (!cowfile.startsWith("stack:")) return cowfile;
  const spec = files.stackSpec(cowfile);
  const [layer, ...more] = spec.layers;
  if (layer && more.length === 0) return layer.path;
  throw new CowError("usage", `has ${spec.layers.length} layers: one cowfile is packed`, {
    file: cowfile,
    hints: layer ? [`\`cowtool squash ${shellWord(cowfile)} NEW.cow\` makes one of them`] : [],
  });
}

async function openInput(
  files: OpenFiles,
  cowfile: string,
  request: PackRequest,
  context: OperationContext,
): Promise<BlockDevice> {
  if (cowfile !== "-") {
    const file = files.open(cowfile, { lock: "shared" });
    const format = detectFormat(file);
    if (!format || format === cowfileFormat) return file;
    throw new CowError("unsupported", `is a ${format.title}: only cowfiles are packed`, {
      file: cowfile,
      hints: [`\`cowtool convert BASE,${shellWord(cowfile)} NEW --to cowfile\` makes one of it`],
    });
  }
  if (!request.streams?.input) throw new CowError("usage", "there is no stream to read from", { file: "-" });
  return files.keep(await spool(files.storage, request.streams.input, context.signal));
}

function requireSink(request: PackRequest): StreamSink {
  if (!request.streams?.output) throw new CowError("usage", "there is no stream to write to", { file: "-" });
  return request.streams.output;
}

/** A pack has no room for what is wrong with a cowfile, nor for what its head block holds besides the head. */
async function requirePackable(layer: CowfileLayer, context: OperationContext): Promise<void> {
  for (const problem of await checkWithoutContent(layer.source, { signal: context.signal })) {
    if (problem.severity === "error") {
      throw new CowError("damaged", problem.message, {
        file: layer.name,
        details: { problem: problem.id, offset: problem.offset },
        hints: [`run \`cowtool repair -f ${shellWord(layer.name)}\` first`],
      });
    }
    if (problem.id === "resized") {
      const message = `${problem.message}: a pack has no place for that, and is of a cowfile over a base of the image's size`;
      context.onNotice?.({ severity: "warning", file: layer.name, message });
    }
    if (problem.id === "head-tail") {
      context.onNotice?.({
        severity: "warning",
        file: layer.name,
        message: `what the head block holds after the head, up to byte ${HEAD_BLOCK_BYTES}, is not packed: the format has no place for it`,
      });
    }
  }
}

/** Marks behind the end of the image are packed, as the original does; but of what the file lacks there, only zeros can be. */
function noticeMissing({ source, opened, name }: CowfileLayer, context: OperationContext): void {
  const { rdoBlocks, dataOffsetBytes, mapSizeBytes } = opened.geometry;
  const whole = Math.max(0, Math.floor((source.sizeBytes - dataOffsetBytes) / BLOCK_BYTES));
  const first = Math.max(rdoBlocks, whole);
  let bytes = 0;
  for (const { length } of new BitmapReader(source, opened.geometry).markedExtents(first, mapSizeBytes * 8))
    bytes += length;
  if (bytes === 0) return;
  const blocks = bytes / BLOCK_BYTES;
  const message = `${blocks} ${blocks === 1 ? "block is" : "blocks are"} allocated beyond the end of the image, and the file ends before their data: packed as zeros`;
  context.onNotice?.({ severity: "warning", file: name, message });
}

interface Packing {
  readonly format: PackResult["format"];
  readonly level: number;
  readonly threads: number;
  readonly layer: CowfileLayer;
  readonly payload: Payload;
}

/** A part of the output: bytes that follow what came before, or a run of zeros (a hole, where there can be one). */
export type Piece = Uint8Array | { readonly zeros: number };

function piecesOf(packing: Packing): AsyncIterable<Piece> {
  const { format, level, threads, layer, payload } = packing;
  if (format === "plain") return plainPieces(layer.source, layer.opened, payload);
  const contents = readPayload(layer.source, layer.opened, payload, format === "gzip" ? MEMBER_BYTES : FRAME_BYTES);
  return format === "gzip"
    ? mapOrdered(contents, threads, (content) => gzipMember(content, level).finally(() => release(content)))
    : zstdPieces(contents, level, threads);
}

/** Frames, the checksum of everything, the seek table. */
async function* zstdPieces(contents: Iterable<Uint8Array>, level: number, threads: number): AsyncGenerator<Uint8Array> {
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
  const entries: SeekEntry[] = [];
  const hash = createHash("sha256");
  const frames = mapOrdered(contents, threads, async (content) => {
    const contentBytes = content.length;
    const frame = await compress(content, { params, chunkSize: FRAME_BYTES + CHUNK_SLACK_BYTES });
    release(content);
    return { frame, contentBytes };
  });
  for await (const { frame, contentBytes } of frames) {
    entries.push(entryOf(frame, contentBytes));
    hash.update(frame);
    yield frame;
  }
  const table = encodeSeekTable(entries);
  yield encodeDigestFrame(hash.update(table).digest());
  yield table;
}

type Watch = () => Promise<void> | undefined;

/** Stops when the signal says so, and lets the event loop turn. */
function watcher(file: string, totalBytes: number, context: OperationContext): (outBytes: number) => ReturnType<Watch> {
  const yieldToEventLoop = makeYielder();
  return (outBytes) => {
    if (context.signal?.aborted) throw interrupted(file, "it was not created");
    context.onProgress?.({ phase: "packing", done: Math.min(outBytes, totalBytes), total: totalBytes, unit: "bytes" });
    return yieldToEventLoop();
  };
}

async function toDevice(
  pieces: AsyncIterable<Piece>,
  device: BlockDevice,
  watch: (outBytes: number) => ReturnType<Watch>,
): Promise<number> {
  let size = 0;
  for await (const piece of pieces) {
    if (piece instanceof Uint8Array) {
      device.write(piece, size);
      size += piece.length;
      release(piece);
    } else size += piece.zeros;
    await watch(size);
  }
  device.resize(size);
  return size;
}

async function toStream(
  pieces: AsyncIterable<Piece>,
  sink: StreamSink,
  watch: (outBytes: number) => ReturnType<Watch>,
): Promise<number> {
  let size = 0;
  for await (const piece of pieces) {
    const parts = piece instanceof Uint8Array ? [piece] : zerosIn(piece.zeros);
    for (const part of parts) {
      await sink(part);
      size += part.length;
    }
    await watch(size);
  }
  return size;
}

function* zerosIn(count: number): Generator<Uint8Array> {
  for (let left = count; left > 0; left -= MEMBER_BYTES) yield new Uint8Array(Math.min(left, MEMBER_BYTES));
}
