/**
 * Owns pictures and other text that a command writes into a file named with -o: whole, or not at all.
 */
import { nodeStorage } from "../lib/device/node-storage.ts";
import { CowError } from "../lib/errors.ts";

/** @throws CowError `exists` unless `force`; `io`, `permission`, … */
export function writeTextFile(path: string, text: Iterable<string>, force: boolean): void {
  if (!force && nodeStorage.facts(path))
    throw new CowError("exists", "already exists", { file: path, hints: ["--force replaces it"] });
  const pending = nodeStorage.create(path);
  try {
    let size = 0;
    for (const piece of text) {
      const bytes = Buffer.from(piece);
      pending.device.write(bytes, size);
      size += bytes.length;
    }
    pending.commit({ replace: force });
  } finally {
    pending.abandon();
  }
}
