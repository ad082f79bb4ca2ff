/**
 * Owns the types that handshake and transmission share: a connection's view of an export, and what was negotiated.
 */

/** An export as reported to clients. */
export interface ExportFacts {
  /** "" is the default export. UTF-8, at most 4096 bytes. */
  readonly name: string;
  /** For LIST and INFO; "" for none. */
  readonly description: string;
  readonly sizeBytes: number;
  /** Transmission flags without SEND_DF and BLOCK_STATUS_PAYLOAD, which depend on what was negotiated. */
  readonly flags: number;
  readonly blockSizes: { readonly minimum: number; readonly preferred: number; readonly maximum: number };
  /** Names of the meta contexts it has, in the order of their ids; see Context in protocol/constants.ts. */
  readonly contexts: readonly string[];
}

/** A context that the client selected; the id is the server's choice and is unique in the connection. */
export interface SelectedContext {
  readonly id: number;
  readonly name: string;
}

/** What both sides agreed on when transmission begins. */
export interface Negotiated {
  readonly export: ExportFacts;
  readonly structuredReplies: boolean;
  /** Extended headers: 64-bit lengths. Implies structured replies. */
  readonly extendedHeaders: boolean;
  readonly contexts: readonly SelectedContext[];
}
