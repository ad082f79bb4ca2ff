/**
 * Owns how a server treats the base of the cowfile on top: records it if there is no record yet, else reports changes,
 * and refuses to serve it writable over them. A base that cannot be judged never prevents serving.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { detectFormat, requireFormat } from "../../formats/registry.ts";
import { settledTimes, writeSidecar } from "../../notes/sidecar.ts";
import { requireBelongs } from "../../stack/open.ts";
import type { StackSpec } from "../../stack/spec.ts";
import { OpenFiles } from "../files.ts";
import { askAboutBase, type BaseAnswer } from "./ask.ts";
import { sayChanged } from "./merge-guard.ts";
import { type Budget, QUICK } from "./sampling.ts";
import { noteOrWarn, takeRecord } from "./take.ts";

/** The user who starts a server waits for it. */
const SERVE: Budget = { bytes: QUICK.bytes, ms: 500 };

/** Writes the record once the cowfile is being served. */
type Settle = () => void;

export interface Looking {
  /** Clients will write: a missing record is made, and a changed base is refused. */
  readonly isWritten: boolean;
  /** Nothing is refused. */
  readonly force: boolean;
}

/** `say` warns or refuses; `settle` as above. */
interface Look {
  readonly say: () => void;
  readonly settle: Settle;
}

const NOTHING: Look = { say: () => undefined, settle: () => undefined };

/**
 * Judges a base. Opens the files itself, for reading, and closes them again: must be called before they are opened to
 * be served, because an export may accept one client at a time. The result is to be called when the cowfile was opened:
 * only then it is known to belong to its backing.
 *
 * @param spec its topmost layer is the cowfile
 * @throws CowError `wrong-base` for a base that is known to have changed where it shows
 */
export async function lookAtBase(spec: StackSpec, looking: Looking, context: OperationContext): Promise<Settle> {
  const cowfile = spec.top.path;
  const look = await OpenFiles.during(context, (files) =>
    recordOrCompare(files, spec.below, cowfile, looking, context),
  ).catch((error: unknown): Look => {
    if (!(error instanceof CowError)) throw error;
    const message = `${error.message}: whether its base has changed is not known`;
    const settle = (): void => context.onNotice?.({ severity: "note", file: error.file ?? cowfile, message });
    return { ...NOTHING, settle };
  });
  look.say();
  return look.settle;
}

async function recordOrCompare(
  files: OpenFiles,
  below: StackSpec,
  cowfile: string,
  { isWritten, force }: Looking,
  context: OperationContext,
): Promise<Look> {
  const { storage } = files;
  const quiet: OperationContext = { ...context, onNotice: undefined };
  const cow = files.open(cowfile, { lock: "none" });
  // Nothing else identifies its base.
  if (detectFormat(cow)?.id !== "cowfile") return NOTHING;
  const identity = await requireFormat(cow).identify(cow, {});
  const stack = await files.openStack(below);
  const times = settledTimes(storage, stack.paths);
  const answer = await askAboutBase(files, { cow, cowfile, stack }, { budget: SERVE }, quiet);
  const { record, ignored } = answer;
  if (record) {
    // A base that the cowfile was not made for is reported as such.
    if (answer.verdict === "changed") await requireBelongs(new CowfileLayer(cow, { allowDirty: true }), stack.device);
    const way = isWritten && !force ? "--force serves it anyway, --read-only without being written" : undefined;
    const settle = (): void => {
      if (!isWritten || !isProven(answer) || times.includes(null)) return;
      const note = { ...record, cowfile: identity, files: times };
      noteOrWarn(storage, cowfile, context, () => writeSidecar(storage, cowfile, note));
    };
    return { say: () => sayChanged(answer, { rdofile: below.base.text, cowfile }, way, context), settle };
  }
  const { blocks } = identity;
  const mayWrite = isWritten && typeof blocks === "number" && ignored?.mayReplace !== false;
  const at = { base: stack.device, paths: stack.paths, blocks: Number(blocks), budget: SERVE };
  const taken = mayWrite ? await takeRecord(storage, at, quiet) : undefined;
  const settle = (): void => {
    if (ignored) context.onNotice?.({ severity: "note", file: ignored.path, message: `is ignored, as ${ignored.why}` });
    if (taken) noteOrWarn(storage, cowfile, context, () => taken.write(cowfile, identity));
  };
  return { ...NOTHING, settle };
}

/** A base that was read entirely, and is the same, need not be read next time. */
function isProven({ record, compared, changed, verdict }: BaseAnswer): boolean {
  return compared === "all" && record?.unread.length === 0 && changed.length === 0 && verdict !== "merged";
}
