/**
 * Owns writing pictures and other text into a file named with -o: whole, or not at all, and never over an input.
 */
import { nodeStorage } from "../lib/device/node-storage.ts";
import { CowError } from "../lib/errors.ts";
import { OpenFiles, refuseSameFile } from "../lib/operations/files.ts";
import { claimName, type Overwrite, refuseOther } from "../lib/output/claim.ts";
import { StackSpec } from "../lib/stack/spec.ts";

/**
 * Makes sure, before any work is done, that a file may be written at `path`.
 *
 * @param stacks what the command reads, as given
 * @throws CowError `usage` for an input or something that is no file; `exists` unless `allowed` says otherwise
 */
export function claimTextFile(path: string, stacks: readonly string[], allowed: Overwrite): void {
  if (path === "") throw new CowError("usage", "--output needs a file name", { file: path });
  const inputs = stacks.flatMap((stack) => StackSpec.parse(nodeStorage, stack).files);
  refuseSameFile(nodeStorage, path, inputs);
  const facts = claimName(nodeStorage, path, allowed);
  if (facts && facts.sizeBytes !== 0 && !allowed.replace?.includes(path) && !isPicture(path))
    throw refuseOther(path, "no picture", "one");
}

function isPicture(path: string): boolean {
  const device = nodeStorage.open(path);
  try {
    const head = new Uint8Array(5);
    device.read(head, 0);
    return /^(<svg|<\?xml)/.test(Buffer.from(head).toString("latin1"));
  } finally {
    device.close();
  }
}

/**
 * Writes a claimed file.
 * @throws CowError `exists` if it appeared meanwhile and may not be replaced; `io`, `permission`, …
 */
export async function writeTextFile(path: string, text: AsyncIterable<string>, allowed: Overwrite): Promise<void> {
  await new OpenFiles({}).write(path, [], allowed, async (device) => {
    let size = 0;
    for await (const piece of text) {
      const bytes = Buffer.from(piece);
      device.write(bytes, size);
      size += bytes.length;
    }
  });
}
