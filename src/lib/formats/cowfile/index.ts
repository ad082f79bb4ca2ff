/**
 * Owns the cowfile's place among the formats: the LayerFormat that the registry lists.
 */
import type { LayerFormat } from "../format.ts";
import { checkCowfile, judgeBase, repairCowfile } from "./check.ts";
import { describeCowfile, readAnyHead } from "./describe.ts";
import { judgeHead } from "./geometry.ts";
import { fingerprint32, hasCowMagic } from "./head.ts";
import { CowfileLayer, isGzip } from "./layer.ts";
import { BLOCK_BYTES } from "./layout.ts";

export const cowfileFormat: LayerFormat = {
  id: "cowfile",
  title: "cowloop cowfile",
  // Of what is compressed only packs matter here; whether it is one shows inside.
  matches: (head) => hasCowMagic(head) || isGzip(head),
  openLayer: (source, options) => new CowfileLayer(source, options),
  describe: describeCowfile,
  async identify(source) {
    const head = await readAnyHead(source);
    judgeHead(head, Number.MAX_SAFE_INTEGER, source.name);
    return { blocks: Number(head.rdoBlocks), blockBytes: BLOCK_BYTES, fingerprint: fingerprint32(head) };
  },
  judgeBase: async (source, base, hooks) => judgeBase(await readAnyHead(source), base, hooks),
  check: checkCowfile,
  repair: repairCowfile,
};
