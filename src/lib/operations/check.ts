/**
 * Owns `check`: every inconsistency there is, and nothing changed.
 */
import type { OperationContext } from "../context.ts";
import { tally } from "../formats/cowfile/findings.ts";
import type { CheckReport, Problem } from "../formats/format.ts";
import { requireFormat } from "../formats/registry.ts";
import { notesOfServer, OpenFiles } from "./files.ts";
import { askAboutBase } from "./identity/ask.ts";
import { baseProblems } from "./identity/judge.ts";

export interface CheckRequest {
  /** A stack that the file is said to belong to. */
  readonly rdofile?: string | undefined;
  readonly forceShare?: boolean;
}

/**
 * Checks `file`. The report stays valid; its list of problems is made while it is read.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `packed`, `unsupported`, `io`, `interrupted`
 */
export async function check(file: string, request: CheckRequest, context: OperationContext): Promise<CheckReport> {
  return OpenFiles.during(context, async (files) => {
    const device = files.open(file, { lock: request.forceShare ? "none" : "shared" });
    const stack = request.rdofile === undefined ? undefined : await files.openStack(request.rdofile);
    const report = await requireFormat(device).check(device, {
      base: stack?.device,
      scratch: () => files.scratch(file),
      ...notesOfServer(files, file),
      signal: context.signal,
      onProgress: context.onProgress,
      allocatedBytes: files.storage.facts(file)?.allocatedBytes ?? 0,
    });
    if (!stack) return report;
    const answer = await askAboutBase(files, { cow: device, cowfile: file, stack }, {}, context);
    const ofBase = [...baseProblems(answer, stack.device.name, answer.dataOffsetBytes)];
    if (ofBase.length === 0) return report;
    const { problems } = report;
    const all = {
      *[Symbol.iterator](): Generator<Problem> {
        yield* problems;
        yield* ofBase;
      },
    };
    return { ...report, problems: all, worst: tally(all) };
  });
}
