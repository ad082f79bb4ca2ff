/**
 * Owns the images that other people's clients are shown: bases with known contents and holes, and what cowtool itself
 * says of a stack once the clients have gone.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { run } from "../command/harness.ts";

export const MIB = 1 << 20;

/** A base: `dataBytes` without a single zero, then a hole up to `sizeBytes`. */
export function makeBase(path: string, dataBytes: number, sizeBytes = dataBytes): string {
  const piece = Buffer.alloc(Math.min(MIB, dataBytes));
  const fd = openSync(path, "w");
  try {
    for (let at = 0; at < dataBytes; at += piece.length) {
      for (let i = 0; i + 4 <= piece.length; i += 4) {
        piece.writeInt32LE(Math.imul(at + i + 4, 0x9e37_79b1) | 0x0101_0101, i);
      }
      writeSync(fd, piece, 0, Math.min(piece.length, dataBytes - at), at);
    }
    ftruncateSync(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
  return path;
}

/** Runs a command of ours in this process, which must succeed; returns what it printed. */
export async function cowtool(name: string, ...argv: readonly string[]): Promise<string> {
  const { stdout, stderr, status } = await run(name, argv);
  if (status !== 0) throw new Error(`cowtool ${[name, ...argv].join(" ")} ended with ${status}:\n${stderr}`);
  return stdout;
}

/** Is a cowfile whole and marked clean, as `check` and `info` see it? */
export async function isClean(rdofile: string, cowfile: string): Promise<boolean> {
  const { status } = await run("check", [cowfile, "--rdofile", rdofile]);
  const info = JSON.parse(await cowtool("info", "--json", cowfile)) as { readonly state?: string };
  return status === 0 && info.state === "clean";
}
