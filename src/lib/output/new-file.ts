/**
 * Owns the making of a new file: created, written, committed, and abandoned if anything fails.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";

export interface NewFile {
  /** Its inputs: it is open to no more users than these. */
  readonly inputs?: readonly string[];
  readonly replace: boolean;
  readonly onNotice?: OperationContext["onNotice"];
}

/**
 * Makes a file that appears whole once `fill` has ended, durable and under its name, or not at all.
 * @throws CowError `exists` if the name is taken and `replace` is false; `io`, `no-space`; what `fill` throws
 */
export async function withNewFile<Result>(
  storage: Storage,
  path: string,
  { replace, ...options }: NewFile,
  fill: (device: BlockDevice) => Promise<Result>,
): Promise<Result> {
  const pending = storage.create(path, options);
  try {
    const result = await fill(pending.device);
    pending.commit({ replace });
    return result;
  } finally {
    pending.abandon();
  }
}
