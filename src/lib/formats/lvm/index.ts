/**
 * Owns LVM's LayerFormat, as listed in the registry. A physical volume is only read.
 */
import { CowError } from "../../errors.ts";
import { checkStore } from "../dm-snapshot/check.ts";
import type { LayerFormat, Setting } from "../format.ts";
import { tally } from "../problems.ts";
import { describeVolume, surveyVolume } from "./describe.ts";
import { SECTOR_BYTES } from "./layout.ts";
import { chosenPair, openStoreLayer, openVolume } from "./open-volume.ts";
import { hasLabel } from "./physical-volume.ts";

const SETTINGS: readonly Setting[] = [
  { name: "lv", value: "VG/LV", meaning: "the logical volume; of a thick snapshot what it shows" },
  { name: "cow", value: undefined, meaning: "the store of the thick snapshot itself" },
  { name: "force", value: undefined, meaning: "read what is left of a snapshot that the kernel gave up" },
];

export const lvmFormat: LayerFormat = {
  id: "lvm",
  title: "LVM2 physical volume",
  settings: SETTINGS,
  isOnDisk: true,
  matches: hasLabel,
  openLayer: openStoreLayer,
  openImage: openVolume,
  describe: describeVolume,
  readable: async (source) => source,
  identify: async () => ({ blocks: undefined, blockBytes: SECTOR_BYTES, fingerprint: undefined }),
  judgeBase: async () => [],
  async check(source, options) {
    const { problems } = surveyVolume(source);
    // The store of a named snapshot is also checked; places are those within the store.
    const pair = chosenPair(source, options.settings);
    const inside = pair ? [...(await checkStore(pair.store, { ...options, backing: pair.origin })).problems] : [];
    const all = [...problems, ...inside];
    return { state: undefined, problems: all, worst: tally(all) };
  },
  async repair(target) {
    throw new CowError("unsupported", "is an LVM physical volume, which is never written", {
      file: target.name,
      hints: ["LVM itself gives its logical volumes as devices, which can be repaired"],
    });
  },
};
