/**
 * Owns check and repair of a store, and the order in which repair writes:
 * (1) of the exceptions that count, the last ones of the list over those that have to go; flush. The list has some twice
 *     now, each with the same chunk: what it shows is the same.
 * (2) zeros over what is left behind the new end of the list, from there to the end of what was the list; flush.
 * Killed anywhere, the same command completes the work. No data chunk is written, and none of the header.
 */
import type { ByteSource, ByteTarget } from "../../bytes/byte-source.ts";
import { ExtentList } from "../../bytes/extent.ts";
import type { CheckOptions, CheckReport, Problem, RepairOptions, RepairReport } from "../format.ts";
import { tally } from "../problems.ts";
import { surveyStore } from "./describe.ts";
import { judgeHeader, readHeader } from "./header.ts";
import { damageError, type OpenedStore, openHeader } from "./layer.ts";
import { givesUp } from "./problems.ts";
import { writeTuples, zeroTuples } from "./tuples.ts";

/** Every inconsistency of a store's metadata; for an unusable header only that. */
export async function checkStore(source: ByteSource, options: CheckOptions): Promise<CheckReport> {
  const { problems: ofHeader, geometry } = judgeHeader(readHeader(source));
  if (!geometry) return { state: undefined, problems: ofHeader, worst: tally(ofHeader) };
  const { problems } = await surveyStore(source, openHeader(source), withBase(options));
  return { state: undefined, problems, worst: tally(problems) };
}

/** How a base fits: a store only tells chunks that the base does not have. */
export async function judgeStoreBase(source: ByteSource, base: ByteSource, options: CheckOptions): Promise<Problem[]> {
  const { problems } = await surveyStore(source, openHeader(source), { ...options, backing: base });
  return problems.filter(({ id }) => id === "old-beyond");
}

/** A base that was given is used, too. */
function withBase<Options extends CheckOptions>(options: Options): Options {
  return { ...options, backing: options.backing ?? options.base };
}

/**
 * Repairs a store, or with `dryRun` reports what that would do. All or nothing: if anything cannot be repaired, nothing
 * is written.
 *
 * @throws CowError `damaged` or `truncated` for what it cannot put right (or only with `dropLost`)
 */
export async function repairStore(target: ByteTarget, given: RepairOptions): Promise<RepairReport> {
  const options = withBase(given);
  const opened = await surveyStore(target, openHeader(target), options);
  const { problems } = opened;
  for (const problem of problems) {
    const isGivenUp = givesUp(problem.id);
    if (problem.fixable || (problem.severity !== "error" && !isGivenUp)) continue;
    if (!(options.dropLost && isGivenUp)) throw damageError(problem, target.name);
  }
  const toDrop = faultyPlaces(opened);
  const { missingArea, stale } = opened.verdicts.scan;
  const changed = toDrop.length > 0 || missingArea !== undefined || stale !== undefined;
  const cleared = clearedParts(opened, toDrop);
  if (changed && !options.dryRun) {
    putRight(target, opened, toDrop);
  }
  return {
    stateBefore: "clean",
    state: "clean",
    examined: true,
    marked: new ExtentList(),
    cleared,
    lost: new ExtentList(),
    suspects: [],
    setAside: new ExtentList(),
    setAsideFile: undefined,
    unmarkedBlocks: 0,
    isJournalSpent: false,
    suspectBlocks: 0,
    blocksUsed: opened.verdicts.scan.olds.length - toDrop.length,
    problems,
    worst: tally(problems),
    changed,
  };
}

/** Places of the list to be removed, ascending. */
function faultyPlaces({ verdicts }: OpenedStore): number[] {
  const places: number[] = [];
  if (Object.values(verdicts.counts).every((count) => count === 0)) return places;
  for (let i = 0; i < verdicts.scan.olds.length; i++) if (verdicts.faultAt(i)) places.push(i);
  return places;
}

/** Parts of the image that the store no longer has allocated. Duplicates are still allocated. */
function clearedParts({ verdicts, geometry }: OpenedStore, places: readonly number[]): ExtentList {
  const cleared = new ExtentList();
  const chunks = places
    .filter((place) => verdicts.faultAt(place) !== "old-duplicate")
    .map((place) => verdicts.scan.olds.at(place))
    .filter((old) => old * geometry.chunkBytes <= Number.MAX_SAFE_INTEGER)
    .sort((a, b) => a - b);
  let last = -1;
  for (const chunk of chunks) {
    if (chunk !== last) cleared.append(chunk * geometry.chunkBytes, geometry.chunkBytes);
    last = chunk;
  }
  return cleared;
}

function putRight(target: ByteTarget, { geometry, verdicts }: OpenedStore, toDrop: readonly number[]): void {
  const { scan } = verdicts;
  const { olds, news } = scan;
  const count = olds.length - toDrop.length;
  let last = olds.length - 1;
  for (const place of toDrop) {
    while (last >= count && verdicts.faultAt(last)) last--;
    if (place >= count) break;
    const moved = last;
    writeTuples(target, geometry, place, { length: 1, oldAt: () => olds.at(moved), newAt: () => news.at(moved) });
    last--;
  }
  if (toDrop.length > 0) target.flush();
  if (scan.missingArea !== undefined) target.resize(scan.missingArea + geometry.chunkBytes);
  zeroTuples(target, geometry, count, scan.missingArea === undefined ? scan.areas : scan.areas + 1);
  target.flush();
}
