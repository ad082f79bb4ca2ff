/**
 * Owns bugs to be planted into the writing of a cowfile, as changes of its source on its way into the interpreter: an
 * exploration that does not find them would not find their like. A change whose text is not there any more is an error.
 */
import { registerHooks } from "node:module";

export interface Mutation {
  readonly name: string;
  /** The life that shows it, or some before it: where to begin, as the first ones do not. */
  readonly seed?: number;
  /** What shows it; default: lives of a cowfile. */
  readonly explores?: "chains" | "gate";
  /** Found after ten thousand states and more: tried only where all are. */
  readonly isRare?: true;
  readonly changes: readonly { readonly file: string; readonly from: string; readonly to: string }[];
}

const ORDER = "stack/live/write-order.ts";
const CHECKPOINT = "stack/live/checkpoint.ts";
const IMAGE = "stack/live/live-stack-image.ts";
const FILE_END = "stack/live/file-end.ts";
const OPEN = "stack/live/open-cowfile.ts";
const JOURNAL = "stack/live/journal-writer.ts";
const CHECK = "formats/cowfile/check.ts";
const UNMARKED = "formats/cowfile/unmarked-data.ts";
const TAKE_UP = "stack/live/take-up.ts";
const HEAD = "stack/live/head-writer.ts";
const LOG = "stack/live/flush-log-writer.ts";
const REPLAY = "formats/cowfile/live/replay.ts";
const STAMP = "formats/cowfile/live/stamp.ts";
const STATE = "stack/live/shared-state.ts";

function change(name: string, file: string, from: string, to: string, seed?: number): Mutation {
  return { name, changes: [{ file, from, to }], ...(seed === undefined ? {} : { seed }) };
}

const SAYS_SO = "    } finally {\n      if (!isRemembered) announce(this.#control);\n";

/** What only shows where another thread runs between two steps of one. */
const RACES: readonly Mutation[] = [
  {
    name: "a change is announced before its marks",
    seed: 25,
    changes: [
      { file: ORDER, from: SAYS_SO, to: "    } finally {\n" },
      { file: ORDER, from: "      work(cow);\n", to: "      work(cow);\n      announce(this.#control);\n" },
    ],
  },
  {
    name: "a change is announced before its data",
    changes: [
      { file: ORDER, from: SAYS_SO, to: "    } finally {\n" },
      { file: ORDER, from: "      work(cow);\n", to: "      announce(this.#control);\n      work(cow);\n" },
    ],
  },
  {
    name: "what the flush log remembers is marked afterwards",
    seed: 136,
    changes: [
      {
        file: ORDER,
        from: "log.remember(whole, workAndMark);\n",
        to: "log.remember(whole, () => work(cow));\n      if (isRemembered) this.#mark(claim);\n",
      },
    ],
  },
  {
    name: "what the flush log remembers is not announced",
    changes: [
      {
        file: LOG,
        from: "      Atomics.compareExchange(this.#control, Control.UNFLUSHED, Unflushed.NOTHING, Unflushed.REMEMBERED);\n",
        to: "",
      },
    ],
  },
  {
    name: "the flush log is switched off, and on again, by a word of its own",
    seed: 7,
    changes: [
      {
        file: STATE,
        from: "  if (Atomics.load(control, Control.UNFLUSHED) !== Unflushed.OTHER)\n",
        to: "  Atomics.store(control, 31, 1);\n  if (Atomics.load(control, Control.UNFLUSHED) !== Unflushed.OTHER)\n",
      },
      {
        file: LOG,
        from: "return Atomics.load(this.#control, Control.UNFLUSHED) !== Unflushed.OTHER;",
        to: "return Atomics.load(this.#control, 31) === 0;",
      },
      {
        file: CHECKPOINT,
        from: "return log ? log.forget(take) : take();",
        to: "const had = take();\n    log?.forget(() => Atomics.store(this.#control, 31, 0));\n    return had;",
      },
    ],
  },
  {
    name: "pages are taken before a checkpoint begins",
    seed: 64,
    changes: [
      {
        file: CHECKPOINT,
        from: "      const isUnflushed = this.#begin() || logCounts;\n      this.#takePages(copies);\n",
        to: "      this.#takePages(copies);\n      const isUnflushed = this.#begin() || logCounts;\n",
      },
    ],
  },
];

const GATE = "stack/live/gate.ts";

/** Of the switch to other parts between two batches. */
const SWITCHES: readonly Mutation[] = [
  {
    name: "the gate does not wait for a batch",
    explores: "gate",
    changes: [{ file: GATE, from: "return value % STATES === ACTIVE;", to: "return value % STATES > HOLDING;" }],
  },
  {
    name: "a connection looks at the gate before it says that it is active",
    explores: "gate",
    changes: [
      {
        file: GATE,
        from: "    this.#say(ACTIVE);\n    if (Atomics.load(this.#words, SHUT) === 1) {\n",
        to: "    const isShut = Atomics.load(this.#words, SHUT) === 1;\n    this.#say(ACTIVE);\n    if (isShut) {\n",
      },
    ],
  },
  {
    name: "a connection that waits at the gate still counts as active",
    explores: "gate",
    changes: [{ file: GATE, from: "      this.hold();\n      return false;\n", to: "      return false;\n" }],
  },
  {
    name: "a connection goes on with the parts that it had",
    explores: "gate",
    changes: [
      {
        file: GATE,
        from: "    if (epoch !== this.#current.epoch) this.#current.reach(epoch);\n",
        to: "    void epoch;\n",
      },
    ],
  },
  {
    name: "files are closed while replies from them are sent",
    explores: "gate",
    changes: [{ file: GATE, from: "(value) => value !== IDLE && ", to: "(value) => value % STATES === ACTIVE && " }],
  },
  {
    name: "a batch that goes on with other parts forgets the older ones",
    explores: "gate",
    changes: [
      {
        file: GATE,
        from: "    this.#say(HOLDING);\n    this.#tell();\n",
        to: "    this.#oldest = Atomics.load(this.#words, EPOCH);\n    this.#say(HOLDING);\n    this.#tell();\n",
      },
    ],
  },
];

const MAKES = "stack/live/checkpoint-chain.ts";
const PENDING = "stack/pending.ts";

/** A life that shows most of them after one or two thousand states. */
const LONG_LIFE = 700;

/** @param seed default: it takes a long life, too long for every run of the suite */
function chains(name: string, file: string, from: string, to: string, seed?: number): Mutation {
  const mutation = { ...change(name, file, from, to, seed ?? LONG_LIFE), explores: "chains" } as const;
  return seed === undefined ? { ...mutation, isRare: true } : mutation;
}

/** Of checkpoints, and of what is done with them. */
const CHAINS: readonly Mutation[] = [
  chains("a flush does not cover the layer that was the top", IMAGE, "    this.#frozen?.flush();\n", ""),
  chains(
    "a new top is not durable when it is named",
    MAKES,
    "pending.commit({ replace: false });",
    "pending.rename({ replace: false });",
    2,
  ),
  chains(
    "the name that decides is not durable when a flush goes on",
    MAKES,
    "() => first?.prepared?.sync(),",
    "() => undefined,",
  ),
  chains(
    "a frozen layer is marked clean, and not settled",
    MAKES,
    "  frozen.layer.settle(() => frozen.top.settle?.());\n",
    "",
  ),
  {
    name: "the other stack files get their names before the one that decides",
    explores: "chains",
    isRare: true,
    seed: LONG_LIFE,
    changes: [
      {
        file: MAKES,
        from: "    try {\n      prepared?.commit();\n      prepared?.sync();\n    } catch",
        to: "    try {\n      void prepared;\n    } catch",
      },
      {
        file: MAKES,
        from: "      all[0]?.prepared?.commit();\n",
        to: "      for (const { prepared } of all.slice(1)) {\n        prepared?.commit();\n        prepared?.sync();\n      }\n      all[0]?.prepared?.commit();\n",
      },
    ],
  },
  chains(
    "a checkpoint that was made elsewhere is dropped",
    PENDING,
    "? committed(document) : withdrawn(document)",
    "? withdrawn(document) : withdrawn(document)",
  ),
  chains(
    "a checkpoint that was not made counts",
    PENDING,
    "if (decided_by === undefined) return false;",
    "if (decided_by === undefined) return true;",
    1,
  ),
  chains(
    "a new top that was not named stays",
    PENDING,
    "  if (removeEmptyTop(storage, top)) return;\n",
    '  if (top === "" && removeEmptyTop(storage, top)) return;\n',
    2,
  ),
  chains("a shared layer is removed", "stack/chain.ts", "(shared ? [] : file)", "(shared === undefined ? file : file)"),
  chains(
    "a layer that was left dirty is not taken up",
    "stack/live/left-frozen.ts",
    "  if (!isLeftDirty(storage, path)) return;\n",
    "  if (isLeftDirty(storage, path)) return;\n",
  ),
  chains(
    "a connection keeps its parts",
    GATE,
    "    if (epoch !== this.#current.epoch) this.#current.reach(epoch);\n",
    "    void epoch;\n",
    LONG_LIFE,
  ),
  chains(
    "the instant does not wait for batches",
    "stack/live/switch-parts.ts",
    "const busy = await shut(gates, LIMIT_MS);",
    "const busy = (await shut(gates, 0)).slice(0, 0);",
  ),
];

export const MUTATIONS: readonly Mutation[] = [
  change("nothing is journalled", ORDER, "if (!this.#hasFresh) return;", "if (this.#hasFresh || true) return;"),
  {
    name: "entries that do not fit are dropped",
    seed: 33,
    changes: [
      { file: ORDER, from: "if (journal && !journal.write()) this.#checkpoint.make();", to: "journal?.write();" },
      // Room is made sure of beforehand; without that it comes to it often.
      {
        file: JOURNAL,
        from: "if (slots > this.slotsPerHalf) return false;",
        to: "if (slots > this.slotsPerHalf) return true;",
      },
    ],
  },
  change(
    "blocks are marked before their data is there",
    ORDER,
    "      work(cow);\n      this.#mark(claim);\n",
    "      this.#mark(claim);\n      work(cow);\n",
  ),
  {
    name: "pages are looked for before the halves of the journal are switched",
    seed: 5021,
    changes: [
      {
        file: CHECKPOINT,
        from: "    if (!this.#pages.includes(PageState.CHANGED)) return;\n",
        to: "    let page = this.#pages.indexOf(PageState.CHANGED) - 1;\n    if (page < -1) return;\n",
      },
      { file: CHECKPOINT, from: "    for (let page = -1; ; ) {\n", to: "    for (; ; ) {\n" },
    ],
  },
  change(
    "the checkpoint's first fdatasync is left out",
    CHECKPOINT,
    "      if (isUnflushed || copies.length > 0) this.sync();\n",
    "      if (isUnflushed && copies.length === 0) this.sync();\n",
  ),
  change(
    "a flush of blocks that were marked before does nothing",
    CHECKPOINT,
    "if (isUnflushed || copies.length > 0) this.sync();",
    "if (copies.length > 0) this.sync();",
  ),
  change(
    "the checkpoint's second fdatasync is left out",
    CHECKPOINT,
    "announceLog(log.lastNumber);\n        this.sync();\n",
    "announceLog(log.lastNumber);\n",
  ),
  change(
    "the bitmap is written before the data is durable",
    CHECKPOINT,
    "      if (isUnflushed || copies.length > 0) this.sync();\n      if (copies.length > 0 || logCounts) {\n        this.#writePages(copies);\n",
    "      this.#writePages(copies);\n      if (isUnflushed || copies.length > 0) this.sync();\n      if (copies.length > 0 || logCounts) {\n",
  ),
  change(
    "marks are taken after the fdatasync",
    CHECKPOINT,
    "      this.#takePages(copies);\n      if (isUnflushed || copies.length > 0) this.sync();\n",
    "      this.sync();\n      this.#takePages(copies);\n",
  ),
  change(
    "zeros over a block without a mark leave what lay there",
    ORDER,
    "    if (!cow.punchHole(fileOffset, lengthBytes)) return false;\n",
    "    const isUsed = this.#claim.isFirstAllocated;\n    if (isUsed && !cow.punchHole(fileOffset, lengthBytes)) return false;\n",
    200014,
  ),
  change(
    "a block written in part is not copied up",
    IMAGE,
    "if (target.length > 0) readZeroFilled(this.#below, target, offset);",
    "if (target.length > 0 && target.buffer !== this.#scratch?.buffer) readZeroFilled(this.#below, target, offset);",
  ),
  change("the head stays clean", ORDER, "        head.markDirty();\n        this.#checkpoint.sync();\n", ""),
  {
    name: "the head is made dirty after the first change",
    changes: [
      { file: ORDER, from: "    this.makeReady();\n", to: "" },
      { file: ORDER, from: "      work(cow);\n", to: "      work(cow);\n      this.makeReady();\n" },
    ],
  },
  change(
    "the dirty head is not made durable",
    ORDER,
    "        head.markDirty();\n        this.#checkpoint.sync();\n",
    "        head.markDirty();\n",
  ),
  {
    name: "a half of the journal is used again at once",
    changes: [
      {
        file: JOURNAL,
        from: "Atomics.load(control, Control.EPOCH) + 1;",
        to: "Atomics.load(control, Control.EPOCH) + 2;",
      },
      {
        file: JOURNAL,
        from: "while (Atomics.load(control, Control.WRITERS + (next & 1)) !== 0) {",
        to: "while (next < 0) {",
      },
    ],
  },
  change(
    "halves are switched though the last checkpoint failed",
    CHECKPOINT,
    "Atomics.load(this.#control, Control.UNFINISHED) === 0",
    "Atomics.load(this.#control, Control.UNFINISHED) < 2",
    74,
  ),
  change(
    "marks that are not journalled yet are relied on",
    ORDER,
    "return Atomics.load(this.#locks, index) === 0 || this.#mine[index] === 1;",
    "return index >= 0;",
    108,
  ),
  change(
    "the journal is believed after another start of the machine",
    STAMP,
    "return boot.some((byte) => byte !== 0) && stamp.boot.every((byte, i) => byte === boot[i]);",
    "return stamp.boot.length === boot.length;",
  ),
  change(
    "the journal is not believed after a kill",
    STAMP,
    "return boot.some((byte) => byte !== 0) && stamp.boot.every((byte, i) => byte === boot[i]);",
    "return stamp.boot.length !== boot.length;",
  ),
  change(
    "a stamp counts though others had the file",
    STAMP,
    "if ((head.flags & FLAG_LIVE) === 0) return undefined;",
    "if (head.flags < 0) return undefined;",
    4,
  ),
  change(
    "the journal's name is not durable when the head says dirty",
    JOURNAL,
    "      this.#journal.syncName?.();\n",
    "",
  ),
  change("the journal is not durable when the head says dirty", JOURNAL, "      this.#journal.flush();\n", ""),
  change("the file is closed without a flush", OPEN, "      this.settle();\n", "      this.writable().commit();\n"),
  change(
    "marks out of the journal do not get into the bitmap",
    TAKE_UP,
    "Math.floor((end - 1) / 8) + 1, PageState.CHANGED)",
    "Math.floor((end - 1) / 8) + 1, PageState.STORED)",
    19,
  ),
  change(
    "what a dead process wrote is taken for durable",
    OPEN,
    "control[Control.UNFLUSHED] = Unflushed.OTHER;",
    "control[Control.UNFLUSHED] = Unflushed.NOTHING;",
    4,
  ),
  change(
    "an fsync that failed is forgotten",
    CHECKPOINT,
    "Atomics.compareExchange(this.#control, Control.FAILED, Failure.NONE, Failure.FSYNC);",
    "",
    31,
  ),
  change(
    "the journal goes before the head is clean",
    OPEN,
    "      this.settle();\n",
    "      this.settle();\n      this.#session.journalFile.remove();\n",
  ),
  change(
    "a hole at the end of the file does not make it longer",
    FILE_END,
    "  if (end <= known || end <= cow.sizeBytes) return;\n",
    "  if (end > 0) return;\n",
    7,
  ),
  {
    name: "repair marks what is not durable",
    seed: 9,
    changes: [
      { file: CHECK, from: "  target.flush();\n  let marked", to: "  let marked" },
      { file: CHECK, from: "    target.flush();\n    if (session.kind", to: "    if (session.kind" },
      { file: CHECK, from: "session.kept);\n      target.flush();\n", to: "session.kept);\n" },
    ],
  },
  change(
    "repair does not know the journal",
    CHECK,
    'const isKnown = session.kind === "killed" ||',
    "const isKnown =",
    26,
  ),
  change(
    "a record of the flush log is not made durable",
    LOG,
    "    this.#sync();\n    return true;\n",
    "    return true;\n",
  ),
  change(
    "what the flush log does not remember is forgotten",
    STATE,
    "    Atomics.store(control, Control.UNFLUSHED, Unflushed.OTHER);\n",
    "    Atomics.store(control, Control.UNFLUSHED, Unflushed.REMEMBERED);\n",
  ),
  change(
    "a checkpoint forgets that there were records",
    CHECKPOINT,
    "const logCounts = announces || (log?.isInUse ?? false);",
    "const logCounts = announces;",
  ),
  change(
    "records are put back over what is newer",
    STAMP,
    "view.setUint32(LOG_DONE_AT, stamp.logDone % 2 ** 32);",
    "view.setUint32(LOG_DONE_AT, 0);",
  ),
  change(
    "records that the stamp is done with are not marked",
    REPLAY,
    "const { extents } of records",
    "const { extents } of records.filter(({ number }) => number > 3)",
  ),
  change(
    "the head says that records are done with before their data is durable",
    CHECKPOINT,
    "      if (isUnflushed || copies.length > 0) this.sync();\n",
    "      if (logCounts && log) this.#parts.head?.announceLog(log.lastNumber);\n      if (isUnflushed || copies.length > 0) this.sync();\n",
    3,
  ),
  change("parts of sectors are remembered", LOG, "(offset | source.length) % SECTOR_BYTES !== 0 || ", ""),
  change(
    "parts of a block go down without the rest of it",
    IMAGE,
    "copiesStart || copiesEnd ? undefined : { source, offset }",
    "{ source, offset }",
    2,
  ),
  change(
    "a new journal has not the records of the old one",
    OPEN,
    "{ runs, log }, control)\n",
    "{ runs, log: undefined }, control)\n",
    9,
  ),
  {
    name: "the first change takes back what the stamp says of the log",
    seed: 5000282,
    changes: [
      {
        file: HEAD,
        from: "usesLog: this.#control[Control.USES_LOG] === 1,",
        to: "usesLog: this.#stamp.usesLog,",
      },
    ],
  },
  change(
    "what the log holds is not put back",
    OPEN,
    "replayLog(device, log, old.stamp.logDone, geometry);",
    "log.records.slice();",
  ),
  {
    name: "repair does not put back what the log holds",
    isRare: true,
    changes: [
      {
        file: CHECK,
        from: "replayLog(target, session.log, session.stamp.logDone, before.geometry);",
        to: "void session;",
      },
    ],
  },
  change(
    "an old journal goes while only the page cache knows that it is needless",
    OPEN,
    "if (!isSameSession && journalFile.find()) device.flush();",
    "",
    53,
  ),
  ...RACES,
  ...SWITCHES,
  ...CHAINS,
  change(
    "what is swept out has a mark",
    UNMARKED,
    "const runs = [...clearRuns(bytes, from - first, to - first)];",
    "const runs = [[from - first, to - first]];",
  ),
  change(
    "the journal has a generation that the cowfile has not",
    JOURNAL,
    "this.#codec.encodeGeneration(generation,",
    "this.#codec.encodeGeneration(generation + 1,",
  ),
  change(
    "a thread takes back the generation of another",
    HEAD,
    "withLock(this.#control, Control.STAMP, () => {",
    "[0].forEach(() => {",
    33,
  ),
  change("a record goes past the end of the flush log", LOG, "recordBytes(count, dataBytes) > room", "room < 0"),
  change(
    "what a failed write left is not swept out",
    ORDER,
    "if (!claim.isAllocated) Atomics.store(this.#control, Control.RESIDUE, 1);\n",
    "",
  ),
  change(
    "what a write in pieces left that failed is not swept out",
    ORDER,
    "if (!claim.isAllocated) Atomics.store(this.#control, Control.RESIDUE",
    "if (whole && !claim.isAllocated) Atomics.store(this.#control, Control.RESIDUE",
  ),
  change(
    "what a dead session left is not swept out at the end",
    OPEN,
    'if (this.found !== "clean" || hasResidue) {',
    "if (hasResidue) {",
  ),
];

/** Plants a bug into what is imported from now on. */
export function plant(name: string): void {
  const mutation = MUTATIONS.find((candidate) => candidate.name === name);
  if (!mutation) throw new Error(`no mutation is called "${name}"`);
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context);
      const changes = mutation.changes.filter(({ file }) => url.endsWith(`/src/lib/${file}`));
      if (changes.length === 0) return loaded;
      let source = String(loaded.source);
      for (const { from, to } of changes) {
        if (!source.includes(from)) throw new Error(`"${name}" has nothing to change in ${url}: bring it up to date`);
        source = source.replace(from, () => to);
      }
      return { ...loaded, source };
    },
  });
}
