/**
 * Owns what `info` shows of a qcow2 file: its header and extensions, not its tables. Works with unreadable features,
 * too.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { ImageFacts, Problem } from "../format.ts";
import { compressionOf, unknownFeatures } from "./features.ts";
import { hasIncompatible, type Qcow2Header, readHeader } from "./header.ts";
import { INCOMPATIBLE } from "./layout.ts";
import { qcow2Problem } from "./problems.ts";

/** The incompatible features in the header. */
const FEATURES = { offset: 72, length: 8 };
const ENCRYPTION = { offset: 32, length: 4 };

export function describeQcow2(source: ByteSource): {
  readonly facts: ImageFacts;
  readonly problems: readonly Problem[];
} {
  const header = readHeader(source);
  return {
    facts: {
      format: "qcow2",
      virtual_size: header.virtualSizeBytes,
      version: header.version,
      cluster_size: header.clusterBytes,
      refcount_bits: 2 ** header.refcountOrder,
      compression: compressionOf(header) ?? `unknown (${header.compressionType})`,
      backing_file: header.backingFile ?? null,
      backing_format: header.backingFormat ?? null,
      extended_l2: header.extendedL2,
      lazy_refcounts: header.lazyRefcounts,
      dirty: hasIncompatible(header, INCOMPATIBLE.dirty),
      corrupt: hasIncompatible(header, INCOMPATIBLE.corrupt),
      encrypted: header.cryptMethod !== 0,
      external_data: hasIncompatible(header, INCOMPATIBLE.externalData),
      snapshots: header.snapshotCount,
      bitmaps: header.bitmaps?.count ?? 0,
    },
    problems: [...headerProblems(header)],
  };
}

/** Problems that the header alone shows. */
export function* headerProblems(header: Qcow2Header): Generator<Problem> {
  if (hasIncompatible(header, INCOMPATIBLE.corrupt))
    yield qcow2Problem("corrupt", FEATURES, "is marked corrupt: QEMU found its tables to contradict each other");
  if (hasIncompatible(header, INCOMPATIBLE.dirty))
    yield qcow2Problem("dirty", FEATURES, "is marked dirty: it was not closed, and reference counts may be too low");
  const unknown = unknownFeatures(header);
  if (unknown.length > 0)
    yield qcow2Problem("unknown-feature", FEATURES, `has features that cowtool does not know: ${unknown.join(", ")}`);
  if (header.cryptMethod !== 0)
    yield qcow2Problem("unreadable", ENCRYPTION, "is encrypted: cowtool has no way to a key");
  if (hasIncompatible(header, INCOMPATIBLE.externalData))
    yield qcow2Problem("unreadable", FEATURES, "has its data in another file, which cowtool does not open");
}
