/**
 * Owns how attached devices are shown to people.
 */
import { roundedSize } from "../../lib/bytes/size.ts";
import type { DetachResult } from "../../lib/operations/attach/detach.ts";
import type { AttachedDevice } from "../../lib/operations/attach/kernel-devices.ts";
import { escapeControls } from "./escape.ts";
import { renderTable, type TableView } from "./table.ts";

export async function* renderAttached(devices: readonly AttachedDevice[], view: TableView): AsyncGenerator<string> {
  if (devices.length === 0) {
    yield "no device is attached\n";
    return;
  }
  const rows = devices.map(({ device, state, virtual_size, read_only, pid, in_use, uri }) => [
    device,
    state,
    `${roundedSize(virtual_size)}${read_only ? ", read-only" : ""}`,
    pid === null ? "-" : `pid ${pid}`,
    in_use ?? "-",
    uri ?? "another program did not say",
  ]);
  yield* renderTable(["DEVICE", "STATE", "SIZE", "KEPT BY", "IN USE", "EXPORT"], rows, view);
  for (const { device, state } of devices)
    if (state === "orphan") yield `${device} is an orphan: when its server restarts, it gets no new connection\n`;
}

export function* detachSummary({ detached, left, dry_run }: DetachResult): Generator<string> {
  for (const { device } of detached) yield `${device}: ${dry_run ? "would be detached (--dry-run)" : "detached"}\n`;
  for (const { device, in_use } of left) yield `${device}: stays attached: it ${escapeControls(in_use ?? "")}\n`;
  if (detached.length + left.length === 0) yield "no device is an orphan\n";
}
