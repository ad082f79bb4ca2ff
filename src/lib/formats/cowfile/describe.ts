/**
 * Owns what `info` shows of a cowfile, packed or not, as far as it can be read. Reads only head and bitmap.
 */
import { countBits } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted, makePause, type Pause } from "../../context.ts";
import { CowError } from "../../errors.ts";
import type { Fact, ImageFacts, Problem, SurveyHooks } from "../format.ts";
import { findingsOf } from "./findings.ts";
import { type CowGeometry, judgeHead } from "./geometry.ts";
import { type CowHead, decodeHead, fingerprint32, formatFingerprint, isDirty } from "./head.ts";
import type { CowfileHead } from "./layer.ts";
import { HEAD_BLOCK_BYTES, headLayout } from "./layout.ts";
import { JOURNAL_SUFFIX } from "./live/journal.ts";
import { lastSession } from "./live/last-session.ts";
import { gunzipStream } from "./pack/gzip-stream.ts";
import { type PackKind, packKind } from "./pack/kind.ts";
import { PackedView } from "./pack/packed-view.ts";
import { decodePackedHead } from "./pack/unpacker.ts";
import { inPack, packProblems } from "./pack-problems.ts";
import { readResized } from "./resized.ts";
import { surveyCowfile } from "./survey.ts";

export interface Description {
  readonly facts: ImageFacts;
  readonly problems: Iterable<Problem>;
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

/** @throws CowError `bad-head`, `truncated`, `unsupported`, `damaged`, `io`, `interrupted` */
export async function describeCowfile(source: ByteSource, hooks: SurveyHooks): Promise<Description> {
  const kind = packKind(source);
  if (kind === "gzip") return describeGzip(source, pauseOf(source, hooks.signal));
  if (kind === undefined) return describeUnpacked(source, hooks, null);
  const view = new PackedView(source, kind);
  const { facts, problems } = await describeUnpacked(view, hooks, kind);
  return { facts, problems: [...packProblems(view.surplusBytes, source.sizeBytes), ...inPack(problems)] };
}

async function describeUnpacked(source: ByteSource, hooks: SurveyHooks, packed: PackKind | null): Promise<Description> {
  const headBlock = new Uint8Array(HEAD_BLOCK_BYTES);
  const head = decodeHead(headBlock.subarray(0, source.read(headBlock, 0)), source.name);
  const { problems, geometry } = judgeHead(head, source.sizeBytes, source.name);
  if (!geometry) return { facts: factsOf(head, geometry, packed, null), problems };
  const checkpoint = (): void => {
    if (hooks.signal?.aborted) throw interrupted(source.name, "nothing was changed");
  };
  const survey = await surveyCowfile(source, geometry, { content: false, checkpoint });
  const journal = () => hooks.companion?.(JOURNAL_SUFFIX);
  const session = lastSession({ head, headBlock, geometry }, journal, hooks.boot);
  const findings = { head, headBlock, geometry, survey, source, other: problems, session };
  return {
    facts: { ...factsOf(head, geometry, packed, survey.usedBefore), ...resizedFact(head, headBlock) },
    problems: { [Symbol.iterator]: () => findingsOf(findings) },
  };
}

/** Of a resized cowfile, the blocks of its base. */
function resizedFact(head: CowHead, headBlock: Uint8Array): { readonly [fact: string]: Fact } {
  const blocks = readResized(head, headBlock);
  return blocks === undefined ? {} : { base_blocks: blocks };
}

/** The head of a cowfile in any state, packed ones too. */
export async function readAnyHead(source: ByteSource, signal?: AbortSignal): Promise<CowfileHead> {
  const kind = packKind(source);
  const headBlock = new Uint8Array(HEAD_BLOCK_BYTES);
  // A pack has the head alone.
  if (kind === "gzip") return { head: (await firstBytes(source, pauseOf(source, signal))).head, headBlock };
  if (kind) return { head: new PackedView(source, kind).head, headBlock };
  return { head: decodeHead(headBlock.subarray(0, source.read(headBlock, 0)), source.name), headBlock };
}

function pauseOf(source: ByteSource, signal: AbortSignal | undefined): Pause {
  return makePause(signal, () => interrupted(source.name, "nothing was changed"));
}

/** The beginning of a gzip pack's payload: at least the head, if it is that long. */
async function firstBytes(source: ByteSource, pause: Pause): Promise<ReturnType<typeof decodePackedHead>> {
  let bytes = new Uint8Array(0);
  for await (const chunk of gunzipStream(source, pause)) {
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length >= HEAD_BLOCK_BYTES) break;
  }
  return decodePackedHead(bytes, source.name);
}

/** In a gzip pack only head and bitmap are decompressed; only check reads the rest. */
async function describeGzip(source: ByteSource, pause: Pause): Promise<Description> {
  const { head, geometry } = await firstBytes(source, pause);
  let skip = headLayout(head.abi).sizeBytes;
  let left = geometry.mapSizeBytes;
  let used = 0;
  for await (const chunk of gunzipStream(source, pause)) {
    const part = chunk.subarray(Math.min(skip, chunk.length)).subarray(0, left);
    skip = Math.max(0, skip - chunk.length);
    used += countBits(part);
    left -= part.length;
    if (left === 0) break;
  }
  if (left > 0) {
    throw new CowError("truncated", `the packed stream ends ${left} bytes before the end of its bitmap`, {
      file: source.name,
    });
  }
  const { problems } = judgeHead(head, Number.MAX_SAFE_INTEGER, source.name);
  return { facts: factsOf(head, geometry, "gzip", used), problems };
}
