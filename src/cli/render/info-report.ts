/**
 * Owns how `info` shows an image to people: facts in two columns, and what becomes of its map.
 */
import type { Extent } from "../../lib/bytes/extent.ts";
import { formatSize } from "../../lib/bytes/size.ts";
import type { InfoResult, MapExtent } from "../../lib/operations/info.ts";
import { renderKeyValue } from "./key-value.ts";
import { renderSvgMap } from "./svg-map.ts";

const BLOCK_BYTES = 1024;

export function renderFacts(facts: InfoResult): string {
  const used = facts["blocks_used"];
  const held = typeof used === "number" ? `, ${formatSize(used * BLOCK_BYTES)}` : "";
  return renderKeyValue([
    ["file", facts.file],
    ["format", `${facts.format} version ${facts["version"]}, ABI ${facts["abi"]}`],
    ["state", `${facts["state"]}${facts["packed"] === null ? "" : `, packed (${facts["packed"]})`}`],
    ["image size", facts.virtual_size === null ? "unknown" : formatSize(facts.virtual_size)],
    ["blocks used", `${used ?? "unknown"} of ${facts["rdo_blocks"]}${held}`],
    ["bitmap", `${facts["map_size"]} bytes at byte 1024`],
    ["data from", `byte ${facts["data_offset"]}`],
    ["fingerprint", `${facts["fingerprint"]} (of the base)`],
    ["file size", `${formatSize(facts.file_size)}, on disk ${formatSize(facts.allocated_size)}`],
  ]);
}

/** The parts of a map that the file holds. */
export function* heldOnly(extents: Iterable<MapExtent>): Generator<Extent> {
  for (const { offset, length, allocated } of extents) if (allocated) yield { offset, length };
}

export function svgOfInfo(facts: InfoResult, extents: Iterable<MapExtent>): Iterable<string> {
  return renderSvgMap({
    title: facts.file,
    meaning: "held by the cowfile",
    sizeBytes: facts.virtual_size ?? 0,
    extents: heldOnly(extents),
  });
}
