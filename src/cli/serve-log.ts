/**
 * Owns the log of `serve --log`: what happens, on stderr, by level. To the systemd journal it is text with the priority that
 * the journal takes from the beginning of a line; everywhere else it is one JSON object a line.
 */
import { fstatSync } from "node:fs";
import type { Level } from "pino";
import type { EventDocument } from "../lib/control/documents.ts";
import { escapeControls } from "./render/escape.ts";
import type { Terminal } from "./terminal.ts";

export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const STDERR = 2;
/** Those of syslog. */
const PRIORITIES: Readonly<Record<string, number>> = { error: 3, warn: 4, info: 6, debug: 7 };
/** Events that say that something is wrong, or happens all the time. */
const LEVELS: Readonly<Record<string, LogLevel>> = { failed: "error", "space-below": "warn", synced: "debug" };

/** @returns what logs an event */
export async function openLog(
  level: LogLevel,
  { env, writeErr }: Pick<Terminal, "env" | "writeErr">,
): Promise<(event: EventDocument) => void> {
  const { pino } = await import("pino");
  const isJournal = goesToJournal(env["JOURNAL_STREAM"]);
  const write = (line: string): void => writeErr(isJournal ? journalLine(line) : line);
  const formatters = { level: (label: string) => ({ level: label }) };
  const log = pino({ level, base: null, timestamp: false, formatters }, { write });
  return ({ time_ms, message, ...event }) => {
    log[levelOf(event)]({ time: new Date(time_ms).toISOString(), ...event }, message ?? event.type);
  };
}

function levelOf({ type, severity }: Pick<EventDocument, "type" | "severity">): Level {
  if (severity) return severity === "warning" ? "warn" : "info";
  return LEVELS[type] ?? "info";
}

function journalLine(line: string): string {
  const { level, type, name, file, msg } = JSON.parse(line) as Record<string, string | undefined>;
  const about = [...(name === undefined ? [] : [name]), ...(file === undefined ? [] : [file])];
  const text = [...(msg === type ? [type] : [type, ...about, msg]), ...(msg === type ? about : [])].join(": ");
  return `<${PRIORITIES[level ?? "info"]}>${escapeControls(text)}\n`;
}

/** systemd names the device and inode of the stream that it made: stderr may be another one by now. */
function goesToJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  const { dev, ino } = fstatSync(STDERR);
  return stream === `${dev}:${ino}`;
}
