/**
 * Owns what `info` and `check` tell of a dm-cow stack: its table, what each layer holds, in which ways its bitmaps can be
 * read, and which sectors share a bit.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted } from "../../context.ts";
import type { Fact, ImageFacts, Problem, SurveyHooks } from "../format.ts";
import { type AliasGroup, isLossy, possibleAddressings } from "./addressing.ts";
import { SECTOR_BYTES } from "./layout.ts";
import { dmCowProblem } from "./problems.ts";
import { type DmCowPart, type Finding, type LayerDevices, openDevices, openTable, openTableBase } from "./stack.ts";
import { DRIVER_NAME_BYTES } from "./table.ts";

/** As facts; the problems list them all. */
const LISTED_GROUPS = 100;

/** @throws CowError `bad-head` for what is no table; `not-found`, … for a device that it names; `interrupted` */
export function describeDmCow(
  source: ByteSource,
  hooks: SurveyHooks,
): { readonly facts: ImageFacts; readonly problems: Iterable<Problem> } {
  const part = openTable(source, hooks);
  const { table } = part;
  const { base, findings } = openTableBase(part);
  const all: Finding[] = [...findings];
  const opened: LayerDevices[] = [];
  const layers = table.layers.map((spec): Fact => {
    if (hooks.signal?.aborted) throw interrupted(source.name, "nothing was changed");
    const { devices, findings } = openDevices(part, spec);
    all.push(...findings);
    const named = { bitmap: spec.bitmap, data: spec.data, data_offset: spec.offset * SECTOR_BYTES };
    if (!devices) return { ...named, usable: false };
    opened.push(devices);
    return { ...named, usable: true, ...factsOf(part, devices) };
  });
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

function factsOf(
  { table }: DmCowPart,
  { bitmapDevice, bitmap, isAttached }: LayerDevices,
): Readonly<Record<string, Fact>> {
  let held = 0;
  for (const [from, to] of bitmap.runs(0, table.sectors)) held += to - from;
  const groups: Fact[] = [];
  let shared = 0;
  for (const { sector, sectors, distance, copies } of bitmap.aliasGroups()) {
    shared += sectors;
    if (groups.length < LISTED_GROUPS) groups.push({ sector, sectors, distance, copies });
  }
  return {
    attached: isAttached,
    addressing: bitmap.addressing.name,
    addressings_possible: [...possibleAddressings(bitmapDevice, table.sectors)],
    sectors_used: held,
    bits_shared: shared,
    alias_groups: groups,
  };
}

function* problemsOf(
  part: DmCowPart,
  findings: readonly Finding[],
  opened: readonly LayerDevices[],
): Generator<Problem> {
  for (const { device, problem } of findings) yield { ...problem, message: `${device} ${problem.message}` };
  for (const { spec, bitmap, bitmapDevice, isAttached } of opened) {
    const where = { offset: 0, length: 0 };
    if (!isAttached) yield dmCowProblem("unattached", where, `${bitmapDevice.name} has no magic number yet`);
    for (const name of [spec.bitmap, spec.data].filter((each) => each.length > DRIVER_NAME_BYTES))
      yield dmCowProblem("long-name", where, `the driver would look for ${name.slice(0, DRIVER_NAME_BYTES)}`);
    for (const group of bitmap.aliasGroups()) yield aliasProblem(spec.bitmap, group);
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
  const span = sectors === 1 ? `sector ${sector}` : `sectors ${sector} to ${sector + sectors - 1}`;
  const others = copies === 2 ? "those" : `${copies - 1} times those`;
  return dmCowProblem(
    "alias-group",
    { offset: at, length: Math.ceil(sectors / 8) },
    `of ${bitmap}, ${span} share their bits with ${others} ${distance} sectors further on: which of them were written is not known`,
  );
}
