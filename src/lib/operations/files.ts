/**
 * Owns opening and closing the files of an operation, and refusing outputs that are inputs.
 */

import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { nodeStorage } from "../device/node-storage.ts";
import type { FileFacts, OpenOptions, Storage } from "../device/storage.ts";
import { bootId } from "../device/sys/boot.ts";
import { overlap, type Place } from "../device/sys/underlying.ts";
import { CowError } from "../errors.ts";
import type { CheckOptions } from "../formats/format.ts";
import { refusePendingMerge } from "../notes/journal-places.ts";
import { mayReplace, type Overwrite } from "../output/claim.ts";
import { openStack, type Stack } from "../stack/open.ts";
import { type OpenPart, openPart } from "../stack/open-part.ts";
import type { StackPart } from "../stack/part.ts";
import { StackSpec } from "../stack/spec.ts";

export function storageOf(context: OperationContext): Storage {
  return context.storage ?? nodeStorage;
}

/** How a file is opened that is changed in place. A dry run refuses what the real run would refuse. */
export function howToOpen({
  dryRun = false,
  force = false,
}: {
  readonly dryRun?: boolean;
  readonly force?: boolean;
}): OpenOptions {
  const mounted = force ? "allow" : "refuse";
  return dryRun ? { mounted, willWrite: true, lock: "shared" } : { mounted, writable: true, lock: "exclusive" };
}

/** An operation's stack. An open stack can serve many operations. */
export type GivenStack = string | StackSpec | Stack;

/** Files opened by one operation, to be closed together. */
export class OpenFiles {
  readonly storage: Storage;
  readonly #context: OperationContext;
  readonly #opened: { close(): void }[] = [];

  constructor(context: OperationContext) {
    this.storage = storageOf(context);
    this.#context = context;
  }

  open(path: string, options: OpenOptions): BlockDevice {
    const device = this.storage.open(path, options);
    this.#opened.push(device);
    return device;
  }

  /** Opens the files of one part of a stack. @throws CowError as open() */
  openPart(part: StackPart, how: OpenOptions): OpenPart {
    return openPart(part, { storage: this.storage, how, keep: (device) => this.keep(device) });
  }

  /** Closes something at the end that was opened elsewhere. */
  keep<Opened extends { close(): void }>(opened: Opened): Opened {
    this.#opened.push(opened);
    return opened;
  }

  /**
   * Makes an output that was claimed: it appears whole once `fill` has ended, durable and under its name, or not at all.
   * @param inputs what it is made of: it is open to no more users than these
   * @throws CowError `exists` if the name is taken and may not be replaced; `io`, `no-space`; what `fill` throws
   */
  async write<Result>(
    path: string,
    inputs: readonly string[],
    allowed: Overwrite,
    fill: (device: BlockDevice) => Promise<Result>,
  ): Promise<Result> {
    const pending = this.storage.create(path, { inputs, onNotice: this.#context.onNotice });
    try {
      const result = await fill(pending.device);
      pending.commit({ replace: mayReplace(allowed, path) });
      return result;
    } finally {
      pending.abandon();
    }
  }

  /** An empty file without a name, for one operation. */
  scratch(name: string): BlockDevice {
    return this.keep(this.storage.scratch(name));
  }

  /** An operation's stack, if it was given. @throws CowError `usage` */
  stackSpec(given: GivenStack): StackSpec;
  stackSpec(given: GivenStack | undefined): StackSpec | undefined;
  stackSpec(given: GivenStack | undefined): StackSpec | undefined {
    if (typeof given === "object" && "spec" in given) return given.spec;
    return given === undefined ? undefined : StackSpec.parse(this.storage, given);
  }

  /**
   * @param given a stack that is open already stays open
   * @param force a merge journal that cannot be read is passed over
   */
  async openStack(given: GivenStack, force?: boolean): Promise<Stack>;
  async openStack(given: GivenStack | undefined, force?: boolean): Promise<Stack | undefined>;
  async openStack(given: GivenStack | undefined, force = false): Promise<Stack | undefined> {
    if (given === undefined || (typeof given === "object" && "spec" in given)) return given;
    const spec = this.stackSpec(given);
    this.#noticePendingMerge(spec, force);
    return this.keep(await openStack(this.storage, spec, this.#context));
  }

  /** No layer can be compared with a partly merged base; the base alone is what it is. */
  #noticePendingMerge(spec: StackSpec, force: boolean): void {
    try {
      refusePending(this.storage, spec, [], force);
    } catch (error) {
      if (spec.files.length > 1 || !(error instanceof CowError)) throw error;
      this.#context.onNotice?.({ severity: "warning", file: error.file, message: error.message });
    }
  }

  close(): void {
    for (const file of this.#opened.splice(0).reverse()) file.close();
  }

  /** Runs `work` and closes everything that was opened. */
  static async during<Result>(context: OperationContext, work: (files: OpenFiles) => Promise<Result>): Promise<Result> {
    const files = new OpenFiles(context);
    try {
      return await work(files);
    } finally {
      files.close();
    }
  }
}

/** @throws CowError `pending-merge` if a stack's base is partly merged */
export function refusePending(
  storage: Storage,
  stack: StackSpec,
  others: readonly string[],
  force: boolean | undefined,
): void {
  const [base, ...layers] = stack.files;
  refusePendingMerge(storage, base, [...layers, ...others], force);
}

/** The options with which a format reads the files that a killed server of ours left beside `file`. */
export function notesOfServer(files: OpenFiles, file: string): Pick<CheckOptions, "companion" | "boot"> {
  return {
    boot: bootId(),
    companion: (suffix) => {
      const path = files.storage.realPath(file) + suffix;
      return files.storage.facts(path, { own: true }) ? files.open(path, { lock: "none", own: true }) : undefined;
    },
  };
}

/** @throws CowError `usage` if `output` is one of the inputs, under any name */
export function refuseSameFile(storage: Storage, output: string, inputs: readonly string[]): void {
  const facts = storage.facts(output);
  if (!facts) return;
  for (const input of inputs) {
    const theirs = storage.facts(input);
    if (!theirs || !overlap(placesOfFacts(facts), placesOfFacts(theirs))) continue;
    const what =
      input === output
        ? "an input"
        : facts.identity === theirs.identity
          ? `the same file as ${input}, an input`
          : `on the same disk space as ${input}, an input`;
    throw new CowError("usage", `is ${what}: an output must not be one`, { file: output });
  }
}

function placesOfFacts({ places, identity }: FileFacts): readonly Place[] {
  return places ?? [{ identity, range: { from: 0, to: Number.POSITIVE_INFINITY } }];
}
