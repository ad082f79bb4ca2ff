/**
 * Owns `check`: reports every inconsistency, and changes nothing.
 */
import type { OperationContext } from "../context.ts";
import type { CheckReport, Problem } from "../formats/format.ts";
import { tally } from "../formats/tally.ts";
import { formatOfPart } from "../stack/open-part.ts";
import { parsePart } from "../stack/spec.ts";
import { type GivenStack, notesOfServer, OpenFiles } from "./files.ts";
import { askAboutBase } from "./identity/ask.ts";
import { baseProblems } from "./identity/judge.ts";

export interface CheckRequest {
  /** The stack that the file should belong to. */
  readonly rdofile?: GivenStack | undefined;
  readonly forceShare?: boolean;
}

/**
 * Checks `file`. The report stays valid; its list of problems is made while it is read.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `packed`, `unsupported`, `io`, `interrupted`
 */
export async function check(
  file: string,
  request: CheckRequest = {},
  context: OperationContext = {},
): Promise<CheckReport> {
  return OpenFiles.during(context, async (files) => {
    const opened = files.openPart(parsePart(file), { lock: request.forceShare ? "none" : "shared" });
    const { file: device, part } = opened;
    const format = formatOfPart(opened);
    const stack = await files.openStack(request.rdofile);
    const report = await format.check(device, {
      ...opened.options,
      below: stack?.device,
      base: stack?.device,
      scratch: () => files.scratch(part.path),
      ...notesOfServer(files, part.path),
      signal: context.signal,
      onProgress: context.onProgress,
      allocatedBytes: files.storage.facts(part.path)?.allocatedBytes ?? 0,
    });
    if (!stack) return report;
    if (format.id !== "cowfile")
      return withProblems(report, await format.judgeBase(device, stack.device, opened.options));
    const answer = await askAboutBase(files, { cow: device, cowfile: part.path, stack }, {}, context);
    const ofBase = [...baseProblems(answer, stack.device.name, answer.dataOffsetBytes)];
    return withProblems(report, ofBase);
  });
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
