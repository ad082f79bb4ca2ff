/**
 * Owns dm-cow's LayerFormat, as listed in the registry. Its own file is a text file with the table line; names in it
 * are relative to the file.
 */
import { CowError } from "../../errors.ts";
import type { LayerFormat } from "../format.ts";
import { loss } from "../losses.ts";
import { judgeSize, tally } from "../problems.ts";
import { describeDmCow } from "./describe.ts";
import { SECTOR_BYTES } from "./layout.ts";
import { dmCowSettings, openDmCowImage, openDmCowLayer } from "./stack.ts";
import { looksLikeTable, readTable } from "./table.ts";

export const dmCowFormat: LayerFormat = {
  id: "dm-cow",
  title: "dm-cow table",
  settings: dmCowSettings,
  mustBeNamed: true,
  matches: looksLikeTable,
  openLayer: openDmCowLayer,
  openImage: openDmCowImage,
  describe: describeDmCow,
  losses: () => [loss("stale-data", "stale data in unallocated parts of the layers is not kept")],
  readable: async (source) => source,
  identify: async (source) => ({ blocks: readTable(source).sectors, blockBytes: SECTOR_BYTES, fingerprint: undefined }),
  judgeBase: async (source, base) => judgeSize(readTable(source).sectors, SECTOR_BYTES, base),
  async check(source, options) {
    const { problems } = await describeDmCow(source, options);
    return { state: undefined, problems, worst: tally(problems) };
  },
  async repair(target) {
    throw new CowError("unsupported", "is a dm-cow table: nothing on its devices tells how to repair them", {
      file: target.name,
    });
  },
};
