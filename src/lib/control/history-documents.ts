/**
 * Owns the JSON documents of what changes an export's chain, as schemas/openapi.json
 * describes them.
 */
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
