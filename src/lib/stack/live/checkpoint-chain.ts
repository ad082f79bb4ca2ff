/**
 * Owns the steps of a checkpoint of running stacks, for all of them at one instant, and what is on disk when:
 *
 *   begun     each stack file says which checkpoint is pending, and the new top's file; that is whole, durable and empty
 *   prepared  old tops are flushed, so that little is left; new tops are open; new stack files wait for their name
 *   instant   gates shut; the first stack file gets its name, which decides for all; parts switched; gates open
 *   named     that name is made durable, and the other stack files get theirs. Until then flushes wait
 *   settled   each old top: durable in its place, marked clean, journal removed; then one of the shared lower layers
 *
 * Killed before the instant, the pending checkpoint is void; after it, all stack files have it: those that still say pending
 * name the one that decides. docs/internals/checkpoints.md has the states.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { CowfileWriter } from "../../formats/cowfile/writer.ts";
import { begun, committed, committedFor, requireFreeName, withdrawn } from "../chain.ts";
import { STACK_FILE } from "../part.ts";
import { StackSpec } from "../spec.ts";
import type { Pending } from "../stack-document.ts";
import { type HeldStackFile, type PreparedStackFile, partsOf } from "../stack-file.ts";
import { checkpointLevels } from "./checkpoint-level.ts";
import { FrozenTop } from "./frozen-top.ts";
import { JournalFile } from "./journal-file.ts";
import type { StackParts } from "./stack-parts.ts";
import { exchangeParts, type PartsSwitch, switchParts } from "./switch-parts.ts";
import type { Top } from "./top.ts";

/**
 * How long a checkpoint waits for its old top's data before the instant: a write that waits for the disk while that is flushed would hold
 * up the others. What is not durable by then is flushed afterwards.
 */
const FLUSH_MS = 2000;

/** A stack of which a checkpoint is made. */
export interface Member extends Omit<PartsSwitch, "next"> {
  readonly storage: Storage;
  /** The file of the new top. */
  readonly newTop: string;
}

/** A member between begun and named. */
interface Under {
  readonly member: Member;
  readonly held: HeldStackFile;
  readonly old: StackParts & { readonly top: Top };
  isMade?: boolean;
  top?: Top;
  prepared?: PreparedStackFile;
  next?: StackParts;
}

/**
 * Makes a checkpoint of all members at one instant. Then every old top is settled in the background: see ServedStack.settling.
 *
 * @returns how long clients were kept waiting, in milliseconds
 * @throws CowError `unsuitable` for a stack without a stack file, or with a top that is no cowfile; `exists` for a name that is taken;
 *   `locked`, `no-space`, `io`: no checkpoint is made then. `io` with `details.made` if one is, and that could not be made durable
 */
export async function checkpointStacks(
  members: readonly [Member, ...Member[]],
  checkpoint: Pending["checkpoint"],
  context: Pick<OperationContext, "onNotice"> = {},
): Promise<number> {
  for (const { stack } of members) await stack.settling;
  const all: readonly Under[] = members.map((member) => ({ member, ...requireSuitable(member, checkpoint.name) }));
  const begunOnes: Under[] = [];
  let pauseMs: number;
  try {
    for (const under of all) {
      begunOnes.push(under);
      begin(under, checkpoint, all[0] === under ? undefined : all[0]?.held);
    }
    for (const under of all) await prepare(under, under === all[0] ? all.slice(1) : []);
    pauseMs = await switchParts(all.map(switchOf), () => {
      for (const { old } of all) requireSound(old.top);
      all[0]?.prepared?.commit();
    });
  } catch (error) {
    for (const under of begunOnes) undo(under);
    throw error;
  }
  try {
    nameAll(all, checkpoint.name, context);
  } finally {
    for (const under of all)
      under.member.stack.settling = settle(under.member).catch((error: unknown) => {
        if (!(error instanceof CowError)) throw error;
        const message = `${error.message}: it is settled when it is opened next`;
        context.onNotice?.({ severity: "warning", file: error.file ?? under.member.stack.name, message });
      });
  }
  return pauseMs;
}

function requireSuitable({ stack }: Member, name: string): Pick<Under, "held" | "old"> {
  const { held, parts } = stack;
  const { top } = parts;
  if (!held || !top)
    throw new CowError("unsuitable", "has no stack file that this server writes: it has no checkpoints", {
      file: stack.name,
      hints: ["`cowtool create --stack NAME.stack` makes one, and stack:NAME.stack is what is served"],
    });
  if (!top.settle || !top.finish || !top.shared)
    throw new CowError("unsuitable", "is no cowfile: only those are frozen while they are served", {
      file: top.device.name,
      hints: ["put a cowfile over it: `cowtool create STACK NEW.cow --stack NAME.stack`"],
    });
  if (parts.frozen)
    throw new CowError("unsuitable", "is not settled since the last checkpoint: serve its stack anew", {
      file: parts.frozen.top.device.name,
    });
  // Of a checkpoint of several: only its rename was missing.
  if (held.document.pending) held.replace(committed(held.document));
  requireFreeName(held.document, name, held.name);
  return { held, old: { ...parts, top } };
}

function begin(under: Under, checkpoint: Pending["checkpoint"], decider: HeldStackFile | undefined): void {
  const { member, held, old } = under;
  const { storage, newTop } = member;
  const from = path.dirname(held.path);
  const decided_by = decider && { decided_by: nameFrom(from, decider.path) };
  const pending: Pending = { checkpoint, file: nameFrom(from, newTop), ...decided_by };
  held.replace(begun(held.document, pending));
  // Only now: a file that no stack file names would stay for ever.
  makeTop(storage, old.top, newTop);
  under.isMade = true;
}

export function nameFrom(directory: string, file: string): string {
  return path.relative(path.resolve(directory), path.resolve(file));
}

/**
 * An empty cowfile for the machine that the present top is for, whole and durable.
 * @param fingerprint of what it is over; default: that changes until the instant, and it is put in afterwards
 */
export function makeTop(storage: Storage, { device }: Pick<Top, "device">, file: string, fingerprint = 0): void {
  const { head, geometry } = new CowfileLayer(device, { allowDirty: true }).opened;
  const pending = storage.create(file, { inputs: [device.name] });
  try {
    new CowfileWriter(pending.device, { abi: head.abi, rdoBlocks: geometry.rdoBlocks, fingerprint }).finish();
    pending.commit({ replace: false });
  } catch (error) {
    pending.abandon();
    throw error;
  }
}

/** Does what takes long before connections wait for it. */
async function prepare(under: Under, members: readonly Under[]): Promise<void> {
  const { member, held, old } = under;
  const { stack, newTop } = member;
  await old.top.flushAhead?.(FLUSH_MS);
  const top = stack.openNext(newTop);
  under.top = top;
  const names = members.map((each) => nameFrom(path.dirname(held.path), each.held.path));
  const document = committedFor(held.document, names);
  under.prepared = held.prepare(document);
  const { shared } = old.top;
  if (!shared) throw new Error("a top that threads can have");
  const frozen = { layer: new FrozenTop(shared, FrozenTop.newMemory()), top: old.top };
  const checkpoints = checkpointLevels(new StackSpec(partsOf({ name: held.name, path: held.path, document })));
  under.next = { ...old, frozen, top, checkpoints };
}

function switchOf({ member, next }: Under): PartsSwitch {
  if (!next) throw new Error("prepared");
  return { ...member, next };
}

function requireSound({ isSound, device }: Top): void {
  if (isSound === false)
    throw new CowError("io", "an earlier write or fsync failed: no checkpoint is made of what may not be on disk", {
      file: device.name,
    });
}

/** Nothing of the checkpoint stays. The first failure is the one to tell. */
function undo({ member: { storage, newTop }, held, isMade, top, prepared }: Under): void {
  try {
    prepared?.abandon();
    top?.abandon();
    if (isMade) {
      const journal = new JournalFile(storage, newTop);
      journal.find();
      journal.remove();
      journal.close();
      storage.remove(newTop);
    }
    if (held.document.pending) held.replace(withdrawn(held.document));
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
  }
}

/**
 * The first stack file's name is made durable, and the others get theirs. It is decided by then: one that cannot be written now is
 * written down by its next holder, from what the first one says.
 *
 * @throws CowError `io` if the first one's name is not known to be durable
 */
function nameAll(all: readonly Under[], name: string, { onNotice }: Pick<OperationContext, "onNotice">): void {
  const [first, ...others] = all;
  const frozen = all.flatMap(({ next }) => next?.frozen?.layer ?? []);
  const sync = frozen.reduceRight<() => void>(
    (work, layer) => () => layer.named(work),
    () => first?.prepared?.sync(),
  );
  try {
    sync();
  } catch (error) {
    for (const { prepared } of others) prepared?.abandon();
    if (!(error instanceof CowError)) throw error;
    const { code, message, details, hints } = error;
    const what = `checkpoint "${name}" was made, but may be gone after a power cut: ${message}`;
    throw new CowError(code, what, {
      file: first?.held.name,
      details: { ...details, made: true },
      hints,
      cause: error,
    });
  }
  let areNamed = true;
  for (const { prepared, held } of others) {
    try {
      prepared?.commit();
      prepared?.sync();
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
      prepared?.abandon();
      areNamed = false;
      const message = `checkpoint "${name}" was made, but it does not say so yet: ${error.message}`;
      onNotice?.({ severity: "warning", file: held.name, message });
    }
  }
  if (others.length > 0 && areNamed) first?.held.settleDecided();
}

/** Has the old top become one of the lower layers. @throws CowError `io`: it stays dirty, and as it is */
async function settle(member: Member): Promise<void> {
  const { stack } = member;
  const { frozen } = stack.parts;
  const { held } = stack;
  if (!frozen || !held) return;
  // In the background, until little is left.
  await frozen.top.flushAhead?.();
  await stack.gate.flushed(stack.gate.epoch);
  frozen.layer.settle(() => frozen.top.settle?.());
  // The layers are those that the stack file says.
  if (held.document.pending) held.replace(committed(held.document));
  frozen.top.finish?.();
  const lower = await stack.acquire(new StackSpec(partsOf(held), `${STACK_FILE}:${held.name}`).below);
  const old = stack.parts;
  old.top?.nameBase?.(await lower.fingerprint(lower.stack.device.sizeBytes / BLOCK_BYTES));
  exchangeParts({ ...member, next: { ...old, lower, frozen: undefined } });
  stack.retire(old);
}
