/**
 * Owns what `info` shows of a store: its facts and the kernel's status numbers. Reads only metadata.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted, makeYielder } from "../../context.ts";
import type { BaseIdentity, ImageFacts, Problem, SurveyHooks } from "../format.ts";
import { judgeHeader, readHeader } from "./header.ts";
import { judgeStore, type OpenedHeader, type OpenedStore } from "./layer.ts";
import { FIRST_DATA_CHUNK } from "./layout.ts";
import { looksFull, type StoreScan, scanInSteps } from "./scan.ts";

/** The kernel's status of a store: `allocated/total metadata` in sectors, as `dmsetup status` prints it after a reload. */
interface StoreStatus {
  readonly allocated: bigint;
  readonly total: number;
  readonly metadata: number;
}

function statusOf({ geometry, sectors, areas, nextFree }: StoreScan): StoreStatus {
  return {
    allocated: BigInt.asUintN(64, nextFree * BigInt(geometry.chunkSectors)),
    total: sectors,
    metadata: (areas + 1) * geometry.chunkSectors,
  };
}

/** Reads and judges a whole list without blocking signals. @throws CowError `interrupted`, `io` */
export async function surveyStore(source: ByteSource, head: OpenedHeader, hooks: SurveyHooks): Promise<OpenedStore> {
  const yieldToEventLoop = makeYielder();
  const steps = scanInSteps(source, head.geometry);
  for (;;) {
    const step = steps.next();
    if (step.done) return judgeStore(source, head, step.value, hooks.backing);
    if (hooks.signal?.aborted) throw interrupted(source.name, "nothing was changed");
    hooks.onProgress?.({ phase: "scanning", done: step.value, total: step.value, unit: "bytes" });
    await yieldToEventLoop();
  }
}

function exact(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

/** Data chunks before the next free one that no exception uses; null if the numbers make no sense. */
function unusedChunks(scan: StoreScan): number | null {
  if (scan.nextFree > BigInt(scan.chunks + 1)) return null;
  const nextFree = Number(scan.nextFree);
  const { strideChunks } = scan.geometry;
  // Metadata chunks from chunk 2 on and before nextFree.
  const metadata = Math.max(0, Math.ceil((nextFree - 1) / strideChunks) - 1);
  return Math.max(0, nextFree - FIRST_DATA_CHUNK - metadata - scan.olds.length);
}

/** @throws CowError `bad-head`, `truncated`, `unsupported`, `io`, `interrupted` */
export async function describeStore(
  source: ByteSource,
  hooks: SurveyHooks,
): Promise<{ readonly facts: ImageFacts; readonly problems: Iterable<Problem> }> {
  const header = readHeader(source);
  const { problems, geometry } = judgeHeader(header);
  const head = {
    format: "dm-snapshot",
    version: 1,
    valid: header.valid !== 0,
    virtual_size: hooks.backing?.sizeBytes ?? null,
  };
  if (!geometry) return { facts: { ...head, chunk_sectors: header.chunkSectors }, problems };
  const opened = await surveyStore(source, { header, geometry, problems }, hooks);
  const { scan, map } = opened.verdicts;
  const status = statusOf(scan);
  const facts: ImageFacts = {
    ...head,
    chunk_size: geometry.chunkBytes,
    chunk_sectors: geometry.chunkSectors,
    chunks: scan.chunks,
    areas: scan.areas,
    exceptions_per_area: geometry.perArea,
    exceptions: scan.olds.length,
    next_free: exact(scan.nextFree),
    chunks_unused: unusedChunks(scan),
    looks_full: looksFull(scan),
    // In an invalid store the kernel reads no more than the header.
    kernel_status: header.valid === 0 ? "Invalid" : `${status.allocated}/${status.total} ${status.metadata}`,
    sectors_allocated: exact(status.allocated),
    sectors_total: status.total,
    sectors_metadata: status.metadata,
    image_end: map.end * geometry.chunkBytes,
  };
  return { facts, problems: opened.problems };
}

/** A store only knows the unit of its origin. */
export function identifyStore(source: ByteSource): BaseIdentity {
  const { geometry } = judgeHeader(readHeader(source));
  return { blocks: undefined, blockBytes: geometry?.chunkBytes ?? 0, fingerprint: undefined };
}
