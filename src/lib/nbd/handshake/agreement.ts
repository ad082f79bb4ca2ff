/**
 * Owns what was agreed on so far, and its effect on an export. It is one object, so that STARTTLS can forget all of it.
 */
import { ExportFlag } from "../../protocol/constants.ts";
import type { ExportFacts, Negotiated, SelectedContext } from "./export.ts";

export interface Agreement {
  structuredReplies: boolean;
  extendedHeaders: boolean;
  /** The result of the last SET_META_CONTEXT, valid for this export only. */
  contexts: { readonly exportName: string; readonly selected: readonly SelectedContext[] };
}

/** The state before anything was asked. */
export function nothingAgreed(): Agreement {
  return { structuredReplies: false, extendedHeaders: false, contexts: { exportName: "", selected: [] } };
}

/** What transmission with this export would begin with now. */
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
  // It selects among contexts, with a flag that only extended requests have.
  if (!extendedHeaders || contexts.length === 0) flags &= ~ExportFlag.BLOCK_STATUS_PAYLOAD;
  if (!(flags & ExportFlag.SEND_WRITE_ZEROES)) flags &= ~ExportFlag.SEND_FAST_ZERO;
  return flags;
}
