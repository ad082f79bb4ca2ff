/**
 * Owns how `info` shows an image to people: facts in two columns, tables of its parts, and its map.
 */
import type { Extent } from "../../lib/bytes/extent.ts";
import { formatSize, roundedSize } from "../../lib/bytes/size.ts";
import type { Fact } from "../../lib/formats/format.ts";
import type { Info, InfoResult, MapExtent } from "../../lib/operations/info.ts";
import { type BlockMapView, renderBlockMap } from "./block-map.ts";
import { contentRows, renderChain, renderPartitions } from "./chain-report.ts";
import { type KeyValue, renderKeyValue } from "./key-value.ts";
import { kindsOfProblems, type ProblemView, renderProblems } from "./problems.ts";
import { renderSvgMap } from "./svg-map.ts";
import type { Row } from "./table.ts";

const BLOCK_BYTES = 1024;

export interface InfoView extends Pick<BlockMapView, "columns" | "env">, Pick<ProblemView, "colour" | "all"> {
  /** Draw the map below. */
  readonly map: boolean;
}

export async function* renderInfo(info: Info, view: InfoView): AsyncGenerator<string> {
  const { facts, chain, problems, extents, mapBytes } = info;
  yield renderFacts(facts);
  yield* renderPartitions(facts, view);
  if (chain) yield* renderChain(chain, view);
  yield* renderProblems(problems, view);
  if (extents && view.map) yield* renderBlockMap(heldOnly(extents), mapBytes, { ...view, ...legendOf(facts) });
}

function legendOf({ format }: InfoResult): { readonly none: string; readonly all: string } {
  if (format === "raw") return { none: "a hole", all: "data" };
  return { none: "from the base", all: `allocated in the ${format === "cowfile" ? "cowfile" : "layer"}` };
}

function renderFacts(facts: InfoResult): string {
  return facts.format === "cowfile" ? renderCowfile(facts) : renderOther(facts);
}

const SHOWN_ELSEWHERE = new Set([
  "file",
  "format",
  "virtual_size",
  "file_size",
  "allocated_size",
  "content",
  "partition_table",
  "partitions",
  "more_partitions",
  "pending_merge",
]);

/** Facts of any format, in the format's own order: lists line by line. */
function renderOther(facts: InfoResult): string {
  const rows: KeyValue[] = [
    ["file", facts.file],
    ["format", facts.format],
    ["image size", facts.virtual_size === null ? "not stored" : formatSize(facts.virtual_size)],
  ];
  for (const [name, fact] of Object.entries(facts)) {
    if (SHOWN_ELSEWHERE.has(name)) continue;
    const label = name.replaceAll("_", " ");
    if (!Array.isArray(fact)) rows.push([label, inWords(name, fact)]);
    else if (fact.length === 0) rows.push([label, "none"]);
    else
      for (const [i, each] of (fact as readonly Fact[]).entries()) rows.push([`${label} ${i + 1}`, inWords("", each)]);
  }
  rows.push(
    ...contentRows(facts),
    ["file size", sizesOf(facts)],
    ...mergeRows(facts["pending_merge"] as PendingMerge | undefined),
  );
  return renderKeyValue(rows);
}

function sizesOf({ file_size: size, allocated_size: allocated }: InfoResult): string {
  return allocated === null ? formatSize(size) : `${formatSize(size)}, on disk ${formatSize(allocated)}`;
}

type PendingMerge = { readonly message: string; readonly ways: readonly string[] };

function mergeRows(pending: PendingMerge | undefined): KeyValue[] {
  return pending
    ? [["merge", `interrupted: ${pending.message}`], ...pending.ways.map((way) => ["", way] as const)]
    : [];
}

function inWords(name: string, fact: Fact): string {
  if (fact === null) return "none";
  if (typeof fact === "boolean") return fact ? "yes" : "no";
  if (typeof fact === "number" && name.endsWith("_size")) return formatSize(fact);
  if (Array.isArray(fact)) return fact.length > 0 && typeof fact[0] === "object" ? `${fact.length}` : fact.join(" ");
  if (typeof fact !== "object") return `${fact}`;
  return Object.entries(fact)
    .map(([key, value]: [string, Fact]) => `${key.replaceAll("_", " ")} ${inWords(key, value)}`)
    .join(", ");
}

function renderCowfile(facts: InfoResult): string {
  const used = facts["blocks_used"];
  const held = typeof used === "number" ? `, ${formatSize(used * BLOCK_BYTES)}` : "";
  return renderKeyValue([
    ["file", facts.file],
    ["format", `${facts.format} version ${facts["version"]}, ABI ${facts["abi"]}`],
    ["state", `${facts["state"]}${facts["packed"] === null ? "" : `, packed (${facts["packed"]})`}`],
    ["image size", facts.virtual_size === null ? "unknown" : formatSize(facts.virtual_size)],
    ...baseRows(facts["base_blocks"]),
    ["blocks used", `${used ?? "unknown"} of ${facts["rdo_blocks"]}${held}`],
    ["bitmap", `${facts["map_size"]} bytes at byte 1024`],
    ["data from", `byte ${facts["data_offset"]}`],
    ["fingerprint", `${facts["fingerprint"]} (of the base)`],
    ["file size", sizesOf(facts)],
  ]);
}

/** Of a resized cowfile. */
function baseRows(blocks: Fact | undefined): KeyValue[] {
  return typeof blocks === "number"
    ? [["base size", `${formatSize(blocks * BLOCK_BYTES)}: the image was resized`]]
    : [];
}

/** What a table of files says of an image. */
export function infoRow({ facts, chain, problems }: Info): Row {
  const { format, state, packed, virtual_size: size } = facts;
  return [
    format,
    [
      ...(typeof state === "string" ? [state] : []),
      ...(packed ? ["packed"] : []),
      ...(chain?.some((link) => link.being_written) ? ["being written"] : []),
    ].join(", ") || "-",
    size === null ? "-" : roundedSize(size),
    facts.allocated_size === null ? "-" : roundedSize(facts.allocated_size),
    kindsOfProblems(problems),
  ];
}

/** The allocated parts of a map. */
async function* heldOnly(extents: AsyncIterable<MapExtent>): AsyncGenerator<Extent> {
  for await (const { offset, length, allocated } of extents) if (allocated) yield { offset, length };
}

export function svgOfInfo({ facts, mapBytes }: Info, extents: AsyncIterable<MapExtent>): AsyncIterable<string> {
  return renderSvgMap({
    title: facts.file,
    sizeBytes: mapBytes,
    rest: "from the base",
    parts: [{ words: `in ${facts.file}`, extents: heldOnly(extents) }],
  });
}
