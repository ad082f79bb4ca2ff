/**
 * Owns the answers to options about meta contexts: which of an export's contexts a query means.
 */
import { Option, Reply } from "../../protocol/constants.ts";
import {
  decodeContextRequest,
  encodeContext,
  encodeReply,
  joined,
  OptionRefusal,
} from "../../protocol/option-codec.ts";
import { type Agreement, nothingAgreed } from "./agreement.ts";
import type { OfferedExports } from "./export.ts";
import { findExport } from "./export-options.ts";

/** The most contexts of one connection: each costs a walk of the image in every BLOCK_STATUS. @internal */
export const MAX_SELECTED = 64;

/** `base:`, `qemu:` and `qemu:dirty-bitmap:` are wildcards when listing. Other namespaces simply match nothing. */
function isListedBy(query: string, context: string): boolean {
  return query === context || (query.endsWith(":") && context.startsWith(query));
}

/**
 * The whole answer to LIST_META_CONTEXT. Works without structured replies, too: it promises nothing.
 * @throws {OptionRefusal}
 */
export function answerListContexts(data: Uint8Array, offers: OfferedExports): Uint8Array {
  const { exportName, queries } = decodeContextRequest(data);
  const { contexts } = findExport(offers, exportName);
  const names = contexts.map(({ name }) => name);
  const listed =
    queries.length === 0 ? names : names.filter((name) => queries.some((query) => isListedBy(query, name)));
  // Before a context was selected the id has no meaning; the protocol says 0.
  const lines = listed.map((name) => encodeContext(Option.LIST_META_CONTEXT, 0, name));
  return joined([...lines, encodeReply(Option.LIST_META_CONTEXT, Reply.ACK)]);
}

/**
 * The whole answer to SET_META_CONTEXT. What was selected before is given up in any case, also when this one fails.
 * @throws {OptionRefusal}
 */
export function answerSetContexts(data: Uint8Array, offers: OfferedExports, agreement: Agreement): Uint8Array {
  forgetContexts(agreement);
  if (!agreement.structuredReplies && !agreement.extendedHeaders)
    throw new OptionRefusal(
      Reply.ERR_INVALID,
      "meta contexts need structured replies or extended headers, which were not negotiated",
    );
  const { exportName, queries } = decodeContextRequest(data);
  const { contexts } = findExport(offers, exportName);
  const wanted = new Set(queries);
  const selected = contexts.map((context, i) => ({ id: i + 1, ...context })).filter(({ name }) => wanted.has(name));
  if (selected.length > MAX_SELECTED)
    throw new OptionRefusal(
      Reply.ERR_TOO_BIG,
      `${selected.length} meta contexts are meant, ${MAX_SELECTED} can be had at once`,
    );
  agreement.contexts = { exportName, selected };
  const lines = selected.map(({ id, name }) => encodeContext(Option.SET_META_CONTEXT, id, name));
  return joined([...lines, encodeReply(Option.SET_META_CONTEXT, Reply.ACK)]);
}

/** The effect of a SET_META_CONTEXT that is refused by its head. */
export function forgetContexts(agreement: Agreement): void {
  agreement.contexts = nothingAgreed().contexts;
}
