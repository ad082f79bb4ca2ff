/**
 * Owns the cowfile's LayerFormat, as listed in the registry.
 */
import { availableParallelism } from "node:os";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { isZstd } from "../../bytes/zstd-seekable.ts";
import { interrupted, makePause } from "../../context.ts";
import type { LayerFormat } from "../format.ts";
import { checkCowfile, repairCowfile } from "./check.ts";
import { checkPack } from "./check-pack.ts";
import { describeCowfile, readAnyHead } from "./describe.ts";
import { judgeHead } from "./geometry.ts";
import { hasCowMagic } from "./head.ts";
import { judgeBase } from "./judge-base.ts";
import { CowfileLayer } from "./layer.ts";
import { hasGzipHeader, packKind } from "./pack/kind.ts";
import { unpackInto } from "./pack/open-pack.ts";
import { PackedView } from "./pack/packed-view.ts";
import { identityOf } from "./resized.ts";

export const cowfileFormat: LayerFormat = {
  id: "cowfile",
  title: "cowloop cowfile",
  recordsBase: true,
  matches: hasCowMagic,
  // Of compressed files only packs matter here; the content shows whether it is one.
  mayBePacked: (head) => hasGzipHeader(head) || isZstd(head),
  openLayer: (source, options) => new CowfileLayer(source, options),
  describe: describeCowfile,
  isCompressed: (source) => ["gzip", "zstd"].includes(packKind(source) ?? ""),
  async readable(source, scratch, signal) {
    const kind = packKind(source);
    if (kind === undefined) return source;
    if (kind !== "gzip") return new PackedView(source, kind);
    const unpacked = scratch();
    const onPiece = makePause(signal, () => interrupted(source.name, "nothing was changed"));
    await unpackInto(unpacked, source, kind, { concurrency: availableParallelism(), onPiece });
    return named(unpacked, source.name);
  },
  async identify(source, { signal }) {
    const { head, headBlock } = await readAnyHead(source, signal);
    judgeHead(head, Number.MAX_SAFE_INTEGER, source.name);
    return identityOf(head, headBlock);
  },
  judgeBase: async (source, base, hooks) => judgeBase(await readAnyHead(source, hooks.signal), base, hooks),
  check: async (source, options) => {
    const kind = packKind(source);
    return kind ? checkPack(source, kind, options) : checkCowfile(source, options);
  },
  repair: repairCowfile,
};

/** The same content under the name that the user knows. */
function named(source: ByteSource, name: string): ByteSource {
  return {
    name,
    sizeBytes: source.sizeBytes,
    allocationUnitBytes: source.allocationUnitBytes,
    seesHoles: source.seesHoles,
    read: (target, offset) => source.read(target, offset),
    dataExtents: (from, to) => source.dataExtents(from, to),
  };
}
