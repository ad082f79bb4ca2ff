/**
 * Owns opening a part of a physical volume by its name: a logical volume, the image of a thick snapshot, or its store
 * as a layer.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { CowError } from "../../errors.ts";
import { DmSnapshotLayer } from "../dm-snapshot/layer.ts";
import type { Layer, OpenLayerOptions, PlacedSource, Remarks } from "../format.ts";
import { LayeredImage } from "../layered-image.ts";
import { readPhysicalVolume } from "./physical-volume.ts";
import { type LogicalVolume, type ThickSnapshot, type VolumeGroup, volumeGroupOf } from "./volume-group.ts";
import { LogicalVolumeSource } from "./volume-source.ts";

type Settings = OpenLayerOptions["settings"];

/** @throws CowError `bad-head`, `damaged`; `unsuitable` for a volume that belongs to no group */
function requireGroup(source: ByteSource): VolumeGroup {
  const group = volumeGroupOf(readPhysicalVolume(source), source.name);
  if (group) return group;
  throw new CowError("unsuitable", "is an LVM physical volume that belongs to no volume group", { file: source.name });
}

interface Chosen {
  readonly group: VolumeGroup;
  readonly volume: LogicalVolume;
  /** The snapshot whose store it is. */
  readonly snapshot: ThickSnapshot | undefined;
}

/** Finds the volume `VG/LV` or `LV`. */
function choose(source: ByteSource, settings: Settings): Chosen {
  const group = requireGroup(source);
  const known = [...group.volumes.keys()].map((each) => `lv=${group.name}/${each}`);
  const hints = [`there are: ${known.slice(0, 20).join(" ")}${known.length > 20 ? " …" : ""}`];
  const wanted = settings?.get("lv");
  if (wanted === undefined) {
    throw new CowError("usage", "is an LVM physical volume: which logical volume is meant has to be said", {
      file: source.name,
      hints,
    });
  }
  const slash = wanted.indexOf("/");
  const volume = group.volumes.get(wanted.slice(slash + 1));
  if (!volume || (slash >= 0 && wanted.slice(0, slash) !== group.name)) {
    throw new CowError("not-found", `there is no logical volume ${wanted} in it`, { file: source.name, hints });
  }
  return { group, volume, snapshot: group.snapshots.find(({ store }) => store === volume.name) };
}

/** Origin and store of a thick snapshot. */
export function openPair(
  source: ByteSource,
  group: VolumeGroup,
  snapshot: ThickSnapshot,
): { readonly origin: LogicalVolumeSource; readonly store: LogicalVolumeSource } {
  const open = (name: string): LogicalVolumeSource => {
    const volume = group.volumes.get(name);
    if (volume) return new LogicalVolumeSource(source, group.name, volume);
    throw new CowError("damaged", `a snapshot in ${group.name} is of or in ${name || "a volume"}, which is not there`, {
      file: source.name,
    });
  };
  return { origin: open(snapshot.origin), store: open(snapshot.store) };
}

/** The volume as an image; a snapshot as the image that it shows, unless its store itself is wanted (`cow`). */
export function openVolume(source: ByteSource, options: OpenLayerOptions): PlacedSource & Remarks {
  const { group, volume, snapshot } = choose(source, options.settings);
  if (!snapshot || options.settings?.has("cow")) {
    const plain = new LogicalVolumeSource(source, group.name, volume);
    const merging = group.snapshots.find(({ origin, isMerging }) => isMerging && origin === volume.name);
    if (!merging) return plain;
    const warnings = [
      `${merging.store} is to be merged into it: \`lv=${group.name}/${merging.store}\` shows what it becomes, this what it is`,
    ];
    return Object.assign(plain, { warnings });
  }
  const { origin, store } = openPair(source, group, snapshot);
  return new LayeredImage(store.name, origin, [
    new DmSnapshotLayer(store, { below: origin, lenient: isLenient(options) }),
  ]);
}

/** The store of a thick snapshot, as a layer over its backing. */
export function openStoreLayer(source: ByteSource, options: OpenLayerOptions): Layer {
  const { group, volume, snapshot } = choose(source, options.settings);
  if (!snapshot) {
    throw new CowError("unsuitable", `${group.name}/${volume.name} is no snapshot, and so no layer over something`, {
      file: source.name,
    });
  }
  const { store } = openPair(source, group, snapshot);
  return new DmSnapshotLayer(store, { below: options.backing, lenient: isLenient(options) });
}

/** Origin and store of the snapshot in the settings, if there is one. */
export function chosenPair(source: ByteSource, settings: Settings): ReturnType<typeof openPair> | undefined {
  if (!settings?.has("lv")) return undefined;
  const { group, snapshot } = choose(source, settings);
  return snapshot && openPair(source, group, snapshot);
}

function isLenient({ allowDirty, settings }: OpenLayerOptions): boolean {
  return allowDirty || (settings?.has("force") ?? false);
}
