/**
 * Proves what a merge in place decides, for every combination of what it can find: each is in exactly one row of a table.
 * Also that what costs reading is asked only where the answer counts.
 */
import { describe, expect, test } from "vitest";
import {
  decide,
  decideUndo,
  type Facts,
  type State,
  type UndoFacts,
} from "../../../src/lib/operations/merge/decide.ts";

type Answer = "yes" | "no";
const ANSWERS: readonly Answer[] = ["yes", "no"];
const JOURNALS: readonly Facts["journal"][] = ["none", "ours", "undo", "other"];

/** What a row says of a fact: one of these values; without any it says nothing. */
interface Row {
  readonly journal: readonly Facts["journal"][];
  readonly explained?: Answer;
  readonly force?: Answer;
  readonly matches?: Answer;
  readonly blocks?: Answer;
  readonly holdsAll?: Answer;
  readonly state: State;
  /** What has to be read to know it. */
  readonly reads: string;
}

const NEW = [
  { blocks: "yes", holdsAll: "yes", state: "complete", reads: "matches holdsAll" },
  { matches: "yes", blocks: "no", state: "fresh", reads: "matches" },
  { matches: "yes", blocks: "yes", holdsAll: "no", state: "fresh", reads: "matches holdsAll" },
  { matches: "no", blocks: "no", force: "yes", state: "insist", reads: "matches" },
  { matches: "no", blocks: "yes", holdsAll: "no", force: "yes", state: "insist", reads: "matches holdsAll" },
  { matches: "no", blocks: "no", force: "no", state: "refuse-wrong-base", reads: "matches" },
  { matches: "no", blocks: "yes", holdsAll: "no", force: "no", state: "refuse-wrong-base", reads: "matches holdsAll" },
] as const;

const ROWS: readonly Row[] = [
  { journal: ["undo"], state: "take-back", reads: "" },
  { journal: ["other"], force: "no", state: "refuse-pending", reads: "" },
  { journal: ["ours"], explained: "yes", state: "resume", reads: "explained" },
  ...NEW.map((row): Row => ({ ...row, journal: ["none"] })),
  ...NEW.map((row): Row => ({ ...row, journal: ["ours"], explained: "no", reads: `explained ${row.reads}` })),
  ...NEW.filter((row) => !("force" in row) || row.force === "yes").map(
    (row): Row => ({ ...row, journal: ["other"], force: "yes" }),
  ),
];

test("every combination of facts is decided as exactly one row says", async () => {
  let count = 0;
  for (const journal of JOURNALS)
    for (const bits of Array.from({ length: 32 }, (_, i) => i)) {
      const [force, explained, matches, blocks, holdsAll] = [1, 2, 4, 8, 16].map((bit) => (bits & bit ? "yes" : "no"));
      const facts = { force, explained, matches, blocks, holdsAll };
      const rows = ROWS.filter(
        (row) =>
          row.journal.includes(journal) &&
          Object.entries(facts).every(([name, value]) => [undefined, value].includes(row[name as keyof typeof facts])),
      );
      const said = `${journal} ${JSON.stringify(facts)}`;
      expect(rows, said).toHaveLength(1);
      const reads: string[] = [];
      const ask = (name: keyof typeof facts) => async () => {
        reads.push(name);
        return facts[name] === "yes";
      };
      const state = await decide({
        journal,
        force: force === "yes",
        blocks: blocks === "yes" ? 3 : 0,
        explained: ask("explained"),
        matches: ask("matches"),
        holdsAll: ask("holdsAll"),
      });
      expect([state, reads.join(" ")], said).toEqual([rows[0]?.state, rows[0]?.reads]);
      count++;
    }
  expect(count).toBe(JOURNALS.length * ANSWERS.length ** 5);
});

describe("which undo file a merge has", () => {
  const U = "/undo";
  const none: UndoFacts["journal"] = undefined;
  const says = (undo: string | null, saved: boolean): UndoFacts["journal"] => ({ undo, undo_saved: saved });
  const keep = (path: string | null) => ({ path, make: false });
  const make = (replace: boolean) => ({ path: U, make: true, replace });
  const late = ["too-late", "too-late", "too-late"];

  /** For nothing, the very undo file, anything else at its name; and for no undo file asked for. */
  const TABLE: readonly (readonly [UndoFacts["journal"], asked: readonly unknown[], notAsked: unknown])[] = [
    [none, [make(false), "exists", "exists"], keep(null)],
    [says(null, false), late, keep(null)],
    [says("/other", false), late, keep(null)],
    [says("/other", true), late, keep("/other")],
    [says(U, false), [make(false), make(true), "exists"], keep(null)],
    [says(U, true), ["not-the-saved-one", keep(U), "not-the-saved-one"], keep(U)],
  ];

  test.each(TABLE)("where the journal says %j", (journal, asked, notAsked) => {
    const THERE = ["nothing", "same", "other"] as const;
    expect(THERE.map((there) => decideUndo({ asked: U, there, journal }))).toEqual(asked);
    for (const there of THERE) expect(decideUndo({ asked: undefined, there, journal })).toEqual(notAsked);
  });
});
