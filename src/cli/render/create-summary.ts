/**
 * Owns what a person is told after a cowfile was created.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import { OWN } from "../../lib/device/own-file.ts";
import type { CreateResult } from "../../lib/operations/create.ts";
import { type KeyValue, renderKeyValue } from "./key-value.ts";

/** @param all where bitmap and data are, too */
export function createSummary(result: CreateResult, all: boolean): string {
  return renderKeyValue([
    ["cowfile", result.cowfile],
    ["over", result.rdofile],
    ["abi", result.abi],
    ["image size", formatSize(result.virtual_size)],
    ["fingerprint", result.fingerprint],
    ["blocks used", `${result.blocks_used} of ${result.rdo_blocks}`],
    ["base record", recordRow(result)],
    ["stack file", result.stack],
    ...(all ? placeRows(result) : []),
  ]);
}

/** The file beside the cowfile that tells later whether the base has changed. */
function recordRow({ cowfile, identity }: CreateResult): string {
  return identity.recorded ? `${cowfile}${OWN.baseRecord.suffix}` : "none";
}

function placeRows({ map_size, data_offset, blocks_used }: CreateResult): readonly KeyValue[] {
  return [
    ["bitmap", `${map_size} bytes at byte 1024`],
    ["data from", `byte ${data_offset}`],
    ["data", formatSize(blocks_used * 1024)],
  ];
}
