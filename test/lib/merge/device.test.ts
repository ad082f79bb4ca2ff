/**
 * Proves that an interrupted merge into a block device is known to every command that would misuse the device, though it
 * has no directory for a journal: by the notes kept under its key, and by the journal beside the cowfile. In memory.
 */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { deviceKey } from "../../../src/lib/device/sys/device-key.ts";
import {
  CowError,
  create,
  diff,
  type FileFacts,
  MemoryStorage,
  merge,
  type Notice,
  type PendingFile,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const BLOCK = 1024;
const BLOCKS = 200;
const BASE = Buffer.from(noise(BLOCKS * BLOCK, 1));
const CHANGED = Buffer.from(BASE);
for (const block of [0, 5, 6, 7, 60, 199]) CHANGED.set(noise(BLOCK, 50 + block), block * BLOCK);
const OTHER = Buffer.from(BASE);
OTHER.set(noise(BLOCK, 9), 20 * BLOCK);

const LASTING = { key: "serial 4711", boot: null };
const FIRST_BOOT = { key: "boot-1 8:0", boot: "boot-1" };

/** /dev/disk, cows/vm.cow over it, and two siblings of that, one of them far away. */
async function start(device = LASTING as NonNullable<FileFacts["device"]>): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base.img", BASE);
  storage.put("changed.img", CHANGED);
  storage.put("other.img", OTHER);
  await create("base.img", "cows/vm.cow", { from: "changed.img" }, { storage });
  for (const path of ["cows/near.cow", "far/far.cow"])
    await create("base.img", path, { from: "other.img" }, { storage });
  storage.putDevice("/dev/disk", BASE, device);
  return storage.clone();
}

class Killed extends Error {}

/** Kills the merge just before its change number `limit`. */
async function killedAt(initial: MemoryStorage, limit: number, undo?: string): Promise<MemoryStorage | undefined> {
  const storage = initial.clone();
  storage.onChange = (_change, index) => {
    if (index >= limit) throw new Killed();
  };
  try {
    await merge("/dev/disk", "cows/vm.cow", undo === undefined ? {} : { undo }, { storage });
    return undefined;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    return storage.clone();
  }
}

/** After the first block and before the last. */
async function interrupted(initial: MemoryStorage, undo?: string): Promise<MemoryStorage> {
  for (let limit = 0; ; limit++) {
    const storage = await killedAt(initial, limit, undo);
    if (!storage) throw new Error("it was done before it had begun");
    const now = bytesOf(storage, "/dev/disk");
    if (!now.equals(BASE) && !now.equals(CHANGED)) return storage;
  }
}

function bytesOf(storage: MemoryStorage, path: string): Buffer {
  return Buffer.from(storage.content(path)?.toBytes() ?? []);
}

function journalsIn(storage: MemoryStorage): string[] {
  return storage.paths().filter((path) => path.endsWith(".cowtool-merge"));
}

/** The same content on another machine or after another boot: a device of that path and key. */
function moved(storage: MemoryStorage, path: string, device: NonNullable<FileFacts["device"]>): MemoryStorage {
  const copy = storage.clone();
  copy.putDevice(path, bytesOf(storage, "/dev/disk"), device);
  return copy;
}

const pending = { code: "pending-merge", file: "/dev/disk" };

describe("a merge into a block device that was killed", () => {
  test("is completed by the same command, wherever it was killed, and leaves no journal", async () => {
    const initial = await start();
    let resumed = 0;
    for (let limit = 0; ; limit++) {
      const storage = await killedAt(initial, limit);
      if (!storage) break;
      const result = await merge("/dev/disk", "cows/vm.cow", {}, { storage });
      if (result.resumed) resumed++;
      expect(bytesOf(storage, "/dev/disk").equals(CHANGED), `killed before change ${limit}`).toBe(true);
      expect(journalsIn(storage), `killed before change ${limit}`).toEqual([]);
    }
    expect(resumed).toBeGreaterThan(5);
  });

  test("is refused as a base by create, other merges, stacks; of the bare device a warning is given", async () => {
    const storage = await interrupted(await start());
    const context = { storage };
    for (const work of [
      () => create("/dev/disk", "new.cow", {}, context),
      () => create("base.img", "new.cow", { from: "/dev/disk" }, context),
      () => create("/dev/disk,far/far.cow", "new.cow", {}, context),
      () => merge("/dev/disk", "far/far.cow", {}, context),
      () => merge("/dev/disk", "far/far.cow", { dryRun: true }, context),
      () => merge("/dev/disk", "far/far.cow", { output: "new.img" }, context),
      () => diff("/dev/disk,far/far.cow", "base.img", {}, context),
    ])
      await expect(work()).rejects.toMatchObject(pending);
    const notices: Notice[] = [];
    await verifyFingerprint("/dev/disk", "far/far.cow", {}, { storage, onNotice: (notice) => notices.push(notice) });
    expect(notices).toMatchObject([{ severity: "warning", file: "/dev/disk" }]);
    expect(notices[0]?.message).toMatch(/holds a part of cows\/vm\.cow/);
    expect(storage.log).toEqual([]);
  });

  test("is taken back by its undo file, wherever that lies, and no journal is left", async () => {
    const initial = await start();
    for (const undo of ["far/undo.cow", "cows/undo.cow"]) {
      const storage = await interrupted(initial, undo);
      expect(journalsIn(storage)).toHaveLength(2);
      const result = await merge("/dev/disk", undo, {}, { storage });
      expect(result.taken_back).toBe(true);
      expect(bytesOf(storage, "/dev/disk").equals(BASE)).toBe(true);
      expect(journalsIn(storage)).toEqual([]);
      await create("/dev/disk", "new.cow", {}, { storage });
    }
  });

  test("is known under another path and after a reboot, where the device says who it is", async () => {
    const storage = moved(await interrupted(await start(), "far/undo.cow"), "/dev/other", LASTING);
    storage.remove("cows/vm.cow.cowtool-merge");
    await expect(create("/dev/other", "new.cow", {}, { storage })).rejects.toMatchObject({ code: "pending-merge" });
    await merge("/dev/other", "cows/vm.cow", {}, { storage });
    expect(bytesOf(storage, "/dev/other").equals(CHANGED)).toBe(true);
    expect(journalsIn(storage)).toEqual([]);
  });

  test("is known after a reboot beside its cowfile, where the device says nothing but has its path and size", async () => {
    const half = await interrupted(await start(FIRST_BOOT), "cows/undo.cow");
    const after = { key: "boot-2 8:0", boot: "boot-2" };
    const storage = moved(half, "/dev/disk", after);
    await expect(merge("/dev/disk", "cows/near.cow", {}, { storage })).rejects.toMatchObject(pending);
    await expect(create("/dev/disk", "cows/new.cow", {}, { storage })).rejects.toMatchObject(pending);
    // Who comes from elsewhere cannot know; and another path, or another size, is another device.
    await create("/dev/disk", "far/new.cow", {}, { storage });
    await create("/dev/sdz", "cows/new.cow", {}, { storage: moved(half, "/dev/sdz", after) });
    const resumed = await merge("/dev/disk", "cows/vm.cow", {}, { storage: storage.clone() });
    expect(resumed.resumed).toBe(true);
    await merge("/dev/disk", "cows/undo.cow", {}, { storage });
    expect(bytesOf(storage, "/dev/disk").equals(BASE)).toBe(true);
    expect(journalsIn(storage)).toEqual([]);
  });

  test("is not taken back onto a device that only looks like it", async () => {
    const half = await interrupted(await start(FIRST_BOOT), "cows/undo.cow");
    const storage = half.clone();
    const foreign = noise(BLOCKS * BLOCK, 77);
    storage.putDevice("/dev/disk", foreign, { key: "boot-2 8:0", boot: "boot-2" });
    await expect(merge("/dev/disk", "cows/undo.cow", {}, { storage })).rejects.toMatchObject({ code: "wrong-base" });
    expect(bytesOf(storage, "/dev/disk").equals(Buffer.from(foreign))).toBe(true);
    await merge("/dev/disk", "cows/undo.cow", { force: true }, { storage });
  });

  test("keeps its cowfile from being merged into another device first", async () => {
    const storage = await interrupted(await start());
    storage.putDevice("/dev/second", BASE, { key: "serial 4712", boot: null });
    const work = merge("/dev/second", "cows/vm.cow", {}, { storage });
    await expect(work).rejects.toMatchObject({ code: "pending-merge", file: "cows/vm.cow" });
    expect(storage.log).toEqual([]);
    await merge("/dev/second", "cows/vm.cow", { output: "new.img" }, { storage });
    expect(bytesOf(storage, "new.img").equals(CHANGED), "to read it is another matter").toBe(true);
    await merge("/dev/disk", "cows/vm.cow", {}, { storage });
    await merge("/dev/second", "cows/vm.cow", {}, { storage });
    expect(bytesOf(storage, "/dev/second").equals(CHANGED)).toBe(true);
  });

  test("removes no file that its journal only says to be one of its places", async () => {
    const storage = await interrupted(await start());
    const path = "cows/vm.cow.cowtool-merge";
    const journal = JSON.parse(bytesOf(storage, path).toString("utf8")) as Record<string, unknown>;
    const bait = {
      precious: "1",
      "a.cowtool-merge": "2",
      "b.cowtool-merge": JSON.stringify({ ...journal, cowfile_digest: "x" }),
    };
    for (const [name, text] of Object.entries(bait)) storage.put(name, Buffer.from(text));
    for (const name of journalsIn(storage).filter((name) => !(name in bait)))
      storage.put(name, Buffer.from(JSON.stringify({ ...journal, places: [path, ...Object.keys(bait)] })));
    await merge("/dev/disk", "cows/vm.cow", {}, { storage });
    expect(journalsIn(storage)).toEqual(["a.cowtool-merge", "b.cowtool-merge"]);
    expect(storage.paths()).toContain("precious");
  });
});

test("where no note can be kept the merge is done, with a warning of what that means", async () => {
  class Stateless extends MemoryStorage {
    override create(path: string): PendingFile {
      if (path.startsWith("state/"))
        throw new CowError("permission", "cannot create: permission denied", { file: path });
      return super.create(path);
    }
  }
  const storage = new Stateless();
  storage.putDevice("/dev/disk", BASE, LASTING);
  storage.put("vm.cow", bytesOf(await start(), "cows/vm.cow"));
  const notices: Notice[] = [];
  await merge("/dev/disk", "vm.cow", {}, { storage, onNotice: (notice) => notices.push(notice) });
  expect(notices).toHaveLength(1);
  expect(notices[0]?.message).toMatch(
    /^no copy of the merge journal can be kept there: .* only vm\.cow\.cowtool-merge records it$/,
  );
  expect(storage.paths()).toEqual(["/dev/disk", "vm.cow"]);
  expect(bytesOf(storage, "/dev/disk").equals(CHANGED)).toBe(true);
});

describe("the key of a device", () => {
  const at = scratchDirectory();
  let count = 0;
  /** A sysfs in which 8:1 is a folder with those files, below one with those of its disk. */
  function keyOf(
    files: Readonly<Record<string, string>>,
    disk: Readonly<Record<string, string>> = {},
  ): ReturnType<typeof deviceKey> {
    const root = at(`${count++}`);
    mkdirSync(`${root}/dev/block`, { recursive: true });
    for (const [folder, entries] of [
      [`${root}/disk`, disk],
      [`${root}/disk/part`, files],
    ] as const)
      for (const [name, text] of Object.entries(entries)) {
        mkdirSync(`${folder}/${name}`.replace(/\/[^/]+$/, ""), { recursive: true });
        writeFileSync(`${folder}/${name}`, text);
      }
    mkdirSync(`${root}/disk/part`, { recursive: true });
    symlinkSync("../../disk/part", `${root}/dev/block/8:1`);
    return deviceKey(0x801, root);
  }

  test("lasts where sysfs knows what the device is", () => {
    expect(keyOf({ wwid: "naa.5000\n", serial: "S1\n" })).toEqual({ key: "wwid naa.5000", boot: null });
    expect(keyOf({ serial: "S1\n" }).key).toBe("serial S1");
    expect(keyOf({ "dm/uuid": "LVM-abc\n" }).key).toBe("dm/uuid LVM-abc");
    const loop = { "loop/backing_file": "/srv/disk.img\n", "loop/offset": "0\n", "loop/sizelimit": "0\n" };
    expect(keyOf(loop)).toEqual({ key: "loop 0 0 /srv/disk.img", boot: null });
    expect(keyOf({ partition: "2\n", start: "2048\n" }, { wwid: "naa.5000\n" }).key).toBe(
      "wwid naa.5000 partition 2 at 2048",
    );
  });

  test("is its number in this boot where nothing is known", () => {
    for (const known of [{}, { serial: "\n" }, { partition: "2\n" }, { "loop/backing_file": "/gone (deleted)\n" }]) {
      const { key, boot } = keyOf(known);
      expect(key).toBe(`${boot} 8:1`);
      expect(boot).not.toBeNull();
    }
  });
});
