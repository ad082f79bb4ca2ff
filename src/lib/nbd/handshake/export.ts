/**
 * Owns the types that handshake and transmission share: a connection's view of an export, and what was negotiated.
 */

import type { StatusKind } from "../../stack/live/image.ts";

/** A meta context that an export has: a name for clients, and the question that it answers. */
export interface ExportContext {
  readonly name: string;
  readonly kind: StatusKind;
}

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
  /** In the order of their ids; see Context in protocol/constants.ts. Those of checkpoints come and go. */
  readonly contexts: readonly ExportContext[];
}

/** What a client can ask for. */
export interface OfferedExports {
  /** As LIST tells it, in this order; the default export has the name "". */
  listed(): Iterable<Pick<ExportFacts, "name" | "description">>;
  find(name: string): { readonly facts: ExportFacts } | undefined;
}

/** A context that the client selected; the id is the server's choice and is unique in the connection. */
export interface SelectedContext extends ExportContext {
  readonly id: number;
}

/** What both sides agreed on when transmission begins. */
export interface Negotiated {
  readonly export: ExportFacts;
  readonly structuredReplies: boolean;
  /** Extended headers: 64-bit lengths. Implies structured replies. */
  readonly extendedHeaders: boolean;
  readonly contexts: readonly SelectedContext[];
}
