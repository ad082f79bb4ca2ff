/**
 * Owns what a client and the server have agreed on so far, and what follows from it for an export. One object is all
 * that STARTTLS must make forgotten.
 */
import { ExportFlag } from "../../protocol/constants.ts";
import type { ExportFacts, Negotiated, SelectedContext } from "./export.ts";

export interface Agreement {
  structuredReplies: boolean;
  extendedHeaders: boolean;
  /** The outcome of the last SET_META_CONTEXT: good for this export and no other. */
  contexts: { readonly exportName: string; readonly selected: readonly SelectedContext[] };
}

/** What is agreed on before anything was asked. */
export function nothingAgreed(): Agreement {
  return { structuredReplies: false, extendedHeaders: false, contexts: { exportName: "", selected: [] } };
}

/** What transmission with this export begins with, if it begins now. */
export function negotiated(agreement: Agreement, facts: ExportFacts): Negotiated {
  const { structuredReplies, extendedHeaders, contexts } = agreement;
  return {
    export: facts,
    structuredReplies: structuredReplies || extendedHeaders,
    extendedHeaders,
    contexts: contexts.exportName === facts.name ? contexts.selected : [],
  };
}

/** The transmission flags of this export as the client is told them. */
export function transmissionFlags(agreement: Agreement, facts: ExportFacts): number {
  const { structuredReplies, extendedHeaders, contexts } = negotiated(agreement, facts);
  let flags = facts.flags | ExportFlag.HAS_FLAGS;
  if (structuredReplies) flags |= ExportFlag.SEND_DF;
  else flags &= ~ExportFlag.SEND_DF;
  // It is about choosing among contexts, with a flag that only extended requests have.
  if (!extendedHeaders || contexts.length === 0) flags &= ~ExportFlag.BLOCK_STATUS_PAYLOAD;
  if (!(flags & ExportFlag.SEND_WRITE_ZEROES)) flags &= ~ExportFlag.SEND_FAST_ZERO;
  return flags;
}
