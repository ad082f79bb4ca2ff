/**
 * Owns what `info` tells of an image by its content: a partition table, and what the disk or its partitions begin with.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { Fact } from "../format.ts";
import { contentAt } from "./file-systems.ts";
import { partitionsOf } from "./partitions.ts";

/** The content of at most this many partitions is identified; the others are only listed. */
const LOOKED_INTO = 32;

export interface ContentFacts {
  readonly content: Fact;
  readonly partition_table: "mbr" | "gpt" | null;
  readonly partitions: readonly Fact[];
  /** Are there more than those listed? */
  readonly more_partitions: boolean;
}

/** @throws CowError `io` */
export function describeContent(source: ByteSource): ContentFacts {
  const content = contentAt(source, 0);
  // A boot sector of a file system ends as a partition table does.
  const isBootSector = content !== null && /^(?:fat|ntfs|exfat)/.test(content.type);
  const table = isBootSector ? undefined : partitionsOf(source);
  const partitions = (table?.partitions ?? []).map((partition, i) => {
    const isOutside = partition.offset >= source.sizeBytes;
    const inside =
      i < LOOKED_INTO && !isOutside && partition.type !== "extended" ? contentAt(source, partition.offset) : null;
    return { ...partition, content: inside };
  });
  return {
    content,
    partition_table: table?.kind ?? null,
    partitions,
    more_partitions: table?.isCut ?? false,
  };
}
