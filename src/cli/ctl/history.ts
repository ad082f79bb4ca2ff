/**
 * Owns the verbs of `cowtool ctl` for an export's history.
 */
import { CowError } from "../../lib/errors.ts";
import { escapeControls } from "../render/escape.ts";
import { shown } from "./render.ts";
import type { Verb } from "./verb.ts";

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
};

function at(name: string, checkpoint: string): string {
  return `${shown(name)}@${escapeControls(checkpoint)}`;
}

function required(value: string | undefined, what: string): string {
  if (value === undefined) throw new CowError("usage", `it needs ${what}`);
  return value;
}
