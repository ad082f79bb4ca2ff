/**
 * Owns `check`: every inconsistency there is, and nothing changed.
 */
import type { OperationContext } from "../context.ts";
import type { CheckReport } from "../formats/format.ts";
import { requireFormat } from "../formats/registry.ts";
import { notesOfServer, OpenFiles } from "./files.ts";

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
    const base = request.rdofile === undefined ? undefined : (await files.openStack(request.rdofile)).device;
    return requireFormat(device).check(device, {
      base,
      scratch: () => files.scratch(file),
      ...notesOfServer(files, file),
      signal: context.signal,
      onProgress: context.onProgress,
      allocatedBytes: files.storage.facts(file)?.allocatedBytes ?? 0,
    });
  });
}
