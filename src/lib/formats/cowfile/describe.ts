/**
 * Owns what `info` tells of a cowfile, packed or not, as far as it can be read. Looks at head and bitmap only.
 */
import { createGunzip } from "node:zlib";
import { countBits } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted } from "../../context.ts";
import { atByte, CowError } from "../../errors.ts";
import type { ImageFacts, Layer, Problem, SurveyHooks } from "../format.ts";
import { findingsOf } from "./findings.ts";
import { type CowGeometry, judgeHead } from "./geometry.ts";
import { type CowHead, decodeHead, fingerprint32, formatFingerprint, isDirty, isPacked } from "./head.ts";
import { CowfileLayer, isGzip } from "./layer.ts";
import { BITMAP_OFFSET_BYTES, HEAD_BLOCK_BYTES, headLayout } from "./layout.ts";
import { surveyCowfile } from "./survey.ts";

const READ_BYTES = 64 * 1024;

export interface Description {
  readonly facts: ImageFacts;
  readonly problems: Iterable<Problem>;
  readonly layer: Layer | undefined;
}

/** Integers as JSON wants them: a string where a number would be rounded. */
function exact(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

function factsOf(
  head: CowHead,
  geometry: CowGeometry | undefined,
  packed: string | null,
  blocksUsed: number | null,
): ImageFacts {
  return {
    format: "cowfile",
    abi: head.abi,
    version: head.version,
    state: isDirty(head) ? "dirty" : "clean",
    packed,
    block_size: Number(head.mapUnit),
    map_size: exact(head.mapSize),
    data_offset: exact(head.dataOffset),
    rdo_blocks: exact(head.rdoBlocks),
    virtual_size: geometry?.virtualSizeBytes ?? null,
    fingerprint: formatFingerprint(fingerprint32(head)),
    blocks_used: blocksUsed,
    blocks_used_header: exact(head.used),
  };
}

/** @throws CowError `bad-head`, `truncated`, `unsupported`, `io`, `interrupted` */
export async function describeCowfile(source: ByteSource, hooks: SurveyHooks): Promise<Description> {
  const headBlock = new Uint8Array(HEAD_BLOCK_BYTES);
  const got = source.read(headBlock, 0);
  if (isGzip(headBlock)) return describeGzip(source);
  const head = decodeHead(headBlock.subarray(0, got), source.name);
  const { problems, geometry } = judgeHead(head, source.sizeBytes, source.name);
  if (!geometry)
    return { facts: factsOf(head, geometry, isPacked(head) ? "plain" : null, null), problems, layer: undefined };
  if (isPacked(head)) {
    const used = countMarked(source, geometry);
    return { facts: factsOf(head, geometry, "plain", used), problems, layer: undefined };
  }
  const checkpoint = (): void => {
    if (hooks.signal?.aborted) throw interrupted(source.name, "nothing was changed");
  };
  const survey = await surveyCowfile(source, geometry, { content: false, checkpoint });
  return {
    facts: factsOf(head, geometry, null, survey.usedBefore),
    problems: { [Symbol.iterator]: () => findingsOf({ head, headBlock, geometry, survey, source, other: problems }) },
    layer: new CowfileLayer(source, { allowDirty: true }),
  };
}

/** The head of a cowfile in any state, packed ones too. */
export async function readAnyHead(source: ByteSource): Promise<CowHead> {
  const headBlock = new Uint8Array(HEAD_BLOCK_BYTES);
  const got = source.read(headBlock, 0);
  if (!isGzip(headBlock)) return decodeHead(headBlock.subarray(0, got), source.name);
  let bytes = new Uint8Array(0);
  for await (const chunk of unzip(source)) {
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length >= HEAD_BLOCK_BYTES) break;
  }
  return decodePackedHead(bytes, source.name);
}

/** Set bits of a plain pack's bitmap, which stands where an unpacked file has it. */
function countMarked(source: ByteSource, geometry: CowGeometry): number {
  const piece = new Uint8Array(READ_BYTES);
  let used = 0;
  const end = BITMAP_OFFSET_BYTES + geometry.mapSizeBytes;
  for (const { offset, length } of source.dataExtents(BITMAP_OFFSET_BYTES, end)) {
    for (let at = offset; at < offset + length; at += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, offset + length - at));
      part.fill(0, source.read(part, at));
      used += countBits(part);
    }
  }
  return used;
}

/** The packed stream is head, bitmap, blocks without gaps: head and bitmap are read, the rest is left alone. */
async function describeGzip(source: ByteSource): Promise<Description> {
  let head: CowHead | undefined;
  let geometry: CowGeometry | undefined;
  let problems: readonly Problem[] = [];
  let pending = new Uint8Array(0);
  let bitmapLeft = 0;
  let used = 0;
  for await (const chunk of unzip(source)) {
    let rest: Uint8Array = chunk;
    if (!head) {
      pending = Buffer.concat([pending, chunk]);
      if (pending.length < HEAD_BLOCK_BYTES) continue;
      head = decodePackedHead(pending, source.name);
      const structBytes = headLayout(head.abi).sizeBytes;
      // A pack has no file of its own to be too short: whether the stream goes on is seen by reading it.
      ({ problems, geometry } = judgeHead(head, Number.MAX_SAFE_INTEGER, source.name));
      if (!geometry) break;
      bitmapLeft = geometry.mapSizeBytes;
      rest = pending.subarray(structBytes);
    }
    const part = rest.subarray(0, bitmapLeft);
    used += countBits(part);
    bitmapLeft -= part.length;
    if (bitmapLeft === 0) break;
  }
  if (!head) head = decodePackedHead(pending, source.name);
  if (geometry && bitmapLeft > 0) {
    throw new CowError("truncated", `the packed stream ends ${bitmapLeft} bytes before the end of its bitmap`, {
      file: source.name,
    });
  }
  return { facts: factsOf(head, geometry, "gzip", geometry ? used : null), problems, layer: undefined };
}

function decodePackedHead(bytes: Uint8Array, file: string): CowHead {
  const head = decodeHead(bytes, file);
  if (!isPacked(head))
    throw new CowError("bad-head", "is gzip data, but what is inside is no packed cowfile", { file });
  return head;
}

async function* unzip(source: ByteSource): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  const compressed = (function* (): Generator<Uint8Array> {
    for (let at = 0; at < source.sizeBytes; at += READ_BYTES) {
      const piece = new Uint8Array(Math.min(READ_BYTES, source.sizeBytes - at));
      yield piece.subarray(0, source.read(piece, at));
    }
  })();
  const { Readable } = await import("node:stream");
  const input = Readable.from(compressed, { objectMode: false });
  input.on("error", (error) => gunzip.destroy(error));
  try {
    for await (const chunk of input.pipe(gunzip)) yield chunk as Uint8Array;
  } catch (cause) {
    if (cause instanceof CowError) throw cause;
    throw new CowError(
      "damaged",
      `the gzip stream is damaged, near ${atByte(gunzip.bytesWritten)}: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        file: source.name,
        cause,
      },
    );
  } finally {
    gunzip.destroy();
    input.destroy();
  }
}
