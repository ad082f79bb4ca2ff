/**
 * Owns what tests of faults run: every operation on small files in which all kinds of blocks occur, with what it may
 * change, what it makes, and what it answers when nothing goes wrong. Knows nothing of faults.
 */
import {
  CowError,
  check,
  create,
  diff,
  info,
  MemoryStorage,
  merge,
  type OperationContext,
  pack,
  rebase,
  repair,
  resize,
  unpack,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { noise } from "../random.ts";

const BLOCK_BYTES = 1024;
/** More than one page of bitmap would make thousands of operations; more than one piece of data is enough. */
const BLOCKS = 400;

export interface FaultJob {
  readonly title: string;
  /** Inputs that it may leave half done, for the same command to complete. */
  readonly changes: readonly string[];
  /** Files that appear whole or not at all. */
  readonly makes: readonly string[];
  /** Brings the files about on which it runs, from those of makeFiles(). */
  readonly prepare?: (storage: MemoryStorage) => Promise<void>;
  /** Its answer, in full. */
  readonly run: (context: OperationContext) => Promise<unknown>;
  /** The same command with --force, for where the output came about although the command failed. */
  readonly again?: (context: OperationContext) => Promise<unknown>;
}

function image(seed: number, holes: readonly (readonly [from: number, to: number])[]): Buffer {
  const bytes = Buffer.from(noise(BLOCKS * BLOCK_BYTES, seed));
  for (const [from, to] of holes) bytes.fill(0, from * BLOCK_BYTES, to * BLOCK_BYTES);
  return bytes;
}

/** `base`, `changed` (differs in runs, in zeros, in the last block), `cow` (the difference), `dirty` (cow, not closed). */
export async function makeFiles(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  const base = image(1, [
    [60, 200],
    [240, 280],
  ]);
  const changed = Buffer.from(base);
  for (const [from, to] of [
    [0, 1],
    [80, 140],
    [230, 232],
    [394, 400],
  ] as const)
    changed.set(noise((to - from) * BLOCK_BYTES, 100 + from), from * BLOCK_BYTES);
  changed.fill(0, 300 * BLOCK_BYTES, 312 * BLOCK_BYTES);
  storage.put("base", base);
  storage.put("changed", changed);
  await create("base", "cow", { from: "changed" }, { storage });
  const dirty = Buffer.from(storage.content("cow")?.toBytes() ?? []);
  dirty.writeInt16LE(1, 6);
  dirty[BLOCK_BYTES + 15] = 0;
  storage.put("dirty", dirty);
  return storage.clone();
}

/** Everything of an answer that is made while it is read. */
async function answer(result: Promise<object>): Promise<unknown> {
  const read = Object.entries(await result).map(([key, value]) => {
    if (typeof value === "function") return [key, undefined];
    const isList = typeof value === "object" && value !== null && Symbol.iterator in value;
    return [key, isList ? [...(value as Iterable<unknown>)] : value];
  });
  return Object.fromEntries(read);
}

async function mapped(context: OperationContext): Promise<unknown> {
  const result = await info("cow", { map: true, rdofile: "base" }, context);
  try {
    return await answer(Promise.resolve(result));
  } finally {
    result.close();
  }
}

const FORMATS = ["plain", "gzip", "zstd"] as const;
const undo = { undo: "undo" };

/** A merge with an undo file that was stopped half way. */
async function halfMerged(storage: MemoryStorage): Promise<void> {
  const writes: number[] = [];
  const probe = storage.clone();
  probe.onChange = (change, index) => {
    if (change.kind === "device" && change.change.kind === "write" && change.change.bytes.length > 4000)
      writes.push(index);
  };
  await merge("base", "cow", undo, { storage: probe });
  const stop = writes.at(-2) ?? 0;
  const begun = storage.log.length;
  storage.onChange = (_, index) => {
    if (index - begun >= stop) throw new CowError("io", "the power went", { file: "base" });
  };
  await merge("base", "cow", undo, { storage }).catch(() => undefined);
  storage.onChange = () => undefined;
}

export const FAULT_JOBS: readonly FaultJob[] = [
  { title: "info", changes: [], makes: [], run: mapped },
  {
    title: "check",
    changes: [],
    makes: [],
    run: (context) => answer(check("cow", { rdofile: "base" }, context)),
  },
  {
    title: "check of a dirty file",
    changes: [],
    makes: [],
    run: (context) => answer(check("dirty", { rdofile: "base" }, context)),
  },
  {
    title: "verify-fingerprint",
    changes: [],
    makes: [],
    run: (context) => answer(verifyFingerprint("base", "cow", {}, context)),
  },
  {
    title: "diff",
    changes: [],
    makes: [],
    run: (context) => answer(diff("base,cow", "base", { hexdump: 2 }, context)),
  },
  {
    title: "diff --delta",
    changes: [],
    makes: ["delta"],
    run: (context) => answer(diff("base", "base,cow", { delta: "delta" }, context)),
    again: (context) => answer(diff("base", "base,cow", { delta: "delta", force: true }, context)),
  },
  {
    title: "create",
    changes: [],
    makes: ["new"],
    run: (context) => answer(create("base", "new", {}, context)),
    again: (context) => answer(create("base", "new", { force: true }, context)),
  },
  {
    title: "create --from",
    changes: [],
    makes: ["new"],
    run: (context) => answer(create("base", "new", { from: "changed" }, context)),
    again: (context) => answer(create("base", "new", { from: "changed", force: true }, context)),
  },
  {
    title: "create --stack",
    changes: [],
    makes: ["new", "new.stack"],
    run: (context) => answer(create("base", "new", { from: "changed", stackFile: "new.stack" }, context)),
    again: (context) =>
      answer(create("base", "new", { from: "changed", stackFile: "new.stack", force: true }, context)),
  },
  {
    title: "merge of the top of a stack file",
    changes: ["base", "vm.stack"],
    makes: [],
    prepare: async (storage) =>
      void (await create("base", "cow", { from: "changed", stackFile: "vm.stack", force: true }, { storage })),
    run: (context) => answer(merge("stack:vm.stack", "cow", {}, context)),
  },
  {
    title: "create --force over another",
    changes: [],
    makes: ["cow"],
    run: (context) => answer(create("base", "cow", { force: true }, context)),
  },
  {
    title: "repair",
    changes: ["dirty"],
    makes: [],
    run: (context) => answer(repair("dirty", {}, context)),
  },
  {
    title: "repair --force of a clean file with unmarked data",
    changes: ["cow"],
    makes: [],
    prepare: async (storage) => {
      const bytes = Buffer.from(storage.content("cow")?.toBytes() ?? []);
      bytes[BLOCK_BYTES + 16] = 0;
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE(48) - 8n, 48);
      storage.put("cow", bytes);
    },
    run: (context) => answer(repair("cow", { force: true }, context)),
  },
  {
    title: "repair --dry-run",
    changes: [],
    makes: [],
    run: (context) => answer(repair("dirty", { dryRun: true }, context)),
  },
  {
    title: "merge in place",
    changes: ["base"],
    makes: [],
    run: (context) => answer(merge("base", "cow", {}, context)),
  },
  {
    title: "merge --undo",
    changes: ["base"],
    makes: ["undo"],
    run: (context) => answer(merge("base", "cow", undo, context)),
  },
  {
    title: "merge of the undo file",
    changes: ["base"],
    makes: [],
    prepare: async (storage) => void (await merge("base", "cow", undo, { storage })),
    run: (context) => answer(merge("base", "undo", {}, context)),
  },
  {
    title: "merge that goes on where it was stopped",
    changes: ["base"],
    makes: [],
    prepare: halfMerged,
    run: (context) => answer(merge("base", "cow", undo, context)),
  },
  {
    title: "merge of the undo file of one that was stopped",
    changes: ["base"],
    makes: [],
    prepare: halfMerged,
    run: (context) => answer(merge("base", "undo", {}, context)),
  },
  {
    title: "rebase",
    changes: ["cow"],
    makes: [],
    run: (context) => answer(rebase("cow", { from: "base", to: "changed", dropEqual: true, force: true }, context)),
  },
  {
    title: "resize",
    changes: ["cow"],
    makes: [],
    run: (context) => answer(resize("cow", { sizeBytes: 2 << 20 }, context)),
  },
  {
    title: "merge --output",
    changes: [],
    makes: ["out"],
    run: (context) => answer(merge("base", "cow", { output: "out" }, context)),
    again: (context) => answer(merge("base", "cow", { output: "out", force: true }, context)),
  },
  ...FORMATS.flatMap((format): FaultJob[] => [
    {
      title: `pack to ${format}`,
      changes: [],
      makes: ["out"],
      run: (context) => answer(pack("cow", "out", { format, threads: 2 }, context)),
      again: (context) => answer(pack("cow", "out", { format, threads: 2, force: true }, context)),
    },
    {
      title: `unpack of ${format}`,
      changes: [],
      makes: ["out"],
      prepare: async (storage) => void (await pack("cow", "packed", { format }, { storage })),
      run: (context) => answer(unpack("packed", "out", { threads: 2 }, context)),
      again: (context) => answer(unpack("packed", "out", { threads: 2, force: true }, context)),
    },
    {
      title: `info of ${format}`,
      changes: [],
      makes: [],
      prepare: async (storage) => void (await pack("cow", "packed", { format }, { storage })),
      run: (context) => answer(info("packed", {}, context)),
    },
    {
      title: `diff with a layer in ${format}`,
      changes: [],
      makes: [],
      prepare: async (storage) => void (await pack("cow", "packed", { format }, { storage })),
      run: (context) => answer(diff("base", "base,packed", {}, context)),
    },
  ]),
];

/** The files as they are when the job begins. */
export async function filesFor(job: FaultJob, files: MemoryStorage): Promise<MemoryStorage> {
  const storage = files.clone();
  await job.prepare?.(storage);
  return storage.clone();
}
