/**
 * Owns the names of files for blocks that must not be lost and have no place any more: beside the original file, under
 * the first free name.
 */
import type { PendingFile, Storage } from "../../device/storage.ts";
import { SET_ASIDE_SUFFIX } from "../../formats/cowfile/live/set-aside.ts";
import type { AsideFile } from "../../formats/format.ts";

/** `path`, or with `.2`, `.3`, … the first name that is not taken. */
export function freeName(storage: Storage, path: string): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? path : `${path}.${number}`;
    if (!storage.facts(name, { own: true })) return name;
  }
}

/** Creates the file for blocks of `cowfile` that no flush covered. @throws CowError `permission`, `no-space`, `io` */
export function asideFile(storage: Storage, cowfile: string): AsideFile & Pick<PendingFile, "abandon"> {
  const name = freeName(storage, storage.realPath(cowfile) + SET_ASIDE_SUFFIX);
  const pending = storage.create(name, { inputs: [cowfile] });
  return {
    target: pending.device,
    commit: () => {
      pending.commit({ replace: false });
      return name;
    },
    abandon: () => pending.abandon(),
  };
}
