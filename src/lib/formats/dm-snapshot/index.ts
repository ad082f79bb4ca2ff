/**
 * Owns dm-snapshot's LayerFormat, as listed in the registry.
 */
import type { LayerFormat, Setting } from "../format.ts";
import { loss } from "../losses.ts";
import { checkStore, judgeStoreBase, repairStore } from "./check.ts";
import { describeStore, identifyStore } from "./describe.ts";
import { hasStoreMagic } from "./header.ts";
import { DmSnapshotLayer } from "./layer.ts";

const SETTINGS: readonly Setting[] = [
  {
    name: "force",
    value: undefined,
    meaning: "read what is left of a store that the kernel gave up, or that ends before its next area",
  },
];

export const dmSnapshotFormat: LayerFormat = {
  id: "dm-snapshot",
  title: "dm-snapshot persistent exception store",
  settings: SETTINGS,
  isEmptiedByMerge: true,
  matches: hasStoreMagic,
  // Callers that accept dirty files examine them before a repair.
  openLayer: (source, { backing: below, settings, allowDirty }) =>
    new DmSnapshotLayer(source, { below, lenient: allowDirty || (settings?.has("force") ?? false) }),
  describe: describeStore,
  losses: () => [loss("store-layout", "the order in which the store was written, and its free space, are not kept")],
  readable: async (source) => source,
  identify: async (source) => identifyStore(source),
  judgeBase: judgeStoreBase,
  check: checkStore,
  repair: repairStore,
};
