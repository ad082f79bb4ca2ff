/**
 * Owns what `info` tells of a stack: its parts one by one, and what the whole image is.
 */
import type { OperationContext } from "../context.ts";
import { makeYielder } from "../context.ts";
import { describeProcess, lockUses } from "../device/sys/process-info.ts";
import type { CowError } from "../errors.ts";
import type { Fact, ImageFacts, Layer, Problem } from "../formats/format.ts";
import { allocatedBy } from "../formats/layered-image.ts";
import { describeContent } from "../formats/raw/describe.ts";
import type { StackSpec } from "../stack/spec.ts";
import { asProblem, type Link, openChain, pendingMergeOf } from "./chain.ts";
import { notesOfServer, type OpenFiles } from "./files.ts";

/** A part of a stack as `info` shows it. */
export interface LinkFacts {
  readonly name: string;
  readonly format: string;
  readonly state: "clean" | "dirty" | null;
  readonly virtual_size: number | null;
  /** Bytes of the image that it has allocated; of a base, the space that its file takes. */
  readonly allocated: number | null;
  readonly file_size: number;
  /** When its content was last changed, in ISO 8601. */
  readonly modified: string | null;
  /** Does it belong to what is below it? Null where nothing tells, and for the base. */
  readonly fits: boolean | null;
  /** Other stack files name it, too, as its stack file says. */
  readonly shared: boolean;
  /** The checkpoint that it is, as its stack file says. */
  readonly checkpoint: { readonly name: string; readonly time: string; readonly note: string | null } | null;
  /** Another process is writing it: read without a lock, so `state` and `fits` are null, and it was not judged. */
  readonly being_written: boolean;
  readonly open_by: readonly { readonly pid: number; readonly command: string; readonly writes: boolean }[];
  readonly problems: readonly Problem[];
}

export interface ChainInfo {
  readonly facts: ImageFacts & { readonly file: string; readonly file_size: number; readonly allocated_size: number };
  readonly chain: readonly LinkFacts[];
  readonly problems: readonly Problem[];
  /** What all layers have allocated; undefined where one cannot be read. */
  readonly layer: Pick<Layer, "virtualSizeBytes" | "extents"> | undefined;
}

/** @throws CowError as openChain */
export async function describeChain(files: OpenFiles, spec: StackSpec, context: OperationContext): Promise<ChainInfo> {
  const links = await openChain(files, spec, "if-free", context);
  const uses = usesOf(files, links);
  const chain: LinkFacts[] = [];
  let isMoving = false;
  for (const [i, link] of links.entries()) {
    const ownUses = uses.filter(({ file }) => file === i).map(({ pid, command, writes }) => ({ pid, command, writes }));
    isMoving ||= link.isBeingWritten;
    chain.push({ ...(await factsOf(files, link, isMoving, context)), open_by: ownUses });
  }
  const pending = pendingMergeOf(files.storage, spec);
  const device = links.at(-1)?.device;
  const layers = links.flatMap(({ layer }) => layer ?? []);
  const sum = (pick: (link: Link) => number | undefined): number =>
    links.reduce((all, link) => all + (pick(link) ?? 0), 0);
  return {
    facts: {
      file: spec.text,
      format: "stack",
      virtual_size: device?.sizeBytes ?? null,
      ...(device && describeContent(device)),
      ...(pending && { pending_merge: pendingFact(pending) }),
      file_size: sum(({ opened }) => opened.file.sizeBytes),
      allocated_size: sum(({ opened }) => files.storage.facts(opened.part.path)?.allocatedBytes),
    },
    chain,
    problems: [...(pending ? [asProblem(pending)] : []), ...chain.flatMap(({ problems }) => problems)],
    layer: device && {
      virtualSizeBytes: device.sizeBytes,
      extents: (from, to) => allocatedBy(layers, from, to),
    },
  };
}

/** @param isMoving it or a part below it is being written, so that it cannot be told whether it fits */
async function factsOf(
  files: OpenFiles,
  link: Link,
  isMoving: boolean,
  context: OperationContext,
): Promise<Omit<LinkFacts, "open_by">> {
  const { opened, format, below, layer, error, isBeingWritten } = link;
  const { file, part } = opened;
  const checkpoint = part.listed?.checkpoint;
  const facts = files.storage.facts(part.path);
  const hooks = {
    ...opened.options,
    ...notesOfServer(files, part.path),
    backing: below?.device,
    signal: context.signal,
  };
  const described = format && !error && !isBeingWritten ? await format.describe(file, hooks) : undefined;
  const judged = format && below && !isMoving ? await format.judgeBase(file, below.device, hooks) : [];
  const state = described?.facts["state"];
  const says = below && layer && !isMoving && (layer.base.blocks !== undefined || layer.base.fingerprint !== undefined);
  return {
    name: part.text,
    format: format?.id ?? (error ? "unknown" : "raw"),
    state: state === "clean" || state === "dirty" ? state : null,
    virtual_size: link.layer?.virtualSizeBytes ?? link.device?.sizeBytes ?? null,
    allocated: layer ? await allocatedIn(layer) : (facts?.allocatedBytes ?? null),
    file_size: file.sizeBytes,
    modified: facts?.modifiedMs === undefined ? null : new Date(facts.modifiedMs).toISOString(),
    fits: judged.length > 0 ? false : says ? true : null,
    checkpoint: checkpoint ? { name: checkpoint.name, time: checkpoint.time, note: checkpoint.note ?? null } : null,
    shared: part.listed?.isShared ?? false,
    being_written: isBeingWritten,
    problems: [
      ...(error ? [isBeingWritten ? inDoubt(error) : asProblem(error)] : []),
      ...judged,
      ...(described?.problems ?? []),
    ],
  };
}

/** What could not be read while it changed may be sound. */
function inDoubt(error: CowError): Problem {
  const { message, ...problem } = asProblem(error);
  return { ...problem, severity: "warning", message: `${message} (read while it is being written: no verdict)` };
}

async function allocatedIn(layer: Layer): Promise<number> {
  const yieldToEventLoop = makeYielder();
  let bytes = 0;
  for (const { length } of layer.extents(0, layer.virtualSizeBytes)) {
    bytes += length;
    await yieldToEventLoop();
  }
  return bytes;
}

function usesOf(files: OpenFiles, links: readonly Link[]) {
  const places = links.map(({ opened }) => /^(\d+):(\d+)$/.exec(files.storage.facts(opened.part.path)?.identity ?? ""));
  const wanted = places.map((match) => ({ device: Number(match?.[1] ?? -1), inode: BigInt(match?.[2] ?? 0) }));
  return lockUses(wanted)
    .filter(({ pid }) => pid !== process.pid)
    .map((use) => ({ ...use, command: describeProcess(use.pid) }));
}

/** @param error `pending-merge`, or `damaged` for a merge journal that cannot be read */
export function pendingFact({ message, details, hints }: ReturnType<typeof pendingMergeOf> & object): Fact {
  const { journal = null, cowfile = null } = details;
  return { message, journal, cowfile, ways: hints };
}
