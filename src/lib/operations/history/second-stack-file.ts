/**
 * Owns making a second stack file over the layers of one that is held: its names, which may be in another directory, and
 * finding what an interrupted command made.
 */
import * as path from "node:path";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { claimOutput, NEVER } from "../../output/claim.ts";
import { sharedUpTo } from "../../stack/chain.ts";
import { encodeStackDocument, type LayerPart, type StackDocument } from "../../stack/stack-document.ts";
import { type HeldStackFile, readStackFile } from "../../stack/stack-file.ts";
import type { OpenFiles } from "../files.ts";
import { stackFileName } from "./hold.ts";

/** A stack file that is to be made. */
export interface SecondStackFile {
  readonly name: string;
  /** Makes it durable; if it says the same already, it stays. @param document with names as in the held file @throws CowError `exists` */
  write(document: StackDocument): void;
  /** Makes it name all that the held file does, which shares its layers up to `at` from now on: neither removes them. */
  keep(held: HeldStackFile, at: number): void;
  /** Whether it was there at first, and says that. */
  says(document: StackDocument): boolean;
  /** Removes it if it is there now, and says that. @throws CowError */
  remove(document: StackDocument): void;
}

/** @throws CowError `usage` for a name that no stack file may have; `exists` for a file that is none */
export function claimSecond(files: OpenFiles, held: HeldStackFile, text: string): SecondStackFile {
  const { storage } = files;
  const name = stackFileName(text);
  if (name === "") throw new CowError("usage", "a stack file needs a name", { file: name });
  if (storage.realPath(name) === held.path)
    throw new CowError("usage", "is the stack file itself: the other one needs another name", { file: name });
  const there = storage.facts(name) ? readIfStackFile(storage, name) : undefined;
  if (!there) claimOutput(files, name, NEVER, "stack");
  const from = path.dirname(held.path);
  const to = path.dirname(storage.realPath(name));
  const moved = (document: StackDocument): StackDocument => movedTo(document, from, to);
  const says = (document: StackDocument): boolean =>
    there !== undefined && JSON.stringify(there) === JSON.stringify(moved(document));
  const write = (document: StackDocument): void => {
    if (says(document)) return;
    const pending = storage.create(name, { inputs: [held.path] });
    try {
      pending.device.write(encodeStackDocument(moved(document), name), 0);
      pending.commit({ replace: false });
    } finally {
      pending.abandon();
    }
  };
  return {
    name,
    says,
    write,
    remove: (document) => {
      if (!storage.facts(name)) return;
      const { document: now } = readStackFile(storage, name);
      if (JSON.stringify(now) === JSON.stringify(moved(document))) storage.remove(name);
    },
    keep: (file, at) => {
      file.replace(sharedUpTo(file.document, at));
      write(file.document);
    },
  };
}

/** What an interrupted command may have made. @throws CowError `exists` */
function readIfStackFile(storage: Storage, name: string): StackDocument {
  try {
    return readStackFile(storage, name).document;
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
    throw new CowError("exists", "already exists", { file: name, cause: error });
  }
}

/** The same with names for another directory; absolute ones stay. Of the first directory nothing else is taken over. */
function movedTo({ cowtool_stack, base, layers }: StackDocument, from: string, to: string): StackDocument {
  const move = (file: string): string => (path.isAbsolute(file) ? file : path.relative(to, path.join(from, file)));
  const moved = <Part extends LayerPart>(part: Part): Part => ({
    ...part,
    file: move(part.file),
    ...(part.more_files && { more_files: part.more_files.map(move) }),
  });
  return { cowtool_stack, base: "uri" in base ? base : moved(base as LayerPart), layers: layers.map(moved) };
}
