/**
 * Owns what packing and unpacking are asked for and what they answer.
 */
import { CowError } from "../../errors.ts";
import type { PackKind } from "../../formats/cowfile/pack/kind.ts";
import type { StreamSink } from "./streams.ts";

/** The standard streams, for `-`. */
export interface Streams {
  readonly input?: AsyncIterable<Uint8Array> | undefined;
  readonly output?: StreamSink | undefined;
}

/** What `pack` is asked for. */
export interface PackRequest {
  /** Default `zstd`. */
  readonly format?: PackKind | undefined;
  /** 1 to 9 for gzip (default 9, as the original), 1 to 22 for zstd (default 3). */
  readonly level?: number | undefined;
  /** How many pieces are compressed at once; default: one a processor. */
  readonly threads?: number | undefined;
  /** Replace the output if it exists. */
  readonly force?: boolean | undefined;
  /** Outputs that are replaced whatever they are. */
  readonly replace?: readonly string[] | undefined;
  readonly streams?: Streams | undefined;
}

/** What `pack` or `unpack` wrote. */
export interface PackResult {
  readonly cowfile: string;
  readonly packfile: string;
  readonly format: PackKind;
  readonly blocks: number;
  /** Length of the input file. */
  readonly bytes_in: number;
  /** Length of the output. */
  readonly bytes_out: number;
}

const MOST_THREADS = 1024;

/** @throws CowError `usage` */
export function requireThreads(threads: number | undefined): void {
  if (threads === undefined || (Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS)) return;
  throw new CowError("usage", `${threads} is no number of threads: expected 1 to ${MOST_THREADS}`);
}
