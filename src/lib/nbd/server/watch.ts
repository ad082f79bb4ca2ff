/**
 * Owns what a running server does now and then: it watches space on the cowfiles' file systems, and files that other
 * programs cut short, removed or replaced, and takes checkpoints. There is one timer for each, whatever the number of
 * exports, and no turn of it takes long: of many exports, some have their turn at a time.
 */
import type { OperationContext } from "../../context.ts";
import { storageOf } from "../../operations/files.ts";
import type { Exports } from "./exports.ts";
import type { ServeRequest } from "./serve-request.ts";
import type { ServedExport } from "./served-export.ts";

const DEFAULT_WARN_BELOW_BYTES = 256 << 20;
const SPACE_MS = 2000;
const FILES_MS = 500;
/** Exports whose files are looked at each time: about a millisecond. */
const FILES_AT_A_TIME = 64;
/** A flush may be covered by the journal's log alone for at most this long. */
const CHECKPOINT_MS = 5000;
const CHECKPOINT_TURNS = 20;

/** Calls `work` for some of the exports, in turn. */
function inTurns(
  exports: Exports,
  everyMs: number,
  countOf: (all: number) => number,
  work: (some: readonly ServedExport[]) => void,
): NodeJS.Timeout {
  let next = 0;
  const turn = (): void => {
    const all = exports.open;
    const count = Math.min(all.length, countOf(all.length));
    if (next >= all.length) next = 0;
    const some = all.slice(next, next + count);
    next += count;
    work(some);
  };
  return setInterval(turn, everyMs).unref();
}

/** Warns when space runs low, once each time, as the original's cowwatch did. */
export function watchSpace(
  request: Pick<ServeRequest, "warnBelowBytes" | "reserveBytes">,
  exports: Exports,
  context: OperationContext,
): NodeJS.Timeout {
  const storage = storageOf(context);
  const limit = Math.max(request.warnBelowBytes ?? DEFAULT_WARN_BELOW_BYTES, (request.reserveBytes ?? 0) * 1.25);
  const warned = new Set<string>();
  const look = (): void => {
    const known = new Map<string, number | undefined>();
    for (const { stack } of exports.open) {
      const file = stack.writtenPath;
      if (file === undefined) continue;
      const { fileSystem = file } = stack;
      if (!known.has(fileSystem)) known.set(fileSystem, storage.freeBytes(file));
      const free = known.get(fileSystem);
      if (free === undefined || free >= limit) warned.delete(file);
      else if (!warned.has(file)) {
        warned.add(file);
        context.onNotice?.({ severity: "warning", file, message: `${free} bytes are left on its file system` });
      }
    }
  };
  look();
  return setInterval(look, SPACE_MS).unref();
}

/** Reports what happened to files since the last look. @param some exports; default all */
export function lookAtFiles(exports: Exports, context: OperationContext, some = exports.open): void {
  const looks = [exports.shared.lowers.look(), ...some.map(({ stack }) => stack.guard.look())];
  for (const look of looks)
    for (const { file, message } of look) context.onNotice?.({ severity: "warning", file, message });
}

export function watchFiles(exports: Exports, context: OperationContext): NodeJS.Timeout {
  const count = (): number => FILES_AT_A_TIME;
  return inTurns(exports, FILES_MS, count, (some) => lookAtFiles(exports, context, some));
}

/** Each export has its turn once in CHECKPOINT_MS. */
export function checkpointNowAndThen(exports: Exports): NodeJS.Timeout {
  const count = (all: number): number => Math.ceil(all / CHECKPOINT_TURNS);
  return inTurns(exports, CHECKPOINT_MS / CHECKPOINT_TURNS, count, (some) => {
    for (const { stack } of some) {
      try {
        stack.checkpoint();
      } catch {
        // The next flush meets the same, and tells its client.
      }
    }
  });
}
