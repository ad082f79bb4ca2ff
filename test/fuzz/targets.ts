/**
 * Owns what is fed with spoiled input, and what it must not do: throw anything but a refusal, hang, take memory, lose
 * its own state. Everything follows from the bytes of the input.
 */
import type { Target } from "./engine.ts";
import { client } from "./targets/client.ts";
import { control } from "./targets/control.ts";
import { cowfile, head, packed } from "./targets/images.ts";
import { journal, mergeJournal, note, stackFile } from "./targets/notes.ts";
import { handshake, transmission } from "./targets/server.ts";

export const TARGETS: Readonly<Record<string, Target>> = {
  head,
  cowfile,
  packed,
  journal,
  note,
  "merge-journal": mergeJournal,
  "stack-file": stackFile,
  handshake,
  client,
  transmission,
  control,
};
