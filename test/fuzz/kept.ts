/**
 * Owns the inputs that are kept in test/corpus/fuzz: a file a target, a line an input, deflated (they are mostly zeros) and
 * in base64.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { deflateRawSync, inflateRawSync } from "node:zlib";

const fileOf = (target: string): string => fileURLToPath(new URL(`../corpus/fuzz/${target}.txt`, import.meta.url));

export function kept(target: string): Uint8Array[] {
  const file = fileOf(target);
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => inflateRawSync(Buffer.from(line, "base64")));
}

export function encodeInput(input: Uint8Array): string {
  return deflateRawSync(input, { level: 9 }).toString("base64");
}

export function keep(target: string, inputs: readonly Uint8Array[]): void {
  const lines = [...new Set(inputs.map(encodeInput))].sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  writeFileSync(fileOf(target), `${lines.join("\n")}\n`);
}
