/**
 * Owns what the control socket tells of the parts of one export: which are checkpoints, what each holds, and which other
 * exports of the server are over it. Nothing is opened for it.
 */
import type { OperationContext } from "../context.ts";
import { makeYielder } from "../context.ts";
import type { Storage } from "../device/storage.ts";
import { nameAt } from "../nbd/server/checkpoint-views.ts";
import type { ExportEntry } from "../nbd/server/live-export.ts";
import { filesOf, type StackPart } from "../stack/part.ts";

/** A frozen layer with a name. */
export interface CheckpointDocument {
  readonly name: string;
  /** When it was made, in ISO 8601. */
  readonly time: string;
  readonly note: string | null;
}

/** A checkpoint in the list of exports: it can be read beside its export, as NAME@CHECKPOINT. */
export interface ReadableCheckpointDocument extends CheckpointDocument {
  /** "" where clients cannot connect. */
  readonly uri: string;
  /** Clients that use it. */
  readonly connections: number;
}

/** The base or a layer of an export. */
export interface PartDocument {
  /** As it is written in a stack. */
  readonly part: string;
  /** `written` is the layer that takes writes; `discarded` one without a name, whose writes are gone when it is closed. */
  readonly role: "base" | "layer" | "written" | "discarded";
  readonly checkpoint: CheckpointDocument | null;
  /** Other stack files name it, too. */
  readonly shared: boolean;
  /** Bytes that its files take; null if unknown. */
  readonly held_bytes: number | null;
  /** When it was last changed, in milliseconds since 1970; null if unknown. */
  readonly changed_ms: number | null;
  /** The other exports of this server that have it, and all parts below it, in their stacks. */
  readonly exports: readonly string[];
}

const PACE: OperationContext["pace"] = { everyMs: 2, restMs: 0 };

/** The checkpoints of an export, bottom to top. */
export function checkpointsOf({ spec }: ExportEntry): readonly CheckpointDocument[] {
  return (spec?.layers ?? []).flatMap((part) => checkpointOf(part) ?? []);
}

/** @param urisOf an export by its name */
export function readableCheckpoints(
  entry: ExportEntry,
  urisOf: (name: string) => readonly string[],
): readonly ReadableCheckpointDocument[] {
  const { name, views, served } = entry;
  const readable = new Set(served?.stack.readable.map((each) => each.name));
  return checkpointsOf(entry).map((checkpoint) => ({
    ...checkpoint,
    uri: (readable.has(checkpoint.name) && urisOf(nameAt(name, checkpoint.name))[0]) || "",
    connections: views.countOf(checkpoint.name),
  }));
}

/** Base first. @param all exports of the server, this one among them */
export async function chainOf(
  entry: ExportEntry,
  all: readonly ExportEntry[],
  storage: Storage,
): Promise<readonly PartDocument[]> {
  const { spec, access } = entry;
  if (!spec) return [];
  const yieldToEventLoop = makeYielder(PACE);
  const { parts } = spec;
  const over: string[][] = parts.map(() => []);
  for (const other of all) {
    await yieldToEventLoop();
    if (other === entry || !other.spec) continue;
    const { parts: theirs } = other.spec;
    for (let level = 0; level < parts.length && parts[level]?.path === theirs[level]?.path; level++)
      over[level]?.push(other.name);
  }
  const chain: PartDocument[] = [];
  for (const [level, part] of parts.entries()) {
    await yieldToEventLoop();
    const isWritten = level > 0 && level === spec.layers.length && access === "writable";
    chain.push({
      part: part.text,
      role: level === 0 ? "base" : isWritten ? "written" : "layer",
      checkpoint: checkpointOf(part) ?? null,
      shared: part.listed?.isShared ?? false,
      held_bytes: heldBy(storage, part),
      changed_ms: storage.facts(part.path)?.modifiedMs ?? null,
      exports: over[level] ?? [],
    });
  }
  if (access === "ephemeral") {
    const nothing = { checkpoint: null, shared: false, held_bytes: null, changed_ms: null, exports: [] };
    chain.push({ part: "", role: "discarded", ...nothing });
  }
  return chain;
}

/** Bytes that the files of a part take; null if unknown. */
export function heldBy(storage: Storage, part: StackPart): number | null {
  let bytes = 0;
  for (const file of filesOf(part)) {
    const { kind, allocatedBytes } = storage.facts(file) ?? {};
    if (kind !== "file" || allocatedBytes === undefined) return null;
    bytes += allocatedBytes;
  }
  return bytes;
}

function checkpointOf({ listed }: StackPart): CheckpointDocument | undefined {
  const { checkpoint } = listed ?? {};
  return checkpoint && { name: checkpoint.name, time: checkpoint.time, note: checkpoint.note ?? null };
}
