/**
 * Owns the summary of a new dm-snapshot store for people.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { CreateStoreResult } from "../../lib/operations/create-store.ts";
import { renderKeyValue } from "./key-value.ts";

export function storeSummary(result: CreateStoreResult): string {
  return renderKeyValue([
    ["store", result.cowfile],
    ["over", result.rdofile],
    ["image size", formatSize(result.virtual_size)],
    ["chunk size", formatSize(result.chunk_size)],
    ["exceptions", `${result.exceptions}`],
    ["store size", formatSize(result.store_size)],
    ["stack file", result.stack],
  ]);
}
