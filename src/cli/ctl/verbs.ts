/**
 * Owns the verbs of `cowtool ctl`: their arguments, the flags that each takes, what they ask the server, and what they
 * print. history.ts has those for checkpoints.
 */
import { parseSize } from "../../lib/bytes/size.ts";
import type { EventDocument } from "../../lib/control/documents.ts";
import { nodeStorage } from "../../lib/device/node-storage.ts";
import { CowError } from "../../lib/errors.ts";
import type { Access } from "../../lib/stack/live/access.ts";
import { StackSpec } from "../../lib/stack/spec.ts";
import { renderKeyValue } from "../render/key-value.ts";
import { renderShown } from "./chain.ts";
import { HISTORY_VERBS } from "./history.ts";
import { eventLine, eventLines, exportTable, jobTable, limitRows, shown, statsTable } from "./render.ts";
import { runCommand } from "./run-command.ts";
import type { Answer, Asked, CtlFlags, Verb } from "./verb.ts";

export const VERBS: Readonly<Record<string, Verb>> = {
  list: {
    usage: "",
    summary: "the exports",
    args: [0, 0],
    flags: [],
    run: async ({ client, view }) => {
      const result = await client.list();
      return { result, render: () => exportTable(result.exports, view) };
    },
  },
  show: {
    usage: "NAME",
    summary: "one export with its chain as a tree, and the space left",
    args: [1, 1],
    flags: [],
    run: async ({ client, args: [name = ""], view }) => {
      const result = await client.show(name);
      return { result, render: () => renderShown(result, view) };
    },
  },
  add: {
    usage: "NAME=STACK",
    summary: "serve a stack under a name, from now on",
    args: [1, 1],
    flags: ["read-only", "ephemeral", "repair", "force", "reserve", "quota"],
    run: async ({ client, args: [text = ""], flags }) => {
      const { repair, force, reserve, quota } = flags;
      const result = await client.add({
        ...namedStack(text),
        access: accessOf(flags),
        repair,
        force,
        ...(reserve !== undefined && { reserve: parseSize(reserve) }),
        ...(quota !== undefined && { quota: parseSize(quota) }),
      });
      return { result, render: () => `${[result.uri, ...result.more_uris].join("\n")}\n` };
    },
  },
  remove: {
    usage: "NAME",
    summary: "close an export and forget it; with --drain once its clients have left, with --force hanging up on them",
    args: [1, 1],
    flags: ["drain", "force", "no-wait"],
    run: async ({ client, args: [name = ""], flags, signal }) => {
      if (!flags.drain) {
        await client.remove(name, { force: flags.force });
        return { result: { removed: name }, isReassurance: true, render: () => `${shown(name)} is removed\n` };
      }
      const job = await client.drain(name);
      if (flags["no-wait"]) return { result: job, render: () => jobTable([job], {}) };
      const ended = await client.waitFor(job.id, signal);
      if (ended.error) throw new CowError("locked", ended.error.message, { hints: ended.error.hints });
      return { result: { removed: name }, isReassurance: true, render: () => `${shown(name)} is removed\n` };
    },
  },
  sync: {
    usage: "[NAME]",
    summary: "make everything that was answered durable in the cowfiles",
    args: [0, 1],
    flags: [],
    run: async ({ client, args: [name] }) => {
      const result = await client.sync(name);
      const count = result.exports.length;
      return { result, isReassurance: true, render: () => `${count} export${count === 1 ? " is" : "s are"} durable\n` };
    },
  },
  close: {
    usage: "NAME",
    summary: "close all files of an export, and keep its name",
    args: [1, 1],
    flags: [],
    run: async ({ client, args: [name = ""] }) => {
      const result = await client.close(name);
      return { result, isReassurance: true, render: () => `${shown(name)} is closed\n` };
    },
  },
  reopen: {
    usage: "NAME",
    summary: "open a closed or failed export again",
    args: [1, 1],
    flags: ["read-only"],
    run: async ({ client, args: [name = ""], flags }) => {
      const result = await client.reopen(name, { access: flags["read-only"] ? "read-only" : undefined });
      return { result, isReassurance: true, render: () => `${shown(name)} is open, ${result.access}\n` };
    },
  },
  ...HISTORY_VERBS,
  watch: {
    usage: "[NAME]",
    summary: "print events as they come; with --below wait until less is left for its cowfile",
    args: [0, 1],
    flags: ["below", "exec"],
    run: watch,
  },
  limit: {
    usage: "NAME",
    summary: "limit what an export's clients may do, from now on, or show its limits",
    args: [1, 1],
    flags: ["iops", "bandwidth", "quota"],
    run: async ({ client, args: [name = ""], flags }) => {
      const limits = {
        iops: limitOf(flags.iops, countOf),
        bandwidth: limitOf(flags.bandwidth, parseSize),
        quota: limitOf(flags.quota, parseSize),
      };
      const result = await client.limit(name, limits);
      return { result, render: () => renderKeyValue(limitRows(result)) };
    },
  },
  stats: {
    usage: "[NAME]",
    summary: "what exports have done since they were added",
    args: [0, 1],
    flags: [],
    run: async ({ client, args: [name], view }) => {
      const result = await client.stats(name);
      return { result, render: () => statsTable(result.exports, view) };
    },
  },
  dashboard: {
    usage: "",
    summary: "the address of the page of serve --dashboard, with the token for its buttons",
    args: [0, 0],
    flags: [],
    run: async ({ client }) => {
      const result = await client.dashboard();
      return { result, render: () => `${result.url}#token=${result.token}\n` };
    },
  },
  jobs: {
    usage: "[cancel ID]",
    summary: "what takes long and was begun, or cancel one of them",
    args: [0, 2],
    flags: [],
    run: async ({ client, args: [word, id], view }) => {
      if (word !== undefined && (word !== "cancel" || id === undefined || !/^\d{1,9}$/.test(id)))
        throw new CowError("usage", "expected jobs, or jobs cancel ID");
      const result = word === undefined ? await client.jobs() : { jobs: [await client.cancel(Number(id))] };
      return { result, render: () => jobTable(result.jobs, view) };
    },
  },
  stop: {
    usage: "",
    summary: "end the server in order",
    args: [0, 0],
    flags: [],
    run: async ({ client }) => {
      const result = await client.stop();
      return { result, isReassurance: true, render: () => `the server with process id ${result.pid} ends\n` };
    },
  },
};

async function watch({ client, args: [name], flags, signal }: Asked): Promise<Answer> {
  const { below, exec } = flags;
  if (below === undefined) {
    if (exec !== undefined) throw new CowError("usage", "--exec goes with --below");
    const events = client.events({ name, signal });
    return { result: eventStream(events), render: () => eventLines(events) };
  }
  if (name === undefined) throw new CowError("usage", "--below needs the NAME of an export");
  for await (const event of client.events({ name, belowBytes: parseSize(below), signal })) {
    if (event.type === "removed") break;
    if (event.type !== "space-below") continue;
    if (exec !== undefined) await runCommand(exec, event);
    return { result: event, render: () => eventLine(event) };
  }
  if (signal?.aborted) throw new CowError("interrupted", "interrupted: nothing is watched any more");
  throw new CowError("not-found", `export "${name}" is not served any more`);
}

function eventStream(events: AsyncGenerator<EventDocument>): { readonly events: AsyncGenerator<EventDocument> } {
  return { events };
}

/** `NAME=STACK`; names of files are made absolute, since the server may have been started elsewhere. */
function namedStack(text: string): { readonly name: string; readonly stack: string } {
  const equals = text.indexOf("=");
  if (equals < 0) throw new CowError("usage", `"${text}" is not NAME=STACK`);
  const stack = StackSpec.parse(nodeStorage, text.slice(equals + 1)).textFrom(process.cwd());
  return { name: text.slice(0, equals), stack };
}

function accessOf({ "read-only": readOnly, ephemeral }: CtlFlags): Access | undefined {
  if (readOnly) return "read-only";
  return ephemeral ? "ephemeral" : undefined;
}

/** `none` takes a limit away. */
function limitOf(text: string | undefined, parse: (text: string) => number): number | null | undefined {
  return text === "none" ? null : text === undefined ? undefined : parse(text);
}

function countOf(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new CowError("usage", `--iops takes a number from 1, or none, not "${text}"`);
  return Number(text);
}
