/**
 * Owns what a running server watches: space on the cowfiles' file systems, and files that other programs cut short,
 * removed or replaced.
 */
import type { OperationContext } from "../../context.ts";
import { storageOf } from "../../operations/files.ts";
import type { Exports } from "./exports.ts";
import type { ServeRequest } from "./serve-request.ts";

const DEFAULT_WARN_BELOW_BYTES = 256 << 20;
const SPACE_MS = 2000;
const FILES_MS = 500;

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
    for (const { stack } of exports.open) {
      const file = stack.writtenPath;
      if (file === undefined) continue;
      const free = storage.freeBytes(file);
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

/** Reports what happened to files since the last look. */
export function lookAtFiles(exports: Exports, context: OperationContext): void {
  const looks = [exports.shared.lowers.look(), ...exports.open.map(({ stack }) => stack.guard.look())];
  for (const look of looks)
    for (const { file, message } of look) context.onNotice?.({ severity: "warning", file, message });
}

export function watchFiles(exports: Exports, context: OperationContext): NodeJS.Timeout {
  return setInterval(() => lookAtFiles(exports, context), FILES_MS).unref();
}
