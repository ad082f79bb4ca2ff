/**
 * Owns the rows of the command contract for attach and detach. What they do to devices is in test/lib/attach, and on a real
 * kernel in scripts/test-vm-attach.mjs.
 */
import type { CommandRow } from "./row.ts";

export const attach: CommandRow = {
  runs: [
    { title: "--list", argv: () => ["--list"], readOnly: true },
    { title: "--list, whatever the wait", argv: () => ["--list", "--wait=9"], readOnly: true },
  ],
  inputs: [],
  outputs: [],
  collisions: [],
  names: ["target", "device"],
  needsMore: true,
};

const orphans = { title: "orphans, dry", argv: () => ["--orphans", "-n"], readOnly: true } as const;

export const detach: CommandRow = {
  runs: [orphans, { ...orphans, title: "orphans, dry, by its long name", argv: () => ["--dry-run", "--orphans"] }],
  inputs: [],
  outputs: [],
  collisions: [],
  foretold: [],
  names: ["device"],
  needsMore: true,
};
