/**
 * Owns a storage on which operations fail as the system would have them fail, by a judge's word; see stepped-storage.ts.
 */
import { atByte, systemError } from "../../../src/lib/errors.ts";
import type { Storage } from "../../../src/lib/index.ts";
import { type Step, type StepKind, SteppedStorage } from "./stepped-storage.ts";

export interface Fault {
  readonly errno: "EIO" | "ENOSPC" | "EDQUOT" | "EFBIG" | "EMFILE";
  /** Of a write: how many of its bytes get there before it fails. */
  readonly doneBytes?: number;
}

/** What becomes of an operation; operations are numbered from 0. */
export type Judge = (operation: Step, index: number) => Fault | undefined;

/** Operations that a full disk can make fail. */
export const TAKES_SPACE: ReadonlySet<StepKind> = new Set(["create", "make", "scratch", "write", "resize", "commit"]);

/** Waits without letting anything else run, as a device call does that takes its time. */
export function stall(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** What nodeStorage says about a failed operation, so that tests see what people would. */
function failure({ kind, path, offset }: Step, errno: string): Error {
  const doing: Partial<Record<StepKind, string>> = {
    facts: "cannot look at it",
    open: "cannot open",
    create: "cannot create",
    make: "cannot create",
    scratch: "cannot create",
    commit: "cannot create",
    read: `cannot read at ${atByte(offset)}`,
    write: `cannot write at ${atByte(offset)}`,
    extents: "cannot look for data",
    punch: "cannot punch a hole",
    resize: "cannot set the size",
    flush: "cannot make what was written durable (fdatasync)",
    "sync-name": "cannot make the directory durable (fsync)",
    remove: "cannot remove",
    rename: "cannot rename",
    "read-small": "cannot read",
  };
  const error = Object.assign(new Error(`injected ${errno}`), { code: errno });
  return systemError(error, path, doing[kind] ?? kind, kind === "read" || kind === "write" ? { offset } : {});
}

export class FaultyStorage extends SteppedStorage {
  constructor(inner: Storage, judge: Judge) {
    super(inner, {
      before(step, index) {
        const fault = judge(step, index);
        return fault && { error: failure(step, fault.errno), doneBytes: fault.doneBytes ?? 0 };
      },
    });
  }
}
