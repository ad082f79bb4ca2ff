/**
 * Owns what the history of a running server's exports can be asked for: the words between those who ask, such as the control
 * socket, and who does it. Names are those of exports and checkpoints, sizes are bytes, times milliseconds.
 */
import type { OperationContext } from "../../context.ts";
import type { CheckpointRequest, MadeCheckpoint } from "./history.ts";
import type { ExportEntry } from "./live-export.ts";

export interface RollbackRequest {
  readonly checkpoint: string;
  /** A stack file that is made, and names what was there. */
  readonly keep?: string | undefined;
  /** Remove later checkpoints. */
  readonly discard?: boolean | undefined;
  /** Hang up on clients. */
  readonly force?: boolean | undefined;
}

export interface ForkRequest {
  /** The new export. */
  readonly as: string;
  /** Default: one is made, named as the fork. */
  readonly checkpoint?: string | undefined;
  readonly cowfile?: string | undefined;
  readonly stackFile?: string | undefined;
}

export interface SquashRequest {
  /** Only layers above this checkpoint. */
  readonly from?: string | undefined;
  /** Only layers up to this checkpoint. */
  readonly to?: string | undefined;
}

type JobContext = Pick<OperationContext, "signal" | "onProgress">;

/** The verbs. All throw CowErrors: `not-found` for an export or a checkpoint, `unsuitable` for an export without a stack file. */
export interface HistoryVerbs {
  /** One instant for all exports. @throws CowError `exists` for a name that is taken; `locked`; `no-space`; `io` */
  checkpoint(names: readonly string[], request: CheckpointRequest): Promise<MadeCheckpoint>;
  /** @returns files that were removed. @throws CowError `locked` if clients use it; `usage` if later checkpoints would go */
  rollback(name: string, request: RollbackRequest): Promise<{ readonly removed: readonly string[] }>;
  /** @returns the new export, which clients can use, and the checkpoint that it is over */
  fork(name: string, request: ForkRequest): Promise<{ readonly entry: ExportEntry; readonly checkpoint: string }>;
  /** Joins frozen layers. @returns how many layers there were, and are */
  squash(
    name: string,
    request: SquashRequest,
    context: JobContext,
  ): Promise<{ readonly before: number; readonly after: number }>;
  /** Takes a checkpoint's name away. */
  drop(name: string, checkpoint: string): Promise<void>;
  /** Makes base and frozen layers one new base. */
  flatten(name: string, request: { readonly into: string }, context: JobContext): Promise<void>;
  grow(name: string, sizeBytes: number, how: { readonly force?: boolean | undefined }): Promise<void>;
}
