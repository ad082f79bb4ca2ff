/**
 * Owns disks with a history for tests: a base, frozen layers with names, and a written top, named by a stack file. Layers are
 * made by hand, so that the tests need no command that makes checkpoints.
 */
import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import { nodeStorage } from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { makeCowfile, makeImage } from "../nbd/test-server.ts";
import { noise } from "../random.ts";

export const KIB = 1024;
/** Of every disk. */
export const DISK_BYTES = 1 << 20;
/** When a checkpoint was made. */
const TIME = "2026-11-29T12:00:00.000Z";

/** A write of noise: its place and seed. */
export interface Write {
  readonly offset: number;
  readonly length: number;
  readonly seed: number;
}

/** What is written into one layer, and its checkpoint; the last layer of a disk has none. */
export interface LayerHistory {
  readonly writes: readonly Write[];
  readonly checkpoint?: string;
}

export interface MadeDisk {
  /** As a stack is written. */
  readonly stack: string;
  readonly files: readonly string[];
  /** The disk after each layer; the base first. */
  readonly contents: readonly Buffer[];
}

/** Makes `NAME.img`, `NAME-1.cow`, … and `NAME.stack`. */
export async function makeDisk(
  at: (name: string) => string,
  name: string,
  layers: readonly LayerHistory[],
): Promise<MadeDisk> {
  const content = Buffer.from(noise(DISK_BYTES, 1));
  const contents = [Buffer.from(content)];
  const files = [makeImage(at(`${name}.img`), content)];
  for (const [i, { writes }] of layers.entries()) {
    const file = await makeCowfile(files.join(","), at(`${name}-${i + 1}.cow`));
    files.push(file);
    const stack = await ServedStack.open(nodeStorage, files.join(","), { access: "writable" });
    const image = stack.image();
    for (const { offset, length, seed } of writes) {
      const bytes = noise(length, seed);
      image.write(bytes, offset);
      content.set(bytes, offset);
    }
    image.commit();
    image.flush();
    stack.close();
    contents.push(Buffer.from(content));
  }
  const parts = layers.map(({ checkpoint }, i) => ({
    file: basename(files[i + 1] ?? ""),
    ...(checkpoint && { checkpoint: { name: checkpoint, time: TIME } }),
  }));
  const document = { cowtool_stack: 1, base: { file: `${name}.img` }, layers: parts };
  writeFileSync(at(`${name}.stack`), JSON.stringify(document));
  return { stack: `stack:${at(`${name}.stack`)}`, files, contents };
}
