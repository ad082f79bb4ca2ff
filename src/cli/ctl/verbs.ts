/**
 * Owns the verbs of `cowtool ctl`: their arguments, the flags that each takes, what they ask the server, and what they
 * print.
 */
import { formatSize, parseSize } from "../../lib/bytes/size.ts";
import type { ControlClient } from "../../lib/control/client.ts";
import type { EventDocument, ExportDocument, JobDocument, ShownDocument } from "../../lib/control/documents.ts";
import { nodeStorage } from "../../lib/device/node-storage.ts";
import { CowError } from "../../lib/errors.ts";
import type { Access } from "../../lib/stack/live/served-stack.ts";
import { StackSpec } from "../../lib/stack/spec.ts";
import { escapeControls } from "../render/escape.ts";
import { renderKeyValue } from "../render/key-value.ts";
import { renderTable, type TableView } from "../render/table.ts";
import type { Text } from "../render/text.ts";
import { runCommand } from "./run-command.ts";

export interface CtlFlags {
  readonly "read-only": boolean;
  readonly ephemeral: boolean;
  readonly repair: boolean;
  readonly force: boolean;
  readonly reserve: string | undefined;
  readonly drain: boolean;
  readonly "no-wait": boolean;
  readonly below: string | undefined;
  readonly exec: string | undefined;
}

export interface Asked {
  readonly client: ControlClient;
  readonly args: readonly string[];
  readonly flags: CtlFlags;
  readonly view: TableView;
  readonly signal: AbortSignal | undefined;
}

export interface Answer {
  readonly result: object;
  readonly render: () => Text | Promise<Text>;
  /** Only says that it was done. */
  readonly isReassurance?: boolean;
}

export interface Verb {
  /** As usage shows its arguments: `NAME [--drain]`. */
  readonly usage: string;
  readonly summary: string;
  readonly args: readonly [least: number, most: number];
  readonly flags: readonly (keyof CtlFlags)[];
  run(asked: Asked): Promise<Answer>;
}

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
    summary: "one export with its layers and the space left",
    args: [1, 1],
    flags: [],
    run: async ({ client, args: [name = ""] }) => {
      const result = await client.show(name);
      return { result, render: () => renderKeyValue(shownRows(result)) };
    },
  },
  add: {
    usage: "NAME=STACK",
    summary: "serve a stack under a name, from now on",
    args: [1, 1],
    flags: ["read-only", "ephemeral", "repair", "force", "reserve"],
    run: async ({ client, args: [text = ""], flags }) => {
      const { repair, force, reserve } = flags;
      const request = { ...namedStack(text), access: accessOf(flags), repair, force };
      const result = await client.add(reserve === undefined ? request : { ...request, reserve: parseSize(reserve) });
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
  watch: {
    usage: "[NAME]",
    summary: "print events as they come; with --below wait until less is left for its cowfile",
    args: [0, 1],
    flags: ["below", "exec"],
    run: watch,
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

async function* eventLines(events: AsyncGenerator<EventDocument>): AsyncGenerator<string> {
  for await (const event of events) yield eventLine(event);
}

function eventLine({ time_ms, type, name, file, message, free_bytes, job }: EventDocument): string {
  const about = [
    ...(name === undefined ? [] : [shown(name)]),
    ...(job ? [`job ${job.id} (${job.kind}) is ${job.state}`] : []),
    ...(free_bytes === undefined ? [] : [`${formatSize(free_bytes)} left`]),
    ...(file === undefined ? [] : [file]),
    ...(message === undefined ? [] : [message]),
  ];
  return `${new Date(time_ms).toISOString()} ${type}${about.length > 0 ? `: ${escapeControls(about.join(": "))}` : ""}\n`;
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

/** A name for people: the default export has none. */
function shown(name: string): string {
  return name === "" ? "the default export" : escapeControls(name);
}

function exportTable(exports: readonly ExportDocument[], view: TableView): Text {
  const rows = exports.map(({ name, state, access, virtual_size, connections, stack }) => [
    name === "" ? "(default)" : name,
    state,
    access,
    virtual_size === null ? "-" : formatSize(virtual_size),
    connections,
    stack,
  ]);
  return renderTable(["NAME", "STATE", "ACCESS", "SIZE", "CLIENTS", "STACK"], rows, view);
}

function shownRows(shownExport: ShownDocument): [string, string][] {
  const { uri, more_uris, base, layers, state, access, virtual_size, connections, free_bytes, written } = shownExport;
  return [
    ["name", shown(shownExport.name)],
    ["state", state],
    ...(shownExport.error ? ([["error", shownExport.error.message]] as [string, string][]) : []),
    ["access", access],
    ...[uri, ...more_uris].filter((each) => each !== "").map((each): [string, string] => ["URI", each]),
    ["size", virtual_size === null ? "unknown while it is not open" : formatSize(virtual_size)],
    ["base", base],
    ...layers.map((layer, i): [string, string] => [`layer ${i + 1}`, layer]),
    ...(written === null ? [] : ([["written", written]] as [string, string][])),
    ...(free_bytes === null ? [] : ([["space left", formatSize(free_bytes)]] as [string, string][])),
    ["clients", String(connections)],
  ];
}

function jobTable(jobs: readonly JobDocument[], view: TableView): Text {
  const rows = jobs.map(({ id, kind, name, state, error }) => [id, kind, name, state, error?.message ?? ""]);
  return renderTable(["ID", "KIND", "EXPORT", "STATE", "ERROR"], rows, view);
}
