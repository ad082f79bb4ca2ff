/**
 * Owns a base in memory with a cowfile over it and the note of it, as tests change them.
 */
import {
  type BaseReport,
  create,
  type FileFacts,
  MemoryStorage,
  type Notice,
  type OperationContext,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { noise } from "../random.ts";

export const KIB = 1024;
const BLOCKS = 256;
export const NOTE = "cow.cowtool-base";
export const BASE = noise(BLOCKS * KIB, 1);

/** Blocks 40 to 47 are whole chunks of the note, block 81 is a part of one. */
export const CHANGED = Uint8Array.from(BASE);
CHANGED.set(noise(8 * KIB, 2), 40 * KIB);
CHANGED.set(noise(KIB, 3), 81 * KIB);

/** A storage in memory whose files have times, as far as a test says so. */
export class TimedStorage extends MemoryStorage {
  readonly times = new Map<string, number>();

  override facts(path: string): FileFacts | undefined {
    const facts = super.facts(path);
    const ns = this.times.get(path);
    if (!facts || ns === undefined) return facts;
    const time = `${ns}000000007`;
    return { ...facts, stamp: { modifiedNs: time, changedNs: time, inode: "7", bornNs: "0" } };
  }
}

export async function start<Kind extends MemoryStorage>(storage: Kind): Promise<Kind> {
  storage.put("base", BASE);
  storage.put("changed", CHANGED);
  await create("base", "cow", { from: "changed" }, { storage });
  return storage;
}

export function poke(storage: MemoryStorage, block: number, path = "base"): void {
  const bytes = storage.content(path);
  bytes?.write(Uint8Array.of((bytes.toBytes()[block * KIB + 500] ?? 0) ^ 1), block * KIB + 500);
}

export async function report(storage: MemoryStorage, base = "base", full = false): Promise<BaseReport> {
  return (await verifyFingerprint(base, "cow", { full }, { storage })).identity;
}

export function chunk(block: number, hidden: string): object {
  return { offset: Math.floor(block / 4) * 4 * KIB, length: 4 * KIB, hidden };
}

/** A context that keeps what the user is told. */
export function listening(storage: MemoryStorage): OperationContext & { readonly notices: Notice[] } {
  const notices: Notice[] = [];
  return { storage, notices, onNotice: (notice) => void notices.push(notice) };
}
