/**
 * Owns how the parts of an image are shown to people: what it begins with, its partitions, the layers of a stack.
 */
import { formatSize, roundedSize } from "../../lib/bytes/size.ts";
import type { PartReport } from "../../lib/operations/check.ts";
import type { InfoResult } from "../../lib/operations/info.ts";
import type { LinkFacts } from "../../lib/operations/info-chain.ts";
import { escapeControls } from "./escape.ts";
import type { KeyValue } from "./key-value.ts";
import { kindsOfProblems, problemsAsJson } from "./problems.ts";
import { renderTable, type TableView } from "./table.ts";

interface Content {
  readonly type: string;
  readonly label: string | null;
  readonly size: number | null;
}

interface Partition {
  readonly number: number;
  readonly offset: number;
  readonly size: number;
  readonly type: string;
  readonly name: string | null;
  readonly content: Content | null;
}

/** `ext4 "root", 16 MiB` */
function contentInWords({ type, label, size }: Content): string {
  return `${type}${label === null ? "" : ` "${label}"`}${size === null ? "" : `, ${roundedSize(size)}`}`;
}

/** Rows of an image that was looked into; none of any other. */
export function contentRows({
  content,
  partition_table: table,
  partitions,
  more_partitions: more,
}: InfoResult): KeyValue[] {
  if (content === undefined) return [];
  const count = (partitions as readonly unknown[]).length;
  return [
    ["content", content ? contentInWords(content as unknown as Content) : table ? undefined : "not recognised"],
    ["partitions", table ? `${count}${more ? " and more" : ""} (${table})` : undefined],
  ];
}

export async function* renderPartitions(
  { partitions, more_partitions: more }: InfoResult,
  view: TableView,
): AsyncGenerator<string> {
  const list = (partitions ?? []) as unknown as readonly Partition[];
  if (list.length === 0) return;
  const rows = list.map(({ number, offset, size, type, name, content }) => [
    number,
    formatSize(offset).replace(/ .*/, ""),
    roundedSize(size),
    name ? `${type} "${name}"` : type,
    content ? contentInWords(content) : "-",
  ]);
  yield* renderTable(["PARTITION", "FROM BYTE", "SIZE", "TYPE", "CONTENT"], rows, view);
  if (more) yield "and more\n";
}

function inWords(fits: boolean | null): string {
  return fits === null ? "-" : fits ? "yes" : "no";
}

const UNITS = [
  [365 * 86_400, "years"],
  [86_400, "days"],
  [3600, "hours"],
  [60, "minutes"],
] as const;

/** `3 days`: how long ago that was, rounded down; `new` if it is less than two minutes. */
export function age(when: string | null): string {
  if (when === null) return "-";
  const seconds = Math.max(0, (Date.now() - Date.parse(when)) / 1000);
  const [length, unit] = UNITS.find(([length]) => seconds >= 2 * length) ?? [];
  return length === undefined ? "new" : `${Math.floor(seconds / length)} ${unit}`;
}

/** A row a part of a stack, base first. */
export async function* renderChain(chain: readonly LinkFacts[], view: TableView): AsyncGenerator<string> {
  const isNamed = chain.some(({ checkpoint }) => checkpoint !== null);
  const rows = chain.map(
    ({
      name,
      checkpoint,
      shared,
      format,
      state,
      allocated,
      modified,
      fits,
      being_written: isWritten,
      open_by: users,
    }) => [
      name,
      ...(isNamed ? [checkpoint?.name ?? "-", checkpoint?.time.slice(0, 16).replace("T", " ") ?? "-"] : []),
      format,
      isWritten ? "being written" : (state ?? "-"),
      `${allocated === null ? "-" : roundedSize(allocated)}${shared ? ", shared" : ""}`,
      age(modified),
      inWords(fits),
      users.map(({ pid, writes }) => `pid ${pid}${writes ? " (writing)" : ""}`).join(", ") || "-",
    ],
  );
  const header = ["LAYER", ...(isNamed ? ["CHECKPOINT", "MADE (UTC)"] : [])];
  yield* renderTable([...header, "FORMAT", "STATE", "ALLOCATED", "AGE", "FITS", "OPEN BY"], rows, view);
  for (const { name, being_written: isWritten } of chain)
    if (isWritten)
      yield `${escapeControls(name)} is being written, and was read without a lock: what is shown may be out of date, and is no verdict\n`;
}

/** The same after a check. */
export async function* renderChecked(parts: readonly PartReport[], view: TableView): AsyncGenerator<string> {
  const rows = parts.map(({ name, format, state, fits, problems }) => [
    name,
    format,
    state ?? "-",
    inWords(fits),
    kindsOfProblems(problems),
  ]);
  yield* renderTable(["LAYER", "FORMAT", "STATE", "FITS", "PROBLEMS"], rows, view);
}

export function partsAsJson(parts: readonly PartReport[]): object {
  return parts.map(({ name, format, state, fits, problems }) => ({
    name,
    format,
    state: state ?? null,
    fits,
    problems: problemsAsJson(problems),
  }));
}

export function chainAsJson(chain: readonly LinkFacts[]): object {
  return chain.map((link) => ({ ...link, problems: problemsAsJson(link.problems) }));
}
