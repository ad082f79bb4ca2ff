/**
 * Owns what a server does about the base of a cowfile that it opens for writing: records it where nothing is recorded yet,
 * and else says what has changed. Never keeps a cowfile from being served.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { detectFormat, requireFormat } from "../../formats/registry.ts";
import { stackOf } from "../../overlay/stack.ts";
import { parsePart } from "../../overlay/stack-part.ts";
import { OpenFiles } from "../files.ts";
import { askAboutBase, type BaseAnswer } from "./ask.ts";
import { changedText, showsThrough } from "./judge.ts";
import { type Budget, QUICK } from "./sampling.ts";
import { settledTimes, writeSidecar } from "./sidecar.ts";
import { noteOrWarn, takeRecord } from "./take.ts";

/** Whoever starts a server waits for it. */
const SERVE: Budget = { bytes: QUICK.bytes, ms: 500 };

/** What is to be said and written once the cowfile is being served. */
type Settle = () => void;

/**
 * Looks at a base. Opens the files for itself, for reading, and closes them again: to be called before they are opened to
 * be served, since a base may be an export that takes one client at a time. What it returns is to be called when the
 * cowfile was opened, as only then it is known to belong to what is below it.
 *
 * @param parts base and layers, bottom to top; the last one is the cowfile
 */
export async function lookAtBase(parts: readonly string[], context: OperationContext): Promise<Settle> {
  const cowfile = parsePart(parts.at(-1) ?? "").path;
  try {
    return await OpenFiles.during(context, (files) => recordOrCompare(files, parts.slice(0, -1), cowfile, context));
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
    const message = `${error.message}: whether its base has changed is not known`;
    return () => context.onNotice?.({ severity: "note", file: error.file ?? cowfile, message });
  }
}

async function recordOrCompare(
  files: OpenFiles,
  below: readonly string[],
  cowfile: string,
  context: OperationContext,
): Promise<Settle> {
  const { storage } = files;
  const quiet: OperationContext = { ...context, onProgress: undefined, onNotice: undefined };
  const cow = files.open(cowfile, { lock: "none" });
  // Nothing else says what its base was.
  if (detectFormat(cow)?.id !== "cowfile") return () => undefined;
  const identity = await requireFormat(cow).identify(cow, {});
  const stack = await files.openStack(stackOf(below));
  const times = settledTimes(storage, stack.paths);
  const answer = await askAboutBase(files, { cow, cowfile, stack }, { budget: SERVE }, quiet);
  const { record, ignored } = answer;
  if (record) {
    return () => {
      if (showsThrough(answer))
        context.onNotice?.({ severity: "warning", file: below[0], message: changedText(answer, cowfile) });
      if (!isProven(answer) || times.includes(null)) return;
      const note = { ...record, cowfile: identity, files: times };
      noteOrWarn(storage, cowfile, context, () => writeSidecar(storage, cowfile, note));
    };
  }
  const { blocks } = identity;
  const mayWrite = typeof blocks === "number" && ignored?.mayReplace !== false;
  const at = { base: stack.device, paths: stack.paths, blocks: Number(blocks), budget: SERVE };
  const taken = mayWrite ? await takeRecord(storage, at, quiet) : undefined;
  return () => {
    if (ignored) context.onNotice?.({ severity: "note", file: ignored.path, message: `is ignored, as ${ignored.why}` });
    if (taken) noteOrWarn(storage, cowfile, context, () => taken.write(cowfile, identity));
  };
}

/** What was looked at wholly, and is the same, needs no looking at next time. */
function isProven({ record, compared, changed, verdict }: BaseAnswer): boolean {
  return compared === "all" && record?.unread.length === 0 && changed.length === 0 && verdict !== "merged";
}
