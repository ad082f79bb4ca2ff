/**
 * Owns what `cowtool ctl` prints for people.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type {
  EventDocument,
  ExportDocument,
  JobDocument,
  LimitsDocument,
  ShownDocument,
  StatsDocument,
} from "../../lib/control/documents.ts";
import { escapeControls } from "../render/escape.ts";
import { renderTable, type TableView } from "../render/table.ts";
import type { Text } from "../render/text.ts";

export async function* eventLines(events: AsyncGenerator<EventDocument>): AsyncGenerator<string> {
  for await (const event of events) yield eventLine(event);
}

export function eventLine({ time_ms, type, name, file, message, free_bytes, job }: EventDocument): string {
  const about = [
    ...(name === undefined ? [] : [shown(name)]),
    ...(job ? [`job ${job.id} (${job.kind}) is ${job.state}`] : []),
    ...(free_bytes === undefined ? [] : [`${formatSize(free_bytes)} left`]),
    ...(file === undefined ? [] : [file]),
    ...(message === undefined ? [] : [message]),
  ];
  return `${new Date(time_ms).toISOString()} ${type}${about.length > 0 ? `: ${escapeControls(about.join(": "))}` : ""}\n`;
}

/** A name for people: the default export has none. */
export function shown(name: string): string {
  return name === "" ? "the default export" : escapeControls(name);
}

export function limitRows({ name, iops, bandwidth, quota }: LimitsDocument): [string, string][] {
  return [
    ["name", shown(name)],
    ["requests", iops === null ? "not limited" : `${iops} a second`],
    ["bandwidth", bandwidth === null ? "not limited" : `${formatSize(bandwidth)} a second`],
    ["quota", quota === null ? "none" : formatSize(quota)],
  ];
}

export function statsTable(exports: readonly StatsDocument[], view: TableView): Text {
  const rows = exports.map((stats) => [
    stats.name === "" ? "(default)" : stats.name,
    stats.reads,
    stats.writes,
    formatSize(stats.bytes_read),
    formatSize(stats.bytes_written),
    stats.blocks_allocated,
    stats.errors,
    `${stats.latency.read.p99}/${stats.latency.write.p99}`,
  ]);
  const header = ["NAME", "READS", "WRITES", "READ", "WRITTEN", "BLOCKS", "ERRORS", "P99 µs R/W"];
  return renderTable(header, rows, view);
}

export function exportTable(exports: readonly ExportDocument[], view: TableView): Text {
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

export function shownRows(shownExport: ShownDocument): [string, string][] {
  const { uri, more_uris, state, access, virtual_size, connections, free_bytes, written } = shownExport;
  return [
    ["name", shown(shownExport.name)],
    ["state", state],
    ...(shownExport.error ? ([["error", shownExport.error.message]] as [string, string][]) : []),
    ["access", access],
    ...[uri, ...more_uris].filter((each) => each !== "").map((each): [string, string] => ["URI", each]),
    ["size", virtual_size === null ? "unknown while it is not open" : formatSize(virtual_size)],
    ...(written === null ? [] : ([["written", written]] as [string, string][])),
    ...(free_bytes === null ? [] : ([["space left", formatSize(free_bytes)]] as [string, string][])),
    ["clients", String(connections)],
  ];
}

export function jobTable(jobs: readonly JobDocument[], view: TableView): Text {
  const rows = jobs.map(({ id, kind, name, state, error }) => [id, kind, name, state, error?.message ?? ""]);
  return renderTable(["ID", "KIND", "EXPORT", "STATE", "ERROR"], rows, view);
}
