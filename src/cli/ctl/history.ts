/**
 * Owns the verbs of `cowtool ctl` for an export's history: checkpoints, rollbacks, forks.
 */
import { resolve } from "node:path";
import { formatSize, parseSize } from "../../lib/bytes/size.ts";
import { CowError } from "../../lib/errors.ts";
import { escapeControls } from "../render/escape.ts";
import { shown } from "./render.ts";
import type { Verb } from "./verb.ts";

const NAMES_AT_MOST = 1024;

export const HISTORY_VERBS: Readonly<Record<string, Verb>> = {
  checkpoint: {
    usage: "NAME… --as CP",
    summary: "freeze what exports show now, under a name; one instant for all of them",
    args: [1, NAMES_AT_MOST],
    flags: ["as", "note"],
    run: async ({ client, args: names, flags: { as, note } }) => {
      const result = await client.checkpoint({ names, as: required(as, "--as, the name of the checkpoint"), note });
      const { checkpoint, pause_ms: pause } = result;
      const lines = result.exports.map(
        ({ name, top }) => `${at(name, checkpoint)}: writes go to ${escapeControls(top)}\n`,
      );
      return { result, isReassurance: true, render: () => `${lines.join("")}paused for ${pause.toFixed(1)} ms\n` };
    },
  },
  rollback: {
    usage: "NAME CP",
    summary: "have an export show a checkpoint again; what was written since is removed, or kept with --keep",
    args: [2, 2],
    flags: ["keep", "discard", "force"],
    run: async ({ client, args: [name = "", checkpoint = ""], flags: { keep, discard, force } }) => {
      const kept = absolute(keep);
      const result = await client.rollback(name, { checkpoint, keep: kept, discard, force });
      const what =
        kept === undefined ? filesRemoved(result.removed.length) : `what was there is ${escapeControls(kept)}`;
      return { result, isReassurance: true, render: () => `${shown(name)} is as of ${checkpoint}; ${what}\n` };
    },
  },
  fork: {
    usage: "NAME[@CP] NEW",
    summary: "a new export over a checkpoint of another one, or over what that shows now",
    args: [2, 2],
    flags: ["cowfile", "stack-file"],
    run: async ({ client, args: [from = "", as = ""], flags }) => {
      const { name, checkpoint } = namedCheckpoint(from);
      const files = { cowfile: absolute(flags.cowfile), stack_file: absolute(flags["stack-file"]) };
      const result = await client.fork(name, { as, checkpoint, ...files });
      return { result, render: () => `${[result.uri, ...result.more_uris].join("\n")}\n` };
    },
  },
  drop: {
    usage: "NAME CP",
    summary: "forget a checkpoint; its layer stays until a squash",
    args: [2, 2],
    flags: [],
    run: async ({ client, args: [name = "", checkpoint = ""] }) => {
      await client.drop(name, checkpoint);
      const result = { dropped: checkpoint, name };
      return { result, isReassurance: true, render: () => `${at(name, checkpoint)} is dropped\n` };
    },
  },
  grow: {
    usage: "NAME SIZE",
    summary: "make an export larger; with --force although clients know the old size",
    args: [2, 2],
    flags: ["force"],
    run: async ({ client, args: [name = "", size = ""], flags: { force } }) => {
      const result = await client.grow(name, parseSize(size), { force });
      const now = formatSize(result.virtual_size ?? 0);
      return { result, isReassurance: true, render: () => `${shown(name)} has ${now}\n` };
    },
  },
};

function filesRemoved(count: number): string {
  return `${count} file${count === 1 ? "" : "s"} removed`;
}

/** `NAME@CHECKPOINT` */
function namedCheckpoint(text: string): { readonly name: string; readonly checkpoint: string | undefined } {
  const sign = text.lastIndexOf("@");
  return sign < 0
    ? { name: text, checkpoint: undefined }
    : { name: text.slice(0, sign), checkpoint: text.slice(sign + 1) };
}

function at(name: string, checkpoint: string): string {
  return `${shown(name)}@${escapeControls(checkpoint)}`;
}

function absolute(file: string | undefined): string | undefined {
  return file === undefined ? undefined : resolve(file);
}

function required(value: string | undefined, what: string): string {
  if (value === undefined) throw new CowError("usage", `it needs ${what}`);
  return value;
}
