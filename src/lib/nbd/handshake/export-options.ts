/**
 * Owns the answers to options about exports: LIST, INFO and GO, EXPORT_NAME.
 */
import { Info, Option, Reply } from "../../protocol/constants.ts";
import {
  decodeText,
  encodeExportName,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeReply,
  encodeServer,
  type InfoRequest,
  joined,
  OptionRefusal,
} from "../../protocol/option-codec.ts";
import { type Agreement, transmissionFlags } from "./agreement.ts";
import type { ExportFacts, OfferedExports } from "./export.ts";

/** Clients may assume this size if a server reports none. */
const DEFAULT_MAXIMUM_BYTES = 32 * 1024 * 1024;
/** At most this much of a client's text is repeated in an error. */
const QUOTED_AT_MOST = 80;

function quoted(name: string): string {
  return JSON.stringify(name.length > QUOTED_AT_MOST ? `${name.slice(0, QUOTED_AT_MOST)}…` : name);
}

/** @throws {OptionRefusal} if there is none of that name */
export function findExport(offers: OfferedExports, name: string): ExportFacts {
  const found = offers.find(name);
  if (found) return found.facts;
  const text = name === "" ? "this server has no default export" : `this server has no export ${quoted(name)}`;
  throw new OptionRefusal(Reply.ERR_UNKNOWN, `${text}; NBD_OPT_LIST tells which ones it has`);
}

/** The whole answer to LIST. */
export function answerList(listed: ReturnType<OfferedExports["listed"]>): Uint8Array {
  const lines = Array.from(listed, ({ name, description }) => encodeServer(Option.LIST, name, description));
  return joined([...lines, encodeReply(Option.LIST, Reply.ACK)]);
}

/** The whole answer to INFO and GO, which must say the same about the same export. */
export function answerInfo(
  option: number,
  infos: InfoRequest["infos"],
  facts: ExportFacts,
  agreement: Agreement,
): Uint8Array {
  const { minimum, preferred, maximum } = facts.blockSizes;
  const replies = [encodeInfoExport(option, facts.sizeBytes, transmissionFlags(agreement, facts))];
  if (infos.has(Info.NAME)) replies.push(encodeInfoText(option, Info.NAME, facts.name));
  if (infos.has(Info.DESCRIPTION) && facts.description !== "")
    replies.push(encodeInfoText(option, Info.DESCRIPTION, facts.description));
  // Narrower limits than a client may assume are reported without being asked for.
  if (infos.has(Info.BLOCK_SIZE) || minimum > 1 || maximum < DEFAULT_MAXIMUM_BYTES)
    replies.push(encodeInfoBlockSize(option, minimum, preferred, maximum));
  return joined([...replies, encodeReply(option, Reply.ACK)]);
}

/**
 * The export that EXPORT_NAME asks for, and the answer.
 * @throws {OptionRefusal} this option has no error replies, so the connection must end
 */
export function answerExportName(
  name: Uint8Array,
  offers: OfferedExports,
  agreement: Agreement,
  withZeroes: boolean,
): { readonly facts: ExportFacts; readonly bytes: Uint8Array } {
  const facts = findExport(offers, decodeText(name, "the export's name"));
  return { facts, bytes: encodeExportName(facts.sizeBytes, transmissionFlags(agreement, facts), withZeroes) };
}
