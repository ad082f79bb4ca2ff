/**
 * Owns `check`: reports every inconsistency of a file, or of each part of a stack, and changes nothing.
 */
import type { OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import type { CheckReport, LayerFormat, Problem } from "../formats/format.ts";
import { tally } from "../formats/problems.ts";
import type { Stack } from "../stack/open.ts";
import { formatOfPart, type OpenPart } from "../stack/open-part.ts";
import { StackSpec } from "../stack/spec.ts";
import { asProblem, type Link, openChain, pendingMergeOf, refuseSecondBase } from "./chain.ts";
import { type GivenStack, notesOfServer, OpenFiles } from "./files.ts";
import { askAboutBase } from "./identity/ask.ts";
import { baseProblems } from "./identity/judge.ts";

/** What `check` is asked for. */
export interface CheckRequest {
  /** The stack that the file should belong to. */
  readonly rdofile?: GivenStack | undefined;
  readonly forceShare?: boolean;
}

/** What was found in one part of a stack. */
export interface PartReport extends CheckReport {
  readonly name: string;
  readonly format: string;
  /** Does it belong to what is below it? Null for the base, and where nothing tells. */
  readonly fits: boolean | null;
}

/** What `check` found; of a stack, for each of its parts as well. */
export interface StackReport extends CheckReport {
  /** Of a stack: each part, base first. `problems` has those of all. */
  readonly parts?: readonly PartReport[];
}

/**
 * Checks `file`, or each layer of a stack `BASE,LAYER,…` over what is below it. The report stays valid; its list of problems is
 * made while it is read.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `packed`, `unsupported`, `io`, `interrupted`
 */
export async function check(
  file: string,
  request: CheckRequest = {},
  context: OperationContext = {},
): Promise<StackReport> {
  return OpenFiles.during(context, async (files) => {
    const spec = StackSpec.parse(files.storage, file);
    if (spec.layers.length > 0) return await checkChain(files, spec, request, context);
    const opened = files.openPart(spec.base, { lock: request.forceShare ? "none" : "shared" });
    const format = formatOfPart(opened);
    return await checkPart(files, opened, format, await files.openStack(request.rdofile), context);
  });
}

async function checkPart(
  files: OpenFiles,
  opened: OpenPart,
  format: LayerFormat,
  below: Pick<Stack, "device" | "paths"> | undefined,
  context: OperationContext,
): Promise<CheckReport> {
  const { file: device, part } = opened;
  const report = await format.check(device, {
    ...opened.options,
    backing: below?.device,
    base: below?.device,
    scratch: () => files.scratch(part.path),
    ...notesOfServer(files, part.path),
    signal: context.signal,
    onProgress: context.onProgress,
    allocatedBytes: files.storage.facts(part.path)?.allocatedBytes ?? 0,
  });
  if (!below) return report;
  if (!format.recordsBase) return withProblems(report, await format.judgeBase(device, below.device, opened.options));
  const answer = await askAboutBase(files, { cow: device, cowfile: part.path, stack: below }, {}, context);
  return withProblems(report, [...baseProblems(answer, below.device.name, answer.dataOffsetBytes)]);
}

async function checkChain(
  files: OpenFiles,
  spec: StackSpec,
  request: CheckRequest,
  context: OperationContext,
): Promise<StackReport> {
  refuseSecondBase(spec, request.rdofile);
  const parts: PartReport[] = [];
  for (const link of await openChain(files, spec, request.forceShare ? "none" : "shared", context)) {
    const { opened, format, below, layer } = link;
    const pending = below || parts.length > 0 ? undefined : pendingMergeOf(files.storage, spec);
    const report = withProblems(await reportOf(files, link, context), pending ? [asProblem(pending)] : []);
    const problems = [...report.problems];
    const says = below && layer && (layer.base.blocks !== undefined || layer.base.fingerprint !== undefined);
    const isOther = problems.some(({ id }) => id === "base-size" || id === "base-fingerprint" || id === "base-changed");
    parts.push({
      ...report,
      problems,
      name: opened.part.text,
      format: format?.id ?? "raw",
      fits: isOther ? false : says ? true : null,
    });
  }
  const problems = parts.flatMap((part) => [...part.problems]);
  return {
    state: parts.some(({ state }) => state === "dirty") ? "dirty" : parts.find(({ state }) => state)?.state,
    problems,
    worst: tally(problems),
    parts,
  };
}

async function reportOf(files: OpenFiles, link: Link, context: OperationContext): Promise<CheckReport> {
  const { opened, format, below, error } = link;
  const nothing: CheckReport = { state: undefined, problems: [], worst: tally([]) };
  try {
    if (format) return await checkPart(files, opened, format, below, context);
  } catch (failure) {
    if (!(failure instanceof CowError) || failure.code === "interrupted" || failure.code === "locked") throw failure;
    return withProblems(nothing, [asProblem(failure)]);
  }
  return withProblems(nothing, error ? [asProblem(error)] : []);
}

function withProblems(report: CheckReport, more: readonly Problem[]): CheckReport {
  if (more.length === 0) return report;
  const { problems } = report;
  const all = {
    *[Symbol.iterator](): Generator<Problem> {
      yield* problems;
      yield* more;
    },
  };
  return { ...report, problems: all, worst: tally(all) };
}
