/**
 * Owns one export of a server: an open stack with a name, and its description for clients.
 */

import { Context, ExportFlag, MAX_PAYLOAD_BYTES } from "../../protocol/constants.ts";
import type { Access } from "../../stack/live/access.ts";
import { type AssembledImage, replaceParts } from "../../stack/live/assemble.ts";
import type { Current } from "../../stack/live/gate.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import type { ServedStack } from "../../stack/live/served-stack.ts";
import type { ExportContext, ExportFacts } from "../handshake/export.ts";
import type { ExportMeter } from "../meter/export-meter.ts";

/** The preferred request size: a page, and the block size of most file systems. */
const PREFERRED_BYTES = 4096;

/** Every flush makes the replied writes of all connections durable, so that many connections are as good as one. */
const READABLE = ExportFlag.HAS_FLAGS | ExportFlag.SEND_FLUSH | ExportFlag.CAN_MULTI_CONN | ExportFlag.SEND_CACHE;
const WRITABLE = ExportFlag.SEND_FUA | ExportFlag.SEND_TRIM | ExportFlag.SEND_WRITE_ZEROES | ExportFlag.SEND_FAST_ZERO;

const FIXED: readonly ExportContext[] = [
  { name: Context.ALLOCATION, kind: "allocation" },
  { name: Context.DEPTH, kind: "depth" },
  { name: Context.DIRTY, kind: "dirty" },
];

/** The contexts that an export has now: one more for each checkpoint below its last layer. */
function contextsOf({ checkpoints }: ServedStack): readonly ExportContext[] {
  const since = checkpoints.map(({ name, time }) => ({ name: Context.SINCE + name, kind: { since: name, time } }));
  return [...FIXED, ...since];
}

/** An export's description for clients. */
export function descriptionOf(stackName: string, access: Access): string {
  return `${stackName} (${access})`;
}

/** A connection that uses an export. */
export interface ExportUser {
  /** Takes no more requests; received ones are answered. */
  stop(): void;
  /** Ends it now. */
  kill(): void;
  readonly ended: Promise<void>;
}

export class ServedExport implements Current {
  readonly facts: ExportFacts;
  readonly stack: ServedStack;
  /** Tells its image from those of all other openings, for threads. */
  readonly number: number;
  /** The connections that use it now. */
  readonly users = new Set<ExportUser>();
  /** Counts what its connections do, and holds their limit. */
  readonly meter: ExportMeter;
  #image: AssembledImage | undefined;
  #passed: PassedImage | null | undefined;
  /** Of the parts of `#image`, and of `#passed`. */
  #epoch = 0;

  /**
   * @param name "" for the default export
   * @param meter uses the stack, or one of which this is a checkpoint
   */
  constructor(name: string, stack: ServedStack, number: number, meter: ExportMeter) {
    this.stack = stack;
    this.number = number;
    this.meter = meter;
    const isWritable = stack.access !== "read-only";
    this.facts = {
      name,
      description: descriptionOf(stack.name, stack.access),
      sizeBytes: stack.sizeBytes,
      flags: READABLE | (isWritable ? WRITABLE : ExportFlag.READ_ONLY),
      blockSizes: { minimum: 1, preferred: PREFERRED_BYTES, maximum: MAX_PAYLOAD_BYTES },
      get contexts() {
        return contextsOf(stack);
      },
    };
  }

  /** The image in the server's own thread. */
  get image(): LiveImage {
    this.reach();
    this.#image ??= this.stack.image();
    return this.#image;
  }

  /** Of the parts that the server's own thread has. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The server's own thread takes the parts that there are now. */
  reach(): void {
    const { epoch } = this.stack.gate;
    if (epoch === this.#epoch) return;
    this.#epoch = epoch;
    this.#passed = undefined;
    if (this.#image) replaceParts(this.#image, this.stack.imageParts());
  }

  /** The image for other threads, if they can have it. */
  get passed(): PassedImage | undefined {
    this.reach();
    this.#passed ??= this.stack.passed() ?? null;
    return this.#passed ?? undefined;
  }
}
