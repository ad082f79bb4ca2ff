/**
 * Owns how the small JSON files that cowtool keeps beside a user's file are named and written. device/own-file.ts has the table
 * of their kinds, and the rule that tells ours from others'. What each says, and which state of which file it is about, its own
 * file knows: sidecar.ts, merge-journal.ts, output/partial.ts.
 */
import type { OwnKind } from "../device/own-file.ts";
import type { Storage } from "../device/storage.ts";

/** The name of the note of that kind beside `file`, or beside what that is a link to. */
export function notePath(storage: Storage, { suffix }: OwnKind, file: string): string {
  return storage.realPath(file) + suffix;
}

/** Makes a note durable, whole, in the place of an older one. @throws CowError `exists` for what is none; `permission`, … */
export function writeNote(storage: Storage, { beginning }: OwnKind, path: string, note: object, indent = 0): void {
  const pending = storage.create(path, { own: beginning });
  try {
    pending.device.write(Buffer.from(`${JSON.stringify(note, null, indent)}\n`), 0);
    pending.commit({ replace: true });
  } finally {
    pending.abandon();
  }
}
