/**
 * Owns the request and the result of `convert`.
 */
import type { WriteOptions } from "../../formats/image-writer.ts";
import type { Loss } from "../../formats/losses.ts";
import { type WrittenId, writtenFormats } from "../../formats/registry.ts";

/** A format that `convert` writes. */
export type ConvertFormat = WrittenId;
/** The formats that `convert` writes. */
export const CONVERT_FORMATS: readonly ConvertFormat[] = writtenFormats.map(({ id }) => id);

/** What `convert` is asked for. */
export interface ConvertRequest extends WriteOptions {
  readonly to: ConvertFormat;
  /**
   * A stack: the output holds only the differences from it. If it is the lower part of the stack, the layers above it;
   * otherwise the parts that read differently. For cowfile, dm-snapshot and dm-cow the default is the stack's own base.
   */
  readonly base?: string | undefined;
  /** One layer is intended: joining layers is no loss. */
  readonly flatten?: boolean;
  /** Replace the output, if it is a file of that format. */
  readonly force?: boolean;
  /** Replace the output whatever it is, if this is its name. */
  readonly replace?: readonly string[] | undefined;
  readonly dryRun?: boolean;
}

/** What `convert` wrote, and what that could not carry over. */
export interface ConvertResult {
  readonly stack: string;
  readonly output: string;
  readonly to: ConvertFormat;
  /** The base of the output; null for a whole image. */
  readonly base: string | null;
  readonly virtual_size: number;
  /** The length of the output, holes included. */
  readonly output_size: number;
  /** Bytes of the image that the output holds; for a whole raw image, those that are not holes. */
  readonly bytes_held: number;
  /** Their unit: block, chunk, cluster or sector; null for a raw image. */
  readonly granularity: number | null;
  readonly losses: readonly Loss[];
  readonly dry_run: boolean;
  /** Where in the image an interrupted conversion was resumed, or null. */
  readonly resumed_at: number | null;
}
