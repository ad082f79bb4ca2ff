/** Owns the targets that lie beside images: stamp and live journal of a killed server, note of a base, merge journal, stack file. */
import { encodeHead } from "../../../src/lib/formats/cowfile/head.ts";
import { encodeRecord } from "../../../src/lib/formats/cowfile/live/flush-log.ts";
import {
  ENTRY_BYTES,
  EntryCodec,
  JOURNAL_HEADER_BYTES,
  journalPath,
  logOffset,
  writeJournalHeader,
} from "../../../src/lib/formats/cowfile/live/journal.ts";
import { FLAG_LIVE, writeStamp } from "../../../src/lib/formats/cowfile/live/stamp.ts";
import {
  check,
  create,
  decodeHead,
  info,
  MemoryDevice,
  MemoryStorage,
  merge,
  openStack,
  repair,
  SparseBytes,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { decodeStackDocument, encodeStackDocument } from "../../../src/lib/stack/stack-document.ts";
import { documentOf, partsOf, readStackFile } from "../../../src/lib/stack/stack-file.ts";
import { base, sample } from "../../support/images/hostile-sample.ts";
import type { Target } from "../engine.ts";
import { Input, refusalOrResult } from "./input.ts";

const BOOT = new Uint8Array(16).fill(7);
/** Another start of the machine: then the flush log counts. */
const LATER = new Uint8Array(16).fill(8);
const NONCE = new Uint8Array(16).fill(9);
const SLOTS = 16;
const SECTOR_BYTES = 512;

/** A cowfile as a killed server leaves it, with a journal of these entries. */
function crashed(entries: readonly (readonly [first: number, count: number, slot: number])[]): [Buffer, Buffer] {
  const cow = sample("le64");
  const sector = Uint8Array.from(cow.subarray(0, SECTOR_BYTES));
  encodeHead({ ...decodeHead(cow, "cow"), flags: 1 | FLAG_LIVE }, sector);
  writeStamp({ nonce: NONCE, boot: BOOT, offset: 448, usesLog: true, logDone: 1, generation: 5 }, sector);
  cow.set(sector);
  // Every run is in the flush log, too, with data for its first half block.
  const records = entries.map(([first], i) =>
    encodeRecord(
      { number: i + 1, extents: [{ offset: first * 1024, length: SECTOR_BYTES }], data: new Uint8Array(SECTOR_BYTES) },
      NONCE,
    ),
  );
  const recordsAt = logOffset(SLOTS);
  let log = Buffer.alloc(recordsAt + records.reduce((sum, { length }) => sum + length, 0));
  let at = recordsAt;
  for (const record of records) {
    log.set(record, at);
    at += record.length;
  }
  const content = SparseBytes.from(log);
  writeJournalHeader(new MemoryDevice("journal", content), {
    nonce: NONCE,
    slotsPerHalf: SLOTS,
    generation: 5,
    kept: [{ first: 3, count: 2 }],
  });
  log = Buffer.from(content.toBytes());
  const codec = new EntryCodec(NONCE);
  for (const [first, count, slot] of entries) {
    const words = new Uint32Array(4);
    codec.encode(first, count, words, 0);
    log.set(new Uint8Array(words.buffer), JOURNAL_HEADER_BYTES + (slot % (2 * SLOTS)) * ENTRY_BYTES);
  }
  return [cow, log];
}

/** Entries with right checksums, of any blocks; then single bytes of cowfile and journal that are something else. */
export const journal: Target = {
  seeds: () => [
    Uint8Array.of(0),
    Uint8Array.of(2, 4, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 1),
    Uint8Array.of(1, 5, 0, 0, 0, 1, 0, 0, 16, 1, 20, 0, 1, 0, 6, 0, 3),
  ],
  run: async (bytes) => {
    const input = new Input(bytes);
    const entries: [number, number, number][] = [];
    for (let count = input.number(1) % SLOTS; count > 0; count--)
      entries.push([input.number(4), input.number(3), input.number(1)]);
    const files = crashed(entries);
    while (!input.isOver) {
      const file = files[input.number(1) % 2];
      const at = input.number(2);
      if (file) file[at % file.length] = input.number(1);
    }
    for (const work of [
      async (storage: MemoryStorage) => {
        (await ServedStack.open(storage, "base,cow", { access: "writable", boot: BOOT })).close();
      },
      async (storage: MemoryStorage) => {
        (await ServedStack.open(storage, "base,cow", { access: "writable", boot: LATER })).close();
      },
      async (storage: MemoryStorage) => {
        const stack = await ServedStack.open(storage, "base,cow", {
          access: "writable",
          boot: BOOT,
          repair: true,
        });
        const image = stack.image();
        image.write(new Uint8Array(700).fill(1), 5000);
        image.flush();
        stack.close();
        // What a server leaves in order is in order.
        (await ServedStack.open(storage, "base,cow", { access: "writable", boot: BOOT })).close();
      },
      (storage: MemoryStorage) => repair("cow", {}, { storage }),
      async (storage: MemoryStorage) => {
        for (const _ of (await check("cow", { rdofile: "base" }, { storage })).problems) void _;
      },
      (storage: MemoryStorage) => info("cow", {}, { storage }),
    ]) {
      const storage = new MemoryStorage();
      storage.put("base", base);
      storage.put("cow", files[0]);
      storage.put(journalPath("cow"), files[1]);
      await refusalOrResult(() => work(storage));
    }
  },
};

const JSON_WORDS = [
  "null",
  "-1",
  "0",
  "1e999",
  "9007199254740993",
  "[]",
  "{}",
  '""',
  "true",
  "[[",
  "]]",
  ",",
  ":",
  '"\\u0000"',
  "1.5", // biome-ignore format: a row of words
];

/** Where in the base the last of two runs of changed blocks is. */
const SECOND_PLACE = 8 * 1024;

async function withNote(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  const changed = Buffer.from(base);
  changed.fill(7, 2048, 4096);
  changed.fill(0, 1024, 2048);
  changed.fill(9, SECOND_PLACE, SECOND_PLACE + 1024);
  storage.put("base", base);
  storage.put("changed", changed);
  await create("base", "cow", { from: "changed" }, { storage });
  return storage.clone();
}

const NOTE = "cow.cowtool-base";
let noted: MemoryStorage | undefined;

export const note: Target = {
  seeds: async () => {
    const merged = await withNote();
    const seeds = [Buffer.from(merged.content(NOTE)?.toBytes() ?? [])];
    await merge("base", "cow", {}, { storage: merged });
    seeds.push(Buffer.from(merged.content(NOTE)?.toBytes() ?? []));
    return seeds;
  },
  words: JSON_WORDS,
  run: async (input) => {
    noted ??= await withNote();
    for (const work of [
      (storage: MemoryStorage) => check("cow", { rdofile: "base" }, { storage }),
      (storage: MemoryStorage) => verifyFingerprint("base", "cow", {}, { storage }),
      (storage: MemoryStorage) => merge("base", "cow", {}, { storage }),
      (storage: MemoryStorage) => create("base", "cow", { force: true }, { storage }),
    ]) {
      const storage = noted.clone();
      storage.put(NOTE, input);
      // A base that is another than the note's shows what it makes of the difference.
      if (input.length % 2 === 1) storage.put("base", storage.content("changed")?.clone() ?? base);
      await refusalOrResult(() => work(storage));
    }
  },
};

const JOURNAL = "base.cowtool-merge";
let halfMerged: MemoryStorage | undefined;

/** A merge that was stopped when half of the base was written. */
async function stopped(): Promise<MemoryStorage> {
  const storage = await withNote();
  const base = 1; // the first file that was put there
  storage.onChange = (change) => {
    if (change.kind !== "device" || change.file !== base || change.change.kind !== "write") return;
    if (change.change.offset >= SECOND_PLACE) throw new Error("stopped");
  };
  await merge("base", "cow", { undo: "undo" }, { storage }).catch((error: unknown) => {
    if (String(error) !== "Error: stopped") throw error;
  });
  storage.onChange = () => undefined;
  if (!storage.content(JOURNAL)) throw new Error("the merge left no journal");
  return storage;
}

export const mergeJournal: Target = {
  seeds: async () => {
    halfMerged = await stopped();
    return [halfMerged.content(JOURNAL)?.toBytes() ?? Buffer.from("{}")];
  },
  words: JSON_WORDS,
  run: async (input) => {
    halfMerged ??= await stopped();
    for (const work of [
      (storage: MemoryStorage) => merge("base", "cow", { undo: "undo" }, { storage }),
      (storage: MemoryStorage) => merge("base", "cow", { force: true }, { storage }),
      (storage: MemoryStorage) => merge("base", "undo", {}, { storage }),
      (storage: MemoryStorage) => create("base", "new", {}, { storage }),
      (storage: MemoryStorage) => info("cow", { rdofile: "base" }, { storage }),
    ]) {
      const storage = halfMerged.clone();
      storage.put(JOURNAL, input);
      await refusalOrResult(() => work(storage));
    }
  },
};

const STACK_WORDS = [
  ...JSON_WORDS,
  '"base"',
  '"layers"',
  '"file"',
  '"uri"',
  '"format"',
  '"settings"',
  '"more_files"',
  '"checkpoint"',
  '"shared"',
  '"x_a"',
  '"qcow2"',
  '"raw"',
  '"snap"',
  '"nbd://h/e"',
  '"cow"',
  '"\\ud800"',
];
const STACK = { cowtool_stack: 1, base: { file: "base" }, layers: [{ file: "cow" }] } as const;
const CHECKPOINT = { name: "a", time: "2026-11-29T12:00:00Z", note: "b" };

/** Whatever it says: what is read can be written again, and is the same then; and it can be opened, or is refused. */
export const stackFile: Target = {
  seeds: () =>
    [
      STACK,
      { ...STACK, base: { uri: "nbd://h/e" }, x_more: [1] },
      { ...STACK, layers: [{ file: "cow", checkpoint: CHECKPOINT, shared: true, format: "cowfile" }] },
      { ...STACK, layers: [{ file: "a", format: "snap", settings: { word: "4" }, more_files: ["b"] }] },
    ].map((document) => Buffer.from(JSON.stringify(document))),
  words: STACK_WORDS.map((word) => Buffer.from(word)),
  run: async (bytes) => {
    const storage = await withNote();
    storage.put("vm.stack", bytes);
    await refusalOrResult(() => {
      const { document } = readStackFile(storage, "vm.stack");
      const again = decodeStackDocument(encodeStackDocument(document, "vm.stack"), "vm.stack");
      if (JSON.stringify(again) !== JSON.stringify(document)) throw new Error("it is not what was written");
      documentOf(storage, "vm.stack", partsOf({ name: "vm.stack", path: "vm.stack", document }));
    });
    await refusalOrResult(async () => (await openStack(storage, "stack:vm.stack")).close());
    await refusalOrResult(() => info("stack:vm.stack", {}, { storage }));
    await refusalOrResult(() => info("vm.stack", {}, { storage }));
  },
};
