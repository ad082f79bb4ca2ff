/**
 * Owns how `ctl show` draws the chain of an export: a tree with the base as its root, the parts of this export one over the
 * other, and other exports of the server where they branch off.
 */
import { roundedSize } from "../../lib/bytes/size.ts";
import type { PartDocument, ShownDocument } from "../../lib/control/documents.ts";
import { age } from "../render/chain-report.ts";
import { renderKeyValue } from "../render/key-value.ts";
import { type Row, renderTable, type TableView } from "../render/table.ts";
import { shownRows } from "./render.ts";

/** A deeper chain goes on in this column: a line has an end. */
const INDENTED_AT_MOST = 8;
/** Exports that are named in one line. */
const NAMED_AT_MOST = 4;

/** One export for people: its facts, then its chain. */
export async function* renderShown(shown: ShownDocument, view: TableView): AsyncGenerator<string> {
  yield renderKeyValue(shownRows(shown));
  yield* renderChain(shown.chain, view);
}

function renderChain(chain: readonly PartDocument[], view: TableView): AsyncGenerator<string> {
  const rows = chain.flatMap((part, level): Row[] => {
    const above = chain[level + 1]?.exports ?? [];
    const branching = part.exports.filter((name) => !above.includes(name));
    const { checkpoint, held_bytes: held, changed_ms: changed, role } = part;
    const when = checkpoint?.time ?? (changed === null ? null : new Date(changed).toISOString());
    return [
      [
        `${branch(level, "└─ ")}${nameOf(part)}`,
        checkpoint?.name ?? "-",
        role === "layer" ? (part.shared ? "shared" : "frozen") : role,
        held === null ? "-" : roundedSize(held),
        age(when),
        checkpoint?.note ?? "",
      ],
      ...(branching.length > 0
        ? [[`${branch(level + 1, "├─ ")}${listOf(branching)}`, "-", "export", "-", "-", ""]]
        : []),
    ];
  });
  return renderTable(["CHAIN", "CHECKPOINT", "ROLE", "HELD", "AGE", "NOTE"], rows, view);
}

/** No-break spaces: a table takes others away. */
function branch(level: number, sign: string): string {
  return level === 0
    ? ""
    : `${"\u00a0\u00a0\u00a0".repeat(Math.min(level - 1, INDENTED_AT_MOST))}${sign.replace(" ", "\u00a0")}`;
}

function nameOf({ part, role }: PartDocument): string {
  return role === "discarded" ? "(writes that are discarded)" : part.slice(part.lastIndexOf("/") + 1);
}

function listOf(names: readonly string[]): string {
  const named = names.slice(0, NAMED_AT_MOST).map((name) => (name === "" ? "(default)" : name));
  const rest = names.length - named.length;
  return `${named.join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`;
}
