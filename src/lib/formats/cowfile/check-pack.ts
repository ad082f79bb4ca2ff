/**
 * Owns check of a packed cowfile: every checksum of the container, then head and bitmap as for any cowfile. Unallocated
 * blocks are not in a pack, so there are none to search.
 */
import { availableParallelism } from "node:os";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted } from "../../context.ts";
import { assert } from "../../errors.ts";
import type { CheckOptions, CheckReport, Problem } from "../format.ts";
import { tally } from "../problems.ts";
import { findingsOf } from "./findings.ts";
import { judgeHead } from "./geometry.ts";
import { isDirty } from "./head.ts";
import { judgeBase } from "./judge-base.ts";
import { openCowfile } from "./layer.ts";
import type { PackKind } from "./pack/kind.ts";
import { MetadataTarget } from "./pack/metadata-target.ts";
import { unpackInto } from "./pack/open-pack.ts";
import { inPack, packProblems } from "./pack-problems.ts";
import { surveyCowfile } from "./survey.ts";

/** @throws CowError `truncated`, `damaged`, naming the offset, if the container itself is not intact */
export async function checkPack(source: ByteSource, kind: PackKind, options: CheckOptions): Promise<CheckReport> {
  assert(options.scratch, "a pack is checked with somewhere to put its bitmap");
  const image = new MetadataTarget(source.name, options.scratch());
  const { trailingBytes } = await unpackInto(image, source, kind, {
    concurrency: availableParallelism(),
    onPiece: (done, total) => {
      if (options.signal?.aborted) throw interrupted(source.name, "nothing was changed");
      options.onProgress?.({ phase: "checking", done, total: Math.max(done, total), unit: "bytes" });
    },
  });
  const opened = openCowfile(image);
  const base = options.base ? await judgeBase(opened, options.base, options) : [];
  const { problems } = judgeHead(opened.head, image.sizeBytes, source.name);
  const survey = await surveyCowfile(image, opened.geometry, { content: false });
  const findings = { ...opened, survey, source: image, other: [...problems, ...base] };
  const all = {
    *[Symbol.iterator](): Generator<Problem> {
      yield* packProblems(trailingBytes, source.sizeBytes);
      yield* inPack(findingsOf(findings));
    },
  };
  return { state: isDirty(opened.head) ? "dirty" : "clean", problems: all, worst: tally(all) };
}
