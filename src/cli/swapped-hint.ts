/**
 * Owns the hint for a base and a layer in the wrong order, `merge vm1.cow golden.img`. Must only be asked once something has
 * failed: what a file is says nothing as long as the command takes it.
 */
import { nodeStorage } from "../lib/device/node-storage.ts";
import { CowError, shellWord } from "../lib/errors.ts";
import { detectFormat } from "../lib/formats/registry.ts";

/** What a file is called, and whether it is a layer; undefined where that cannot be told. */
function kindOf(file: string): { readonly title: string; readonly isLayer: boolean } | undefined {
  try {
    const kind = nodeStorage.facts(file)?.kind;
    if (kind !== "file" && kind !== "block") return undefined;
    const device = nodeStorage.open(file);
    try {
      const format = detectFormat(device);
      return {
        title: format ? `a ${format.title}` : "a raw image",
        isLayer: format !== undefined && !format.isOnDisk,
      };
    } finally {
      device.close();
    }
  } catch (error) {
    if (error instanceof CowError) return undefined;
    throw error;
  }
}

/** @param files the positionals of a command that takes a base and then the layer to make */
export function newSwappedHints(command: string, [first, second]: readonly string[]): readonly string[] {
  if (first === undefined || second === undefined || kindOf(first) !== undefined) return [];
  const base = kindOf(second);
  if (!base || base.isLayer) return [];
  const words = [second, first].map(shellWord).join(" ");
  return [`${second} is ${base.title}, and the base comes first: did you mean \`${command} ${words}\`?`];
}

/** @param files the positionals of a command that takes a base and then a layer */
export function swappedHints(command: string, files: readonly string[]): readonly string[] {
  const [first, second, ...more] = files;
  if (first === undefined || second === undefined) return [];
  const [above, base] = [kindOf(first), kindOf(second)];
  if (!above?.isLayer || !base || base.isLayer) return [];
  const words = [second, first, ...more].map(shellWord).join(" ");
  return [`${second} is ${base.title}, ${first} ${above.title}: did you mean \`${command} ${words}\`?`];
}
