/**
 * Owns the verbs of `cowtool ctl` for an export's history: checkpoints, rollbacks, forks, and jobs that shorten a chain.
 */
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatSize, parseSize } from "../../lib/bytes/size.ts";
import type { JobDocument } from "../../lib/control/documents.ts";
import type { SquashRequestDocument } from "../../lib/control/history-documents.ts";
import { CowError } from "../../lib/errors.ts";
import { escapeControls } from "../render/escape.ts";
import { jobTable, shown } from "./render.ts";
import type { Answer, Asked, Verb } from "./verb.ts";

/** How often a job is asked how far it is. */
const PROGRESS_MS = 300;
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
  squash: {
    usage: "NAME [FROM..TO]",
    summary: "join frozen layers that have no name, or those above FROM up to TO",
    args: [1, 2],
    flags: ["no-wait"],
    run: async (asked) => finished(asked, await asked.client.squash(asked.args[0] ?? "", rangeIn(asked.args[1]))),
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
  flatten: {
    usage: "NAME --into NEW.img",
    summary: "make base and frozen layers a new base, and go on over that",
    args: [1, 1],
    flags: ["into", "no-wait"],
    run: async (asked) => {
      const into = resolve(required(asked.flags.into, "--into, the file of the new base"));
      return finished(asked, await asked.client.flatten(asked.args[0] ?? "", into));
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

/** Waits for a job's end unless that is left to the server. @throws CowError as the job */
async function finished({ client, flags, view, signal, onProgress }: Asked, begun: JobDocument): Promise<Answer> {
  const { id, kind, name } = begun;
  if (flags["no-wait"]) return { result: begun, render: () => jobTable([begun], view) };
  const ended = client.waitFor(id, signal);
  const tick = (): Promise<boolean> => sleep(PROGRESS_MS, false, { ref: false });
  while (!(await Promise.race([ended.then(() => true), tick()]))) {
    const { progress } = await client.job(id);
    if (progress) onProgress?.(progress);
  }
  const job = await ended;
  if (job.error) {
    const { errorOf } = await import("../../lib/control/caller.ts");
    throw errorOf(job.error.code === "interrupted" ? { ...job.error, code: "locked" } : job.error);
  }
  return { result: job, isReassurance: true, render: () => `${kind} of ${shown(name)} is done\n` };
}

/** `NAME@CHECKPOINT` */
function namedCheckpoint(text: string): { readonly name: string; readonly checkpoint: string | undefined } {
  const sign = text.lastIndexOf("@");
  return sign < 0
    ? { name: text, checkpoint: undefined }
    : { name: text.slice(0, sign), checkpoint: text.slice(sign + 1) };
}

/** `FROM..TO`, of which either end may be missing. */
function rangeIn(text: string | undefined): SquashRequestDocument {
  if (text === undefined) return {};
  const [, from = "", to = ""] = /^(.*?)\.\.(.*)$/s.exec(text) ?? [];
  if (from === "" && to === "") throw new CowError("usage", `"${text}" is not FROM..TO, names of checkpoints`);
  return { ...(from !== "" && { from }), ...(to !== "" && { to }) };
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
