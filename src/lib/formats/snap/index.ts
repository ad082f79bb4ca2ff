/**
 * Owns the LayerFormat of snap.c's logs, as listed in the registry. Several logs are one layer; its backing is the
 * source as it is now.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { interrupted, makePause } from "../../context.ts";
import { CowError } from "../../errors.ts";
import type { ImageFacts, Layer, LayerFormat, OpenLayerOptions, PartOptions, Problem, SurveyHooks } from "../format.ts";
import { loss } from "../losses.ts";
import { judgeSize, tally } from "../problems.ts";
import { geometryOf, MAX_BLOCKS, parseSourceBlocks, parseTerms, type SnapGeometry, snapSettings } from "./geometry.ts";
import { type JudgedLogs, judgeInSteps, judgeLogs, plausibleTerms, type SnapFinding } from "./judge.ts";
import { SnapLayer } from "./layer.ts";

/** The driver's own limit. */
const MAX_LOGS = 512;

interface SnapPart {
  readonly geometry: SnapGeometry;
  readonly sources: readonly ByteSource[];
  /** The number of blocks that the user gave. */
  readonly said: number | undefined;
}

/** @throws CowError `usage` */
function partOf(source: ByteSource, { settings, more = [], backing: below }: PartOptions): SnapPart {
  const terms = parseTerms(settings, source.name);
  const said = parseSourceBlocks(settings, source.name);
  const sourceBlocks = said ?? (below && Math.floor(below.sizeBytes / terms.blockBytes));
  if (sourceBlocks === undefined)
    throw new CowError("usage", "does not say how large its source is, and has no source below it", {
      file: source.name,
      hints: ["name the source below it (--rdofile SOURCE), or say blocks=N"],
    });
  if (sourceBlocks < 1 || sourceBlocks > MAX_BLOCKS)
    throw new CowError(
      "unsuitable",
      `has ${sourceBlocks} blocks of ${terms.blockBytes} bytes: a source has 1 to ${MAX_BLOCKS}`,
      {
        file: below?.name ?? source.name,
      },
    );
  const sources = [source, ...more];
  if (sources.length > MAX_LOGS)
    throw new CowError("usage", `a snapshot has at most ${MAX_LOGS} logs`, { file: source.name });
  return { geometry: geometryOf(terms, sourceBlocks), sources, said };
}

async function judged({ sources, geometry }: SnapPart, { signal }: SurveyHooks): Promise<JudgedLogs> {
  const pause = makePause(signal, () => interrupted(sources[0]?.name ?? "", "nothing was changed"));
  const steps = judgeInSteps(sources, geometry);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    await pause();
  }
}

/** @throws CowError `usage`; `truncated`, `damaged` if the files cannot be such logs */
function openLayer(source: ByteSource, options: OpenLayerOptions): Layer {
  const part = partOf(source, options);
  const { logs, findings } = judgeLogs(part.sources, part.geometry);
  const wrong = findings.find(({ problem }) => problem.severity === "error");
  if (wrong) throw implausible(part, wrong);
  const { geometry, said } = part;
  const { blockBytes, sourceBlocks } = geometry;
  const warnings = findings.map(({ log, problem }) =>
    log === source.name ? problem.message : `${log}: ${problem.message}`,
  );
  return new SnapLayer({
    name: source.name,
    geometry,
    logs: logs.map(({ log }) => log),
    virtualSizeBytes: options.backing?.sizeBytes ?? sourceBlocks * blockBytes,
    base: { blocks: said, blockBytes, fingerprint: undefined },
    warnings: warnings.length > 0 ? warnings : undefined,
  });
}

function implausible({ sources, geometry }: SnapPart, { log, problem }: SnapFinding): CowError {
  const { id, message, offset, length } = problem;
  const others = id === "log-long" ? [] : plausibleTerms(sources, geometry);
  return new CowError(id === "log-short" ? "truncated" : "damaged", `cannot be such a log: ${message}`, {
    file: log,
    details: { problem: id, offset, length },
    hints: others.map((terms) => `with ${terms} nothing would speak against it`),
  });
}

async function describe(
  source: ByteSource,
  hooks: SurveyHooks,
): Promise<{ readonly facts: ImageFacts; readonly problems: readonly Problem[] }> {
  const part = partOf(source, hooks);
  const { geometry } = part;
  const { logs, findings } = await judged(part, hooks);
  return {
    facts: {
      format: "snap",
      virtual_size: hooks.backing?.sizeBytes ?? geometry.sourceBlocks * geometry.blockBytes,
      block_size: geometry.blockBytes,
      word_size: geometry.wordBytes,
      endian: geometry.littleEndian ? "little" : "big",
      source_blocks: geometry.sourceBlocks,
      bitmap_blocks: geometry.bitmapBlocks,
      map_blocks: geometry.mapBlocks,
      data_base: geometry.dataBase,
      blocks_preserved: logs.reduce((sum, { used }) => sum + used, 0),
      possibly_ended: findings.some(({ problem }) => problem.id === "possibly-ended"),
      logs: logs.map(({ log, used }) => ({
        file: log.source.name,
        blocks: log.blocks,
        data_blocks: Math.max(0, log.dataBlocks),
        used,
      })),
    },
    problems: findings.map(({ log, problem }) =>
      log === source.name ? problem : { ...problem, message: `${log}: ${problem.message}` },
    ),
  };
}

export const snapFormat: LayerFormat = {
  id: "snap",
  title: "log of snap.c",
  settings: snapSettings,
  takesMoreFiles: true,
  matches: () => false,
  openLayer,
  describe,
  losses: () => [loss("log-layout", "into which logs blocks were written, and when, is not kept")],
  readable: async (source) => source,
  async identify(source, hooks) {
    const { geometry, said } = partOf(source, hooks);
    return { blocks: said, blockBytes: geometry.blockBytes, fingerprint: undefined };
  },
  async judgeBase(source, base, hooks) {
    const { geometry, said } = partOf(source, { ...hooks, backing: base });
    return said === undefined ? [] : judgeSize(said, geometry.blockBytes, base);
  },
  async check(source, options) {
    const { problems } = await describe(source, options);
    return { state: undefined, problems, worst: tally(problems) };
  },
  async repair(target) {
    throw new CowError("unsupported", "is a log of snap.c: nothing in it tells how to repair it", {
      file: target.name,
    });
  },
};
