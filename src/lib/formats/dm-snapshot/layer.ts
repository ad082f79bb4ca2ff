/**
 * Owns a dm-snapshot store as a layer of a stack: which chunks are allocated and where. Read-only.
 */
import type { ByteSource, Place } from "../../bytes/byte-source.ts";
import { coalesce, type Extent } from "../../bytes/extent.ts";
import { CowError, shellWord } from "../../errors.ts";
import { type BaseIdentity, NOT_ALLOCATED, type Problem, type SearchableLayer } from "../format.ts";
import type { ExceptionRun } from "./exception-map.ts";
import { judgeHeader, readHeader, type StoreHeader } from "./header.ts";
import { judgeExceptions, listProblems, type Verdicts } from "./judge.ts";
import type { StoreGeometry } from "./layout.ts";
import { givesUp } from "./problems.ts";
import { type StoreScan, scanStore } from "./scan.ts";

/** A store as far as it can be read. */
export interface OpenedStore {
  readonly header: StoreHeader;
  readonly geometry: StoreGeometry;
  readonly verdicts: Verdicts;
  /** All problems, header first; complete in memory, because the file may be closed when they are read. */
  readonly problems: readonly Problem[];
}

/** A store whose header was read and checked. */
export interface OpenedHeader {
  readonly header: StoreHeader;
  readonly geometry: StoreGeometry;
  readonly problems: readonly Problem[];
}

/** Judges the list that was read. */
export function judgeStore(
  source: ByteSource,
  head: OpenedHeader,
  scan: StoreScan,
  below: ByteSource | undefined,
): OpenedStore {
  const { header, geometry } = head;
  const verdicts = judgeExceptions(scan, below && Math.ceil(below.sizeBytes / geometry.chunkBytes));
  return { header, geometry, verdicts, problems: [...head.problems, ...listProblems(source, verdicts)] };
}

/** The error for a store that this problem makes unusable. */
export function damageError(problem: Problem, file: string): CowError {
  const hints = problem.fixable
    ? [`run \`cowtool repair ${shellWord(file)}\` first`]
    : [
        ...(givesUp(problem.id) ? [`\`cowtool repair --drop-lost ${shellWord(file)}\` gives up what is lost`] : []),
        ...(problem.severity === "error"
          ? [
              `\`dm-snapshot:force;${file}\` in a stack reads what is there: chunks that were saved before, and nothing since`,
            ]
          : []),
      ];
  return new CowError(problem.id === "area-missing" ? "truncated" : "damaged", problem.message, {
    file,
    details: { problem: problem.id, offset: problem.offset },
    hints,
  });
}

/** The geometry, or the header's problem as an error. @throws CowError as readHeader, and `damaged` */
export function openHeader(source: ByteSource): OpenedHeader {
  const header = readHeader(source);
  const { problems, geometry } = judgeHeader(header);
  if (geometry) return { header, geometry, problems };
  const problem = problems.find(({ id }) => id === "chunk-size");
  throw new CowError("damaged", problem?.message ?? "the header is beyond use", {
    file: source.name,
    details: { problem: "chunk-size", offset: problem?.offset ?? 0 },
  });
}

/**
 * Opens a store without serious problems.
 *
 * @param lenient accepts what a kernel refuses or gives up, and leaves out exceptions without a place
 * @throws CowError `bad-head`, `unsupported`, `truncated`, `damaged`
 */
export function openStore(source: ByteSource, below: ByteSource | undefined, lenient: boolean): OpenedStore {
  const head = openHeader(source);
  const refuse = (problems: readonly Problem[]): void => {
    const fatal = lenient ? undefined : problems.find(({ severity }) => severity === "error");
    if (fatal) throw damageError(fatal, source.name);
  };
  refuse(head.problems);
  const opened = judgeStore(source, head, scanStore(source, head.geometry), below);
  refuse(opened.problems);
  return opened;
}

export interface StoreLayerOptions {
  /** The backing, which has the size. Without it the image ends with the last allocated chunk. */
  readonly below?: ByteSource | undefined;
  readonly lenient: boolean;
}

export class DmSnapshotLayer implements SearchableLayer {
  readonly formatId = "dm-snapshot";
  readonly source: ByteSource;
  readonly opened: OpenedStore;
  readonly virtualSizeBytes: number;
  readonly granularityBytes: number;
  /** Warnings for readers: what is left out, and which damage was ignored. */
  readonly warnings: readonly string[];
  foundAt = NOT_ALLOCATED;

  /** @throws CowError as openStore */
  constructor(source: ByteSource, { below, lenient }: StoreLayerOptions) {
    this.source = source;
    this.opened = openStore(source, below, lenient);
    const { geometry, verdicts } = this.opened;
    this.granularityBytes = geometry.chunkBytes;
    this.virtualSizeBytes = below?.sizeBytes ?? verdicts.map.end * geometry.chunkBytes;
    this.warnings = [...beyondWarning(this.opened, below), ...(lenient ? forcedWarnings(this.opened) : [])];
  }

  get name(): string {
    return this.source.name;
  }

  get base(): BaseIdentity {
    return { blocks: undefined, blockBytes: this.granularityBytes, fingerprint: undefined };
  }

  extents(from: number, to: number): Iterable<Extent> {
    return coalesce(this.places(from, to));
  }

  *places(from: number, to: number): Generator<Place> {
    const { source } = this;
    const limit = Math.min(to, this.virtualSizeBytes);
    for (const run of this.#runs(from, limit)) {
      const offset = Math.max(from, run.old * this.granularityBytes);
      const end = Math.min(limit, (run.old + run.count) * this.granularityBytes);
      if (end > offset) yield { offset, length: end - offset, source, at: this.#placeIn(run, offset) };
    }
  }

  findRun(offsetBytes: number, endBytes: number): number {
    this.foundAt = NOT_ALLOCATED;
    for (const run of this.#runs(offsetBytes, endBytes)) {
      if (run.old * this.granularityBytes > offsetBytes) return run.old * this.granularityBytes;
      this.foundAt = this.#placeIn(run, offsetBytes);
      return Math.min(endBytes, (run.old + run.count) * this.granularityBytes);
    }
    return endBytes;
  }

  #runs(from: number, to: number): Generator<ExceptionRun> {
    const { granularityBytes: chunkBytes, opened } = this;
    return opened.verdicts.map.runs(Math.floor(from / chunkBytes), Math.ceil(to / chunkBytes));
  }

  /** Where a byte of the image is in the store. */
  #placeIn(run: ExceptionRun, offset: number): number {
    return offset + (run.new - run.old) * this.granularityBytes;
  }
}

/** Over a base that has become shorter, a part of the store cannot be read. */
function* beyondWarning({ verdicts }: OpenedStore, below: ByteSource | undefined): Generator<string> {
  const count = verdicts.counts["old-beyond"];
  if (below && count > 0)
    yield `holds ${count} ${count === 1 ? "chunk" : "chunks"} beyond the end of ${below.name}, which has ${below.sizeBytes} bytes: they are left out`;
}

/** Warnings for readers of a damaged store. */
function* forcedWarnings({ header, problems }: OpenedStore): Generator<string> {
  if (header.valid === 0) {
    yield "was given up by a kernel: it holds what was saved before; if the origin was written since, chunks that were not saved show the origin as it is now, not as it was";
  }
  const kinds = new Set<string>(["invalid"]);
  for (const { id, severity, message } of problems) {
    if (severity !== "error" || kinds.has(id)) continue;
    kinds.add(id);
    yield `is read in spite of its damage: ${message}`;
  }
}
