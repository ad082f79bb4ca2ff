/**
 * Owns naming and writing the small JSON files beside a user's file. device/own-file.ts has the table of their kinds,
 * and the rule that tells ours from others'. Their contents are owned by sidecar.ts, merge-journal.ts and
 * output/partial.ts.
 */
import type { OwnKind } from "../device/own-file.ts";
import type { FileStamp, Storage } from "../device/storage.ts";

/** The name of the note of that kind beside `file`, or beside the target of a link. */
export function notePath(storage: Storage, { suffix }: OwnKind, file: string): string {
  return storage.realPath(file) + suffix;
}

/**
 * Makes a note durable, whole, in the place of an older one.
 *
 * @param note what it says, or makes that from the stamp of the note's own file
 * @throws CowError `exists` for what is none; `permission`, …
 */
export function writeNote(
  storage: Storage,
  { beginning }: OwnKind,
  path: string,
  note: object | ((stamp: FileStamp | undefined) => object),
  indent = 0,
): void {
  const pending = storage.create(path, { own: beginning });
  try {
    const content = typeof note === "function" ? note(pending.stamp) : note;
    pending.device.write(Buffer.from(`${JSON.stringify(content, null, indent)}\n`), 0);
    pending.commit({ replace: true });
  } finally {
    pending.abandon();
  }
}
