/**
 * Proves that what docs/dm-snapshot.md tells of the layout and of damage is what the tables in the source say.
 */
import { expect, it } from "vitest";
import { HEADER_LAYOUT, TUPLE_LAYOUT } from "../../../src/lib/formats/dm-snapshot/layout.ts";
import { STORE_PROBLEMS } from "../../../src/lib/formats/dm-snapshot/problems.ts";
import { readDocument } from "../../support/command/documents.ts";

const page = readDocument("docs/dm-snapshot.md");

/** The rows of the table whose head begins with that cell, without backquotes. */
function rowsOf(firstCell: string): string[][] {
  const lines = page.split("\n");
  const start = lines.findIndex((line) => line.startsWith(`| ${firstCell} |`));
  const end = lines.findIndex((line, index) => index > start && !line.startsWith("|"));
  return lines.slice(start + 2, end).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
}

it.each([
  ["header field", HEADER_LAYOUT],
  ["exception field", TUPLE_LAYOUT],
] as const)("the table of each %s", (firstCell, { fields }) => {
  const expected = fields.map(({ name, offsetBytes, sizeBytes, meaning }) => [
    name,
    `${offsetBytes}/${sizeBytes}`,
    meaning,
  ]);
  expect(rowsOf(firstCell)).toEqual(expected);
});

it("the table of damage", () => {
  const rows = Object.entries(STORE_PROBLEMS).map(([id, spec]) => {
    const { severity, kernel, fix }: { severity: string; kernel: string; fix?: string } = spec;
    return [id, severity, kernel, fix ?? "–"];
  });
  expect(rowsOf("problem")).toEqual(rows);
});
