/**
 * Owns what `info` shows of an LVM physical volume: its group, the logical volumes, and the stores of thick snapshots.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted, makePause } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { describeStore } from "../dm-snapshot/describe.ts";
import type { Fact, ImageFacts, Problem, SurveyHooks } from "../format.ts";
import { SECTOR_BYTES } from "./layout.ts";
import { openPair } from "./open-volume.ts";
import { type PhysicalVolume, readPhysicalVolume } from "./physical-volume.ts";
import { lvmProblem } from "./problems.ts";
import { type ThickSnapshot, type VolumeGroup, volumeGroupOf } from "./volume-group.ts";

/** All problems, and the group as far as its text can be understood. */
export function surveyVolume(source: ByteSource): {
  readonly volume: PhysicalVolume;
  readonly group: VolumeGroup | undefined;
  readonly problems: readonly Problem[];
} {
  const volume = readPhysicalVolume(source);
  const problems = [...volume.problems];
  let group: VolumeGroup | undefined;
  try {
    group = volumeGroupOf(volume, source.name);
  } catch (error) {
    if (!(error instanceof CowError && error.code === "damaged")) throw error;
    problems.push(lvmProblem("volume-group", { offset: 0, length: 0 }, error.message));
  }
  for (const { name, reason } of group?.volumes.values() ?? []) {
    if (reason === undefined) continue;
    problems.push(lvmProblem("logical-volume", { offset: 0, length: 0 }, `the logical volume ${name} ${reason}`));
  }
  return { volume, group, problems };
}

/** @throws CowError `bad-head`, `damaged`, `io`, `interrupted` */
export async function describeVolume(
  source: ByteSource,
  hooks: SurveyHooks,
): Promise<{ readonly facts: ImageFacts; readonly problems: Iterable<Problem> }> {
  const { volume, group, problems } = surveyVolume(source);
  const snapshots: Fact[] = [];
  const pause = makePause(hooks.signal, () => interrupted(source.name, "nothing was changed"));
  for (const snapshot of group?.snapshots ?? []) {
    await pause();
    snapshots.push(await snapshotFacts(source, group as VolumeGroup, snapshot, hooks));
  }
  const facts: ImageFacts = {
    format: "lvm",
    virtual_size: null,
    pv_uuid: volume.uuid,
    volume_group: group?.name ?? null,
    vg_uuid: group?.uuid ?? null,
    extent_size: group ? group.extentSectors * SECTOR_BYTES : null,
    physical_volumes: group?.physicalVolumes ?? null,
    logical_volumes: [...(group?.volumes.values() ?? [])].map(({ name, sectors, segments }) => ({
      name,
      size: sectors * SECTOR_BYTES,
      segments: segments?.length ?? null,
      addressable: segments !== undefined,
    })),
    snapshots,
  };
  return { facts, problems };
}

async function snapshotFacts(
  source: ByteSource,
  group: VolumeGroup,
  snapshot: ThickSnapshot,
  hooks: SurveyHooks,
): Promise<Fact> {
  const head = {
    name: snapshot.store,
    origin: snapshot.origin,
    chunk_size: snapshot.chunkSectors * SECTOR_BYTES,
    merging: snapshot.isMerging,
  };
  try {
    const { origin, store } = openPair(source, group, snapshot);
    const { facts } = await describeStore(store, { signal: hooks.signal, backing: origin });
    return { ...head, kernel_status: facts["kernel_status"] ?? null, exceptions: facts["exceptions"] ?? null };
  } catch (error) {
    if (!(error instanceof CowError) || error.code === "interrupted" || error.code === "io") throw error;
    return { ...head, kernel_status: null, exceptions: null };
  }
}
