/**
 * Owns what a server does about the base of a cowfile that it opens for writing: records it where nothing is recorded yet,
 * and else says what has changed. Never keeps a cowfile from being served.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { requireFormat } from "../../formats/registry.ts";
import { OpenFiles } from "../files.ts";
import { askAboutBase } from "./ask.ts";
import { changedText, showsThrough } from "./judge.ts";
import { type Budget, QUICK } from "./sampling.ts";
import { settledTimes, writeSidecar } from "./sidecar.ts";
import { noteOrWarn, takeRecord } from "./take.ts";

/** Whoever starts a server waits for it. */
const SERVE: Budget = { bytes: QUICK.bytes, ms: 500 };

/**
 * To be called once the cowfile is known to belong to what is below it. Opens the files again for itself, for reading.
 *
 * @param parts base and layers, bottom to top; the last one is the cowfile
 */
export async function recordOrCompareBase(parts: readonly string[], context: OperationContext): Promise<void> {
  const cowfile = parts.at(-1) ?? "";
  try {
    await OpenFiles.during(context, (files) => recordOrCompare(files, parts.slice(0, -1), cowfile, context));
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
    if (error.code === "interrupted") return;
    const message = `${error.message}: whether its base has changed is not known`;
    context.onNotice?.({ severity: "note", file: error.file ?? cowfile, message });
  }
}

async function recordOrCompare(
  files: OpenFiles,
  below: readonly string[],
  cowfile: string,
  context: OperationContext,
): Promise<void> {
  const { storage } = files;
  const quiet: OperationContext = { ...context, onProgress: undefined };
  const cow = files.open(cowfile, { lock: "none" });
  const identity = await requireFormat(cow).identify(cow, {});
  const stack = await files.openStack(below.map((path) => path.replaceAll(",", "\\,")).join(","));
  const times = settledTimes(storage, stack.paths);
  const answer = await askAboutBase(files, { cow, cowfile, stack }, { budget: SERVE }, quiet);
  const { record, ignored, compared } = answer;
  if (record) {
    if (showsThrough(answer))
      context.onNotice?.({ severity: "warning", file: below[0], message: changedText(answer, cowfile) });
    // What was looked at wholly, and is the same, needs no looking at next time.
    const isProven = compared === "all" && record.unread.length === 0 && answer.changed.length === 0;
    if (isProven && answer.verdict !== "merged" && times.every((time) => time !== null))
      noteOrWarn(storage, cowfile, context, () =>
        writeSidecar(storage, cowfile, { ...record, cowfile: identity, files: times }),
      );
    return;
  }
  if (ignored) {
    const message = `is ignored, as ${ignored.why}`;
    context.onNotice?.({ severity: "note", file: ignored.path, message });
    if (!ignored.mayReplace) return;
  }
  const { blocks } = identity;
  if (typeof blocks !== "number") return;
  const taken = await takeRecord(storage, { base: stack.device, paths: stack.paths, blocks, budget: SERVE }, quiet);
  noteOrWarn(storage, cowfile, context, () => taken.write(cowfile, identity));
}
