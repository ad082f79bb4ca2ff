/**
 * Proves what becomes of a cowfile whose last session did not end in order: a journal counts for no other moment and no
 * other file than its own, what was there before a session is never swept, and what no flush covered before a restart is
 * kept in a cowfile of its own.
 */

import { crc32 } from "node:zlib";
import { expect, test, vi } from "vitest";
import { bootId } from "../../../src/lib/device/sys/boot.ts";
import { encodeRecord, readLog } from "../../../src/lib/formats/cowfile/live/flush-log.ts";
import { JOURNAL_HEADER_BYTES, journalPath, readJournal } from "../../../src/lib/formats/cowfile/live/journal.ts";
import { check, create, diff, info, MemoryDevice, MemoryStorage, repair, SparseBytes } from "../../../src/lib/index.ts";
import { readLong, writeLong } from "../../../src/lib/stack/live/head-writer.ts";
import { WritableCowfile } from "../../../src/lib/stack/live/open-cowfile.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { Control } from "../../../src/lib/stack/live/shared-state.ts";

const BLOCK = 1024;
const BLOCKS = 400;
const DATA = 4096;
const BOOT = new Uint8Array(16).fill(7);
const LATER = new Uint8Array(16).fill(8);
const JOURNAL = journalPath("cow");
const UNFLUSHED = "cow.cowtool-unflushed";

async function fresh(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base", new Uint8Array(BLOCKS * BLOCK).fill(3));
  await create("base", "cow", {}, { storage });
  return storage;
}

function block(fill: number, count = 1): Uint8Array {
  return new Uint8Array(count * BLOCK).fill(fill);
}

async function serve(storage: MemoryStorage, boot = BOOT, notices: string[] = []): Promise<ServedStack> {
  const onNotice = ({ message }: { message: string }): void => void notices.push(message);
  return ServedStack.open(storage, "base,cow", { access: "writable", boot, onNotice });
}

/** Serves, does `work`, and is killed. */
async function killed(storage: MemoryStorage, work: (image: ReturnType<ServedStack["image"]>) => void, boot = BOOT) {
  const stack = await serve(storage, boot);
  const image = stack.image();
  work(image);
  image.commit();
  stack.abandon();
}

async function readAt(storage: MemoryStorage, at: number, boot = BOOT): Promise<number | undefined> {
  const stack = await serve(storage, boot);
  const bytes = new Uint8Array(1);
  stack.image().read(bytes, at * BLOCK);
  stack.close();
  return bytes[0];
}

function copyOf(storage: MemoryStorage, path: string): SparseBytes {
  const content = storage.content(path);
  if (!content) throw new Error(`no ${path}`);
  return content.clone();
}

async function problemsOf(storage: MemoryStorage): Promise<string[]> {
  return [...(await check("cow", {}, { storage })).problems].map(({ id }) => id);
}

test("data that had no mark before a session is left alone by whatever comes after it", async () => {
  for (const end of ["close", "kill, serve", "kill, repair"] as const) {
    const storage = await fresh();
    storage.content("cow")?.write(block(0x55), DATA + 100 * BLOCK);
    const notices: string[] = [];
    const stack = await serve(storage, BOOT, notices);
    expect(notices.join()).toMatch(/1 unallocated block, from block 100 .*repair -f/);
    const image = stack.image();
    image.write(block(9), 5 * BLOCK);
    image.commit();
    if (end === "close") stack.close();
    else stack.abandon();
    if (end === "kill, serve") (await serve(storage)).close();
    if (end === "kill, repair") expect((await repairAt(storage, BOOT)).unmarkedBlocks).toBe(1);
    const left = new Uint8Array(1);
    storage.content("cow")?.read(left, DATA + 100 * BLOCK);
    expect([end, left[0]]).toEqual([end, 0x55]);
    expect(await readAt(storage, 100), end).toBe(3);
    expect(await readAt(storage, 5), end).toBe(9);
    const forced = await repair("cow", { force: true }, { storage });
    expect([...forced.marked], end).toEqual([{ offset: 100 * BLOCK, length: BLOCK }]);
  }
});

/** Repairs with another boot id than the machine's. */
async function repairAt(storage: MemoryStorage, boot: Uint8Array, dryRun = false) {
  const { repairCowfile } = await import("../../../src/lib/formats/cowfile/check.ts");
  const { asideFile } = await import("../../../src/lib/stack/live/aside-file.ts");
  const companion = (suffix: string) => (storage.content(`cow${suffix}`) ? storage.open(`cow${suffix}`) : undefined);
  const aside = () => asideFile(storage, "cow");
  const how = { dryRun, force: false, dropLost: false, boot, companion, aside };
  return repairCowfile(storage.open("cow", { writable: true }), how);
}

test("after a restart, what no flush covered is moved to a cowfile of its own", async () => {
  for (const way of ["serve", "repair"] as const) {
    const storage = await fresh();
    await killed(storage, (image) => {
      image.write(block(1, 4), 10 * BLOCK);
      image.flush();
      image.write(block(2, 3), 20 * BLOCK);
      image.zero(40 * BLOCK, 2 * BLOCK, { mayPunch: true });
      image.commit();
    });
    if (way === "serve") {
      const notices: string[] = [];
      (await serve(storage, LATER, notices)).close();
      expect(notices.join()).toMatch(/^5 blocks were written .*moved to cow.cowtool-unflushed/);
    } else {
      const tried = await repairAt(storage, LATER, true);
      expect([tried.setAside.totalBytes, tried.setAsideFile]).toEqual([5 * BLOCK, undefined]);
      expect(storage.content(UNFLUSHED)).toBeUndefined();
      expect((await repairAt(storage, LATER)).setAsideFile).toBe(UNFLUSHED);
    }
    expect([await readAt(storage, 10), await readAt(storage, 20), await readAt(storage, 40)], way).toEqual([1, 3, 3]);
    const { extents } = await diff("base", `base,${UNFLUSHED}`, {}, { storage });
    expect([...extents], way).toEqual([
      { offset: 20 * BLOCK, length: 3 * BLOCK, kind: "changed" },
      { offset: 40 * BLOCK, length: 2 * BLOCK, kind: "changed" },
    ]);
    expect((await info(UNFLUSHED, {}, { storage })).facts["blocks_used"]).toBe(5);
    // Nothing is left in the cowfile for a search to bring back.
    expect((await repair("cow", { force: true }, { storage })).marked.totalBytes, way).toBe(0);
  }
});

test("nothing is swept when what is in doubt could not be kept", async () => {
  const storage = await fresh();
  await killed(storage, (image) => image.write(block(2, 3), 20 * BLOCK));
  storage.onChange = (change) => {
    if (change.kind === "name" && change.path === UNFLUSHED) throw new Error("full");
  };
  await expect(serve(storage, LATER)).rejects.toThrow("full");
  await expect(repairAt(storage, LATER)).rejects.toThrow("full");
  storage.onChange = () => undefined;
  expect((await repairAt(storage, LATER)).setAside.totalBytes).toBe(3 * BLOCK);
});

test("killed at any change of a recovery after a restart, what was set aside stays what it was", async () => {
  const left = await fresh();
  await killed(left, (image) => {
    image.write(block(1), 5 * BLOCK);
    image.flush();
    image.write(block(2, 3), 20 * BLOCK);
    image.write(block(2, 2), 300 * BLOCK);
  });
  for (const way of ["serve", "repair"] as const) {
    const recover = (storage: MemoryStorage, boot: typeof BOOT): Promise<unknown> =>
      way === "serve" ? serve(storage, boot).then((stack) => stack.close()) : repairAt(storage, boot);
    const stages: MemoryStorage[] = [];
    const tried = left.clone();
    tried.onChange = () => void (tried.content(UNFLUSHED) && stages.push(tried.clone()));
    await recover(tried, LATER);
    expect(stages.length).toBeGreaterThan(4);
    for (const [i, storage] of stages.entries()) {
      const carriedBack = storage.clone();
      await recover(storage, LATER);
      const asides = storage.paths().filter((path) => path.startsWith(UNFLUSHED));
      const found = new Set<number>();
      for (const path of asides) {
        for (const { offset, length } of (await diff("base", `base,${path}`, {}, { storage })).extents) {
          const bytes = new Uint8Array(length);
          storage.content(path)?.read(bytes, DATA + offset);
          expect(bytes, `${way} ${i} ${path} ${offset}`).toEqual(new Uint8Array(length).fill(2));
          for (let at = offset; at < offset + length; at += BLOCK) found.add(at / BLOCK);
        }
      }
      expect(
        [...found].sort((a, b) => a - b),
        `${way} ${i}`,
      ).toEqual([20, 21, 22, 300, 301]);
      expect([await readAt(storage, 5), await readAt(storage, 20)], `${way} ${i}`).toEqual([1, 3]);
      // Carried back to the machine that has not been restarted: all of it, or what was swept is not shown as zeros.
      await repairAt(carriedBack, BOOT);
      expect([2, 3], `${way} ${i}, carried back`).toContain(await readAt(carriedBack, 20));
    }
  }
});

test("serve --repair of a file that was also cut short loses nothing that the journal has, nor shows what is in doubt", async () => {
  for (const [boot, zeros, data] of [
    [BOOT, 0, 2],
    [LATER, 3, 3],
  ] as const) {
    const storage = await fresh();
    await killed(storage, (image) => {
      image.write(block(1), 390 * BLOCK);
      image.flush();
      image.zero(10 * BLOCK, 2 * BLOCK, { mayPunch: false });
      image.write(block(2), 20 * BLOCK);
    });
    storage.content("cow")?.resize(DATA + 380 * BLOCK);
    const options = { access: "writable", boot, repair: true } as const;
    await expect(ServedStack.open(storage, "base,cow", options)).rejects.toThrow(
      "the data of some allocated blocks is beyond",
    );
    expect(storage.content(JOURNAL)).toBeUndefined();
    expect(storage.paths().includes(UNFLUSHED)).toBe(boot === LATER);
    await repair("cow", { dropLost: true }, { storage });
    expect([await readAt(storage, 10, boot), await readAt(storage, 20, boot)]).toEqual([zeros, data]);
  }
});

test("a second file is begun where there is one already", async () => {
  const storage = await fresh();
  for (const at of [20, 30]) {
    const boot = new Uint8Array(16).fill(at);
    await killed(storage, (image) => image.write(block(2), at * BLOCK), boot);
    (await serve(storage, LATER)).close();
  }
  expect(storage.paths()).toEqual(expect.arrayContaining([UNFLUSHED, `${UNFLUSHED}.2`]));
});

test("a journal is not believed for an older copy of its cowfile, nor an older journal for a newer cowfile", async () => {
  const storage = await fresh();
  const stack = await serve(storage);
  const image = stack.image();
  image.write(block(1), 10 * BLOCK);
  image.flush();
  const older = { cow: copyOf(storage, "cow"), journal: copyOf(storage, JOURNAL) };
  for (let i = 0; i < 70; i++) {
    const until = Date.now() + 2;
    while (Date.now() < until);
    image.write(block(2), (100 + i) * BLOCK);
    image.commit();
  }
  stack.abandon();
  const newer = { cow: copyOf(storage, "cow"), journal: copyOf(storage, JOURNAL) };
  for (const [cow, journal, fault] of [
    [older.cow, newer.journal, "the cowfile is an older copy"],
    [newer.cow, older.journal, "is an older copy"],
  ] as const) {
    storage.put("cow", cow.clone());
    storage.put(JOURNAL, journal.clone());
    await expect(serve(storage)).rejects.toThrow(fault);
    expect((await repairAt(storage, BOOT)).isJournalSpent).toBe(false);
    expect(storage.content(JOURNAL)).toBeDefined();
    // Blocks that the copy does not hold read as the base's.
    expect(await readAt(storage, 300)).toBe(3);
  }
  storage.put("cow", newer.cow);
  storage.put(JOURNAL, newer.journal);
  expect([await readAt(storage, 10), await readAt(storage, 169)]).toEqual([1, 2]);
});

test("many checkpoints within a millisecond do not make a journal seem older than its cowfile", async () => {
  const storage = await fresh();
  let now = 1000;
  const clock = vi.spyOn(Date, "now").mockImplementation(() => now);
  let at = 0;
  await killed(storage, (image) => {
    const batch = (blocks: number): void => {
      for (let i = 0; i < blocks; i++, at += 2) image.write(new Uint8Array(100).fill(1), at * BLOCK);
      image.commit();
    };
    for (; now < 1100; now++) {
      batch(1);
      image.flush();
    }
    // The half that has the latest generation comes into use again, with more entries than before.
    for (const blocks of [1, 3, 3, 3]) {
      image.flush();
      batch(blocks);
    }
  });
  clock.mockRestore();
  expect(await readAt(storage, at - 2)).toBe(1);
});

test("a journal that may be of use to another cowfile gets another name, one that is not goes", async () => {
  const storage = await fresh();
  await killed(storage, (image) => image.write(block(1), 10 * BLOCK));
  // The cowfile is moved away, and a new one made under its name.
  storage.rename("cow", "moved", { replace: false });
  await create("base", "cow", {}, { storage });
  const notices: string[] = [];
  (await serve(storage, BOOT, notices)).close();
  expect(notices.join()).toMatch(/kept as cow.cowtool-live.old/);
  storage.rename(`${JOURNAL}.old`, journalPath("moved"), { replace: false });
  const moved = await ServedStack.open(storage, "base,moved", { access: "writable", boot: BOOT });
  expect(moved.found).toBe("recovered");
  moved.close();
  // Killed between the clean head and the removal of the journal.
  const stack = await serve(storage);
  stack.image().write(block(1), 10 * BLOCK);
  storage.onChange = (change) => {
    if (change.kind === "name" && change.path === JOURNAL && change.file === undefined) throw new Error("killed");
  };
  expect(() => stack.close()).toThrow("killed");
  storage.onChange = () => undefined;
  (await serve(storage)).close();
  expect(storage.paths().filter((path) => path.includes("cowtool-live"))).toEqual([]);
});

test("a server removes no journal but its own", async () => {
  const storage = await fresh();
  const first = await serve(storage);
  first.image().write(block(1), 10 * BLOCK);
  storage.rename("cow", "old", { replace: false });
  storage.remove(JOURNAL);
  await create("base", "cow", {}, { storage });
  const second = await serve(storage);
  first.close();
  expect(storage.content(JOURNAL)).toBeDefined();
  second.close();
  expect(storage.content(JOURNAL)).toBeUndefined();
});

test("the numbers of the flush log's records do not begin anew at 2^32", async () => {
  const storage = await fresh();
  let config: WritableCowfile["shared"]["config"] | undefined;
  const { open } = WritableCowfile;
  WritableCowfile.open = (...parameters) => {
    const cowfile = open.apply(WritableCowfile, parameters);
    ({ config } = cowfile.shared);
    return cowfile;
  };
  const stack = await serve(storage);
  WritableCowfile.open = open;
  const control = config?.state.control ?? new Int32Array(0);
  writeLong(control, Control.LOG_NUMBER, 2 ** 32 - 2);
  const image = stack.image();
  // The first two flushes are checkpoints, the second announces the log; the others are records.
  for (let i = 0; i < 6; i++) {
    image.write(block(10 + i), (50 + i) * BLOCK);
    image.flush();
  }
  expect(readLong(control, Control.LOG_NUMBER)).toBe(2 ** 32 + 2);
  stack.abandon();
  const journal = readJournal(storage.open(JOURNAL));
  expect(journal?.log.records.map(({ number }) => number - 2 ** 32)).toEqual([-1, 0, 1, 2]);
  for (const at of [0, 1, 2, 3, 4, 5]) expect(await readAt(storage, 50 + at, LATER)).toBe(10 + at);
});

test("a record of an earlier turn with the same lower half of its number does not follow on", () => {
  const nonce = new Uint8Array(16).fill(1);
  const record = (number: number): Uint8Array =>
    encodeRecord({ number, extents: [{ offset: 0, length: 512 }], data: new Uint8Array(512) }, nonce);
  const bytes = Buffer.concat([record(2 ** 32 + 7), record(8)]);
  const log = readLog(new MemoryDevice("journal", SparseBytes.from(bytes)), 0, nonce);
  expect(log.records.map(({ number }) => number)).toEqual([2 ** 32 + 7]);
});

test("the journal of an earlier cowtool counts as before", async () => {
  const storage = await fresh();
  await killed(storage, (image) => image.write(block(1), 10 * BLOCK));
  const journal = storage.content(JOURNAL);
  const header = new Uint8Array(64);
  journal?.read(header, 0);
  const view = new DataView(header.buffer);
  view.setUint32(4, 2);
  header.fill(0, 28);
  view.setUint32(28, crc32(header.subarray(0, 28)));
  journal?.write(header, 0);
  // After the entry comes the generation, which it did not have.
  journal?.write(new Uint8Array(16), JOURNAL_HEADER_BYTES + 16);
  expect(await readAt(storage, 10)).toBe(1);
});

test("check says what it means that the journal is missing", async () => {
  const storage = await fresh();
  await killed(storage, (image) => image.write(block(1), 10 * BLOCK), Uint8Array.from(bootId()));
  expect(await problemsOf(storage)).toContain("live");
  storage.remove(JOURNAL);
  expect(await problemsOf(storage)).toContain("journal-unusable");
});
