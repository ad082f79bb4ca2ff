/**
 * Owns the JSON documents of checkpoints, rollbacks, forks and what else changes an export's chain, as schemas/openapi.json
 * describes them.
 */
import type { ExportDocument } from "./documents.ts";

/** What `checkpoint` takes. */
export interface CheckpointRequestDocument {
  /** Of exports: the checkpoint is one instant for all of them. */
  readonly names: readonly string[];
  readonly as: string;
  readonly note?: string | undefined;
}

/** A checkpoint that was made. */
export interface CheckpointedDocument {
  readonly checkpoint: string;
  /** In ISO 8601. */
  readonly time: string;
  /** How long requests waited. */
  readonly pause_ms: number;
  /** The file that was the top and is frozen, and the one that is the top now. */
  readonly exports: readonly { readonly name: string; readonly frozen: string; readonly top: string }[];
}

/** What `rollback` takes. */
export interface RollbackRequestDocument {
  readonly checkpoint: string;
  /** An absolute name: a stack file that then names what was there. */
  readonly keep?: string | undefined;
  /** Later checkpoints may go. */
  readonly discard?: boolean | undefined;
  /** Clients are hung up on. */
  readonly force?: boolean | undefined;
}

/** An export that shows a checkpoint again. */
export interface RolledBackDocument extends ExportDocument {
  readonly checkpoint: string;
  /** Files that are gone. */
  readonly removed: readonly string[];
}

/** What `fork` takes. Names of files are absolute. */
export interface ForkRequestDocument {
  /** The new export. */
  readonly as: string;
  /** Default: one is made now, named as the fork. */
  readonly checkpoint?: string | undefined;
  readonly cowfile?: string | undefined;
  readonly stack_file?: string | undefined;
}

/** The new export. */
export interface ForkedDocument extends ExportDocument {
  /** What it is over. */
  readonly checkpoint: string;
}

/** What `squash` takes; nothing: runs of layers without a name. */
export interface SquashRequestDocument {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}
