/**
 * Owns qcow2's LayerFormat, as listed in the registry.
 */
import { CowError, shellWord } from "../../errors.ts";
import type { LayerFormat } from "../format.ts";
import { loss } from "../losses.ts";
import { checkQcow2 } from "./check.ts";
import { describeQcow2 } from "./describe.ts";
import { isQcow2, readHeader } from "./header.ts";
import { openQcow2Image } from "./image.ts";
import { Qcow2Layer } from "./layer.ts";

export const qcow2Format: LayerFormat = {
  id: "qcow2",
  title: "QEMU image (qcow2)",
  settings: [
    { name: "backing", value: undefined, meaning: "open the backing file that it names, too" },
    { name: "backing-format", value: "raw|qcow2", meaning: "of which format that is, where it does not say so itself" },
    { name: "force", value: undefined, meaning: "read it although it is marked corrupt, or was cut short" },
  ],
  matches: isQcow2,
  openLayer: (source, options) => new Qcow2Layer(source, options),
  openImage: openQcow2Image,
  describe: async (source) => describeQcow2(source),
  *losses(file) {
    const { snapshotCount, bitmaps } = readHeader(file);
    if (snapshotCount > 0)
      yield loss("snapshots-dropped", `${file.name} has ${snapshotCount} snapshots inside, of which none is converted`);
    if (bitmaps && bitmaps.count > 0)
      yield loss("bitmaps-dropped", `${file.name} has ${bitmaps.count} bitmaps inside, of which none is converted`);
  },
  readable: async (source) => source,
  async identify(source) {
    return new Qcow2Layer(source, {}).base;
  },
  judgeBase: async () => [],
  check: checkQcow2,
  async repair(target) {
    throw new CowError("unsupported", "cowtool does not repair qcow2; use qemu-img check -r", {
      file: target.name,
      hints: [`\`qemu-img check -r leaks ${shellWord(target.name)}\`, or \`-r all\`, repairs it`],
    });
  },
};
