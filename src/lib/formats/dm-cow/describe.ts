/**
 * Owns what `info` and `check` show of a dm-cow stack: its table, the contents of each layer, in which ways its bitmaps
 * can be read, and which sectors share a bit.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted, makePause, type Pause } from "../../context.ts";
import type { Fact, ImageFacts, Problem, SurveyHooks } from "../format.ts";
import { type AliasGroup, isLossy, possibleAddressings } from "./addressing.ts";
import { SECTOR_BYTES } from "./layout.ts";
import { dmCowProblem } from "./problems.ts";
import { type DmCowPart, type Finding, type LayerDevices, openDevices, openTable, openTableBase } from "./stack.ts";
import { DRIVER_NAME_BYTES } from "./table.ts";

/** As facts; more are listed as problems. */
const LISTED_GROUPS = 100;
/** A hostile bitmap has every other bit set: more groups than this are only counted. */
const MOST_GROUPS = 10_000;
/** A pause follows after this many runs. */
const PAUSE_EVERY = 1024;

/** @throws CowError `bad-head` if it is not a table; `not-found`, … for a device in it; `interrupted` */
export async function describeDmCow(
  source: ByteSource,
  hooks: SurveyHooks,
): Promise<{ readonly facts: ImageFacts; readonly problems: Iterable<Problem> }> {
  const part = openTable(source, hooks);
  const { table } = part;
  const { base, findings } = openTableBase(part);
  const all: Finding[] = [...findings];
  const opened: Surveyed[] = [];
  const pause = makePause(hooks.signal, () => interrupted(source.name, "nothing was changed"));
  const layers: Fact[] = [];
  for (const spec of table.layers) {
    await pause();
    const { devices, findings } = openDevices(part, spec);
    all.push(...findings);
    const named = { bitmap: spec.bitmap, data: spec.data, data_offset: spec.offset * SECTOR_BYTES };
    if (!devices) {
      layers.push({ ...named, usable: false });
      continue;
    }
    const surveyed = await survey(part, devices, pause);
    opened.push(surveyed);
    layers.push({ ...named, usable: true, ...factsOf(surveyed) });
  }
  const facts: ImageFacts = {
    format: "dm-cow",
    virtual_size: table.sectors * SECTOR_BYTES,
    granularity: SECTOR_BYTES,
    base: base.name,
    base_offset: table.base.offset * SECTOR_BYTES,
    lossy: opened.some(({ bitmap }) => isLossy(bitmap.addressing, table.sectors)),
    layers,
  };
  return { facts, problems: { [Symbol.iterator]: () => problemsOf(part, all, opened) } };
}

/** The facts about a layer, so that its files may be closed. */
interface Surveyed extends LayerDevices {
  readonly sectorsUsed: number;
  readonly bitsShared: number;
  readonly groups: readonly AliasGroup[];
  readonly groupsOmitted: number;
  readonly ways: readonly string[];
}

async function survey({ table }: DmCowPart, devices: LayerDevices, pause: Pause): Promise<Surveyed> {
  const { bitmap, bitmapDevice } = devices;
  let sectorsUsed = 0;
  let runs = 0;
  for (const [from, to] of bitmap.runs(0, table.sectors)) {
    sectorsUsed += to - from;
    if (++runs % PAUSE_EVERY === 0) await pause();
  }
  const groups: AliasGroup[] = [];
  let [bitsShared, groupsOmitted] = [0, 0];
  for (const group of bitmap.aliasGroups()) {
    bitsShared += group.sectors;
    if (groups.length < MOST_GROUPS) groups.push(group);
    else groupsOmitted++;
    if (++runs % PAUSE_EVERY === 0) await pause();
  }
  const ways = possibleAddressings(bitmapDevice, table.sectors);
  return { ...devices, sectorsUsed, bitsShared, groups, groupsOmitted, ways };
}

function factsOf({
  isAttached,
  bitmap,
  ways,
  sectorsUsed,
  bitsShared,
  groups,
}: Surveyed): Readonly<Record<string, Fact>> {
  return {
    attached: isAttached,
    addressing: bitmap.addressing.name,
    addressings_possible: ways,
    sectors_used: sectorsUsed,
    bits_shared: bitsShared,
    alias_groups: groups
      .slice(0, LISTED_GROUPS)
      .map(({ sector, sectors, distance, copies }) => ({ sector, sectors, distance, copies })),
  };
}

function* problemsOf(part: DmCowPart, findings: readonly Finding[], opened: readonly Surveyed[]): Generator<Problem> {
  for (const { device, problem } of findings) yield { ...problem, message: `${device} ${problem.message}` };
  for (const { spec, groups, groupsOmitted, bitmapDevice, isAttached } of opened) {
    const where = { offset: 0, length: 0 };
    if (!isAttached) yield dmCowProblem("unattached", where, `${bitmapDevice.name} has no magic number yet`);
    for (const name of [spec.bitmap, spec.data].filter((each) => each.length > DRIVER_NAME_BYTES))
      yield dmCowProblem("long-name", where, `the driver would look for ${name.slice(0, DRIVER_NAME_BYTES)}`);
    for (const group of groups) yield aliasProblem(spec.bitmap, group);
    if (groupsOmitted > 0)
      yield dmCowProblem(
        "alias-group",
        where,
        `of ${spec.bitmap}, ${groupsOmitted} more runs of sectors share their bits`,
      );
  }
  const { device } = part.table.base;
  if (device.length > DRIVER_NAME_BYTES)
    yield dmCowProblem(
      "long-name",
      { offset: 0, length: 0 },
      `the driver would look for ${device.slice(0, DRIVER_NAME_BYTES)}`,
    );
}

function aliasProblem(bitmap: string, { sector, sectors, distance, copies, at }: AliasGroup): Problem {
  const last = sector + sectors - 1;
  const span = sectors === 1 ? `sector ${sector} shares its bit` : `sectors ${sector} to ${last} share their bits`;
  const others = copies === 2 ? "the one" : `the ${copies - 1} at multiples of`;
  return dmCowProblem(
    "alias-group",
    { offset: at, length: Math.ceil(sectors / 8) },
    `of ${bitmap}, ${span} with ${others} ${distance} sectors further on: which of them were written is not known`,
  );
}
