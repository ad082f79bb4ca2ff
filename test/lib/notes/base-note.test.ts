/**
 * Proves what becomes of the note beside a cowfile: which ones are believed, what merges and servers do to it, and that
 * nothing fails for want of it.
 */
import { describe, expect, test } from "vitest";
import {
  type BaseReport,
  type BlockDevice,
  CowError,
  check,
  create,
  MemoryStorage,
  merge,
  type Notice,
  type OpenOptions,
  type OperationContext,
  type PendingFile,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { BaseLooks, type Looking } from "../../../src/lib/operations/identity/serve-base.ts";
import { LowerStacks } from "../../../src/lib/stack/live/shared-lower.ts";
import { StackSpec } from "../../../src/lib/stack/spec.ts";
import {
  BASE,
  chunk,
  KIB,
  listening,
  NOTE,
  poke,
  report,
  start,
  TimedStorage,
} from "../../support/images/noted-base.ts";

describe("a base in memory", () => {
  test("has changed where it has, hidden where the cowfile holds all of it", async () => {
    const storage = await start(new MemoryStorage());
    expect(await report(storage)).toMatchObject({
      recorded: true,
      complete: true,
      verdict: "unchanged",
      compared: "all",
    });
    for (const block of [10, 41, 80, 255]) poke(storage, block);
    expect(await report(storage)).toMatchObject({
      verdict: "changed",
      shows_through: true,
      changed_extents: [chunk(10, "no"), chunk(41, "yes"), chunk(80, "partly"), chunk(255, "no")],
    });
    const { problems, worst } = await check("cow", { rdofile: "base" }, { storage });
    const ofBase = [...problems].filter(({ id }) => id.startsWith("base"));
    expect(ofBase.map(({ id, offset, length }) => [id, offset, length])).toEqual([
      ["base-changed", 4096 + 8 * KIB, 4 * KIB],
      ["base-changed-hidden", 4096 + 40 * KIB, 4 * KIB],
      ["base-changed", 4096 + 80 * KIB, 4 * KIB],
      ["base-changed", 4096 + 252 * KIB, 4 * KIB],
    ]);
    expect(worst).toMatchObject({ fixable: 0, unfixable: 3 });
  });

  test("is no reason to worry if all of it is hidden", async () => {
    const storage = await start(new MemoryStorage());
    poke(storage, 44);
    expect(await report(storage)).toMatchObject({ verdict: "changed", shows_through: false });
    expect((await check("cow", { rdofile: "base" }, { storage })).worst).toMatchObject({ fixable: 0, unfixable: 0 });
  });

  test("neighbours of one kind are one extent", async () => {
    const storage = await start(new MemoryStorage());
    for (const block of [36, 40, 44, 48, 52]) poke(storage, block);
    const { changed_extents } = await report(storage);
    expect(changed_extents).toEqual([
      { offset: 36 * KIB, length: 4 * KIB, hidden: "no" },
      { offset: 40 * KIB, length: 8 * KIB, hidden: "yes" },
      { offset: 48 * KIB, length: 8 * KIB, hidden: "no" },
    ]);
  });

  test("a stack is a base like any other, and a pack hides what its cowfile did", async () => {
    const storage = await start(new MemoryStorage());
    await create("base,cow", "top", {}, { storage });
    const of = async (): Promise<BaseReport> => (await verifyFingerprint("base,cow", "top", {}, { storage })).identity;
    expect((await of()).verdict).toBe("unchanged");
    poke(storage, 41);
    expect((await of()).verdict).toBe("unchanged");
    poke(storage, 100);
    expect((await of()).changed_extents).toEqual([chunk(100, "no")]);
  });
});

describe("times", () => {
  const timed = async (): Promise<TimedStorage> => {
    const storage = new TimedStorage();
    storage.times.set("base", 1000);
    return start(storage);
  };

  test("that are the same spare the reading, unless all is to be read", async () => {
    const storage = await timed();
    poke(storage, 10);
    expect(await report(storage)).toMatchObject({ verdict: "unchanged", compared: "times", compared_bytes: 0 });
    expect(await report(storage, "base", true)).toMatchObject({ verdict: "changed", compared: "all" });
  });

  test("before 1970 are times like any other", async () => {
    const storage = new TimedStorage();
    storage.times.set("base", -315_619_200);
    await start(storage);
    poke(storage, 10);
    expect(await report(storage)).toMatchObject({ verdict: "unchanged", compared: "times" });
    storage.times.set("base", -315_619_199);
    expect((await report(storage)).verdict).toBe("changed");
  });

  test("that differ are no change by themselves", async () => {
    const storage = await timed();
    storage.times.set("base", 1001);
    expect(await report(storage)).toMatchObject({ verdict: "touched", compared: "all", shows_through: false });
    poke(storage, 10);
    expect((await report(storage)).verdict).toBe("changed");
  });

  test("of a moment ago are not relied on, as the clock ticks slowly", async () => {
    const storage = new TimedStorage();
    storage.times.set("base", Math.floor(Date.now() / 1000) + 1);
    await start(storage);
    poke(storage, 10);
    expect((await report(storage)).verdict).toBe("changed");
  });
});

describe("create", () => {
  test("-f replaces the note, and without identity removes it", async () => {
    const storage = await start(new MemoryStorage());
    poke(storage, 10);
    await create("base", "cow", { force: true }, { storage });
    expect((await report(storage)).verdict).toBe("unchanged");
    const { identity } = await create("base", "cow", { force: true, identity: "none" }, { storage });
    expect([identity, storage.paths()]).toEqual([{ recorded: false, complete: false }, ["base", "changed", "cow"]]);
  });

  test("makes the same cowfile whatever is noted", async () => {
    const storage = await start(new MemoryStorage());
    for (const identity of ["full", "quick", "none"] as const)
      await create("base", identity, { identity, from: "changed" }, { storage });
    const cow = storage.content("cow")?.toBytes();
    for (const name of ["full", "quick", "none"]) expect(storage.content(name)?.toBytes()).toEqual(cow);
  });

  test("replaces nothing that never was a note, and says so", async () => {
    const storage = new MemoryStorage();
    storage.put("base", BASE);
    storage.put(NOTE, Buffer.from("precious"));
    const context = listening(storage);
    await create("base", "cow", {}, context);
    expect(Buffer.from(storage.content(NOTE)?.toBytes() ?? []).toString()).toBe("precious");
    expect(context.notices.every(({ severity, file }) => severity === "warning" && file === NOTE)).toBe(true);
    expect(context.notices.length).toBeGreaterThan(0);
  });

  test("takes no name that a note may have", async () => {
    const storage = await start(new MemoryStorage());
    const refused = { code: "usage", file: "x.cowtool-base" };
    await expect(create("base", "x.cowtool-base", {}, { storage })).rejects.toMatchObject(refused);
    await expect(merge("base", "cow", { undo: "x.cowtool-base" }, { storage })).rejects.toMatchObject(refused);
    await expect(merge("base", "cow", { output: "x.cowtool-base" }, { storage })).rejects.toMatchObject(refused);
  });

  test("is not stopped by a note that cannot be written", async () => {
    class Full extends MemoryStorage {
      override create(path: string): PendingFile {
        if (path !== NOTE) return super.create(path);
        throw new CowError("no-space", "cannot create: no space left on the device", { file: path });
      }
    }
    const storage = new Full();
    storage.put("base", BASE);
    const context = listening(storage);
    expect((await create("base", "cow", {}, context)).identity).toEqual({ recorded: false, complete: false });
    expect(context.notices).toMatchObject([{ severity: "warning", file: NOTE }]);
    expect(storage.paths()).toEqual(["base", "cow"]);
  });

  test("interrupted while it looks at the base has created nothing", async () => {
    const storage = new MemoryStorage();
    storage.put("base", BASE);
    const controller = new AbortController();
    const onProgress = ({ phase }: { phase: string }): void => {
      if (phase === "recording the base") controller.abort();
    };
    const made = create("base", "cow", { identity: "full" }, { storage, onProgress, signal: controller.signal });
    await expect(made).rejects.toMatchObject({ code: "interrupted" });
    expect(storage.paths()).toEqual(["base"]);
  });
});

describe("a merge", () => {
  test("is no change of its own cowfile's base: not before, nor after, nor taken back, wherever it was killed", async () => {
    const initial = await start(new MemoryStorage());
    for (let limit = 0; ; limit++) {
      const storage = initial.clone();
      storage.onChange = (_, index) => {
        if (index >= limit) throw new Error("killed");
      };
      const killed = await merge("base", "cow", { undo: "undo" }, { storage }).then(
        () => false,
        (error: Error) => error.message === "killed",
      );
      storage.onChange = () => undefined;
      await merge("base", "cow", { undo: "undo" }, { storage });
      const merged = await report(storage);
      expect([merged.verdict, merged.changed_extents], `limit ${limit}`).toEqual(["merged", []]);
      poke(storage, 200);
      expect((await report(storage)).changed_extents).toEqual([chunk(200, "no")]);
      poke(storage, 200);
      await merge("base", "undo", {}, { storage });
      expect((await report(storage)).verdict, `limit ${limit}`).toBe("unchanged");
      if (!killed) break;
    }
  });

  test("shows in the notes of other cowfiles, until it is taken back", async () => {
    const storage = await start(new MemoryStorage());
    await create("base", "sibling", {}, { storage });
    const of = async (): Promise<string> =>
      (await verifyFingerprint("base", "sibling", {}, { storage })).identity.verdict;
    await merge("base", "cow", { undo: "undo" }, { storage });
    expect(await of()).toBe("changed");
    await merge("base", "undo", {}, { storage });
    expect(await of()).toBe("unchanged");
  });

  test("into the cowfile below keeps what was recorded of its base", async () => {
    const storage = await start(new MemoryStorage());
    await create("base,cow", "top", {}, { storage });
    const { recorded } = await report(storage);
    storage.put("shown", BASE);
    await create("base,cow", "top", { from: "shown", force: true }, { storage });
    poke(storage, 10);
    await merge("base,cow", "top", {}, { storage });
    expect(await report(storage)).toMatchObject({ recorded, verdict: "changed", changed_extents: [chunk(10, "no")] });
  });

  test("in place refuses a base that shows through, and leaves it alone; -f merges", async () => {
    const storage = await start(new MemoryStorage());
    poke(storage, 10);
    const before = storage.content("base")?.toBytes();
    const refused = { code: "wrong-base", file: "base", details: { offset: 8 * KIB, length: 4 * KIB } };
    for (const dryRun of [true, false])
      await expect(merge("base", "cow", { dryRun }, { storage })).rejects.toMatchObject(refused);
    expect(storage.content("base")?.toBytes()).toEqual(before);
    const context = listening(storage);
    expect(await merge("base", "cow", { force: true }, context)).toMatchObject({ blocks_merged: 9 });
    expect(context.notices).toMatchObject([{ severity: "warning", file: "base" }]);
  });

  test.each([
    ["into a new image", 10, "out"],
    ["where the cowfile holds a part of what changed", 80, undefined],
  ])("%s warns", async (_, block, output) => {
    const storage = await start(new MemoryStorage());
    poke(storage, block);
    const context = listening(storage);
    await merge("base", "cow", { output }, context);
    expect(context.notices).toMatchObject([{ severity: "warning", file: "base" }]);
  });

  test("says nothing of what the cowfile hides", async () => {
    const storage = await start(new MemoryStorage());
    poke(storage, 42);
    const context = listening(storage);
    await merge("base", "cow", {}, context);
    expect(context.notices).toEqual([]);
  });
});

const WRITTEN = { isWritten: true, force: false };

function lookAt(storage: MemoryStorage, context: OperationContext, stack: string, looking: Looking = WRITTEN) {
  return new BaseLooks(new LowerStacks(storage), context).look(StackSpec.parse(storage, stack), looking);
}

describe("a server", () => {
  const serve = async (storage: MemoryStorage, looking = WRITTEN): Promise<Notice[]> => {
    const context = listening(storage);
    const look = await lookAt(storage, context, "base,cow", looking);
    look.settle();
    await look.end();
    return context.notices;
  };

  test("notes what nobody has noted yet", async () => {
    const storage = await start(new MemoryStorage());
    storage.remove(NOTE);
    expect(await serve(storage)).toEqual([]);
    expect(await report(storage)).toMatchObject({ recorded: true, complete: true, verdict: "unchanged" });
  });

  test("leaves a note that is right as it is", async () => {
    const storage = await start(new MemoryStorage());
    const before = storage.content(NOTE)?.toBytes();
    expect(await serve(storage)).toEqual([]);
    expect(storage.content(NOTE)?.toBytes()).toEqual(before);
  });

  test("refuses to have a base written over that has changed, as merge does, and keeps the note", async () => {
    const storage = await start(new MemoryStorage());
    const before = storage.content(NOTE)?.toBytes();
    poke(storage, 10);
    const text = /^was changed since .*Z, and cow does not hide that: blocks 8 to 11 at byte 8192/;
    const error = await serve(storage).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "wrong-base", file: "base", message: expect.stringMatching(text) as unknown });
    expect((error as CowError).hints[0]).toContain("--force serves it anyway, --read-only");
    const warning = { severity: "warning", file: "base", message: expect.stringMatching(text) as unknown };
    for (let i = 0; i < 2; i++) expect(await serve(storage, { isWritten: true, force: true })).toEqual([warning]);
    expect(await serve(storage, { isWritten: false, force: false })).toEqual([warning]);
    expect(storage.content(NOTE)?.toBytes()).toEqual(before);
  });

  test("that nobody writes to notes nothing", async () => {
    const storage = await start(new MemoryStorage());
    storage.remove(NOTE);
    expect(await serve(storage, { isWritten: false, force: false })).toEqual([]);
    expect(storage.paths()).not.toContain(NOTE);
  });

  test("says nothing of what is hidden", async () => {
    const storage = await start(new MemoryStorage());
    poke(storage, 42);
    expect(await serve(storage)).toEqual([]);
  });

  test("replaces a note of another cowfile, but none of a newer cowtool", async () => {
    const storage = await start(new MemoryStorage());
    storage.put(NOTE, Buffer.from('{"cowtool_base":1}'));
    expect(await serve(storage)).toMatchObject([{ severity: "note", file: NOTE }]);
    expect((await report(storage)).verdict).toBe("unchanged");
    storage.put(NOTE, Buffer.from('{"cowtool_base":2}'));
    expect(await serve(storage)).toMatchObject([{ severity: "note", file: NOTE }]);
    expect((await report(storage)).verdict).toBe("unknown");
  });

  test("notes new times of a base that was only touched, so that the next one need not read it", async () => {
    const storage = new TimedStorage();
    storage.times.set("base", 1000);
    await start(storage);
    storage.times.set("base", 2000);
    expect((await report(storage)).verdict).toBe("touched");
    expect(await serve(storage)).toEqual([]);
    expect(await report(storage)).toMatchObject({ verdict: "unchanged", compared: "times" });
  });

  test("lets go of the cowfile, and says and writes nothing, before the cowfile is served", async () => {
    let open = 0;
    class Counting extends MemoryStorage {
      override open(path: string, options?: OpenOptions): BlockDevice {
        const device = super.open(path, options);
        const close = device.close.bind(device);
        open++;
        device.close = () => {
          open--;
          close();
        };
        return device;
      }
    }
    const storage = await start(new Counting());
    storage.remove(NOTE);
    const context = listening(storage);
    const look = await lookAt(storage, context, "base,cow");
    // Of the base, which is going to be served.
    expect([open, storage.paths(), context.notices]).toEqual([1, ["base", "changed", "cow"], []]);
    look.settle();
    await look.end();
    expect(storage.paths()).toContain(NOTE);
    expect(open).toBe(0);
    const dropped = await lookAt(storage, context, "base,cow");
    storage.remove(NOTE);
    await dropped.end();
    expect([open, storage.paths()]).toEqual([0, ["base", "changed", "cow"]]);
  });

  test("goes on where the base cannot be looked at", async () => {
    const storage = await start(new MemoryStorage());
    const context = listening(storage);
    (await lookAt(storage, context, "missing,cow")).settle();
    expect(context.notices).toMatchObject([{ severity: "note", file: "missing" }]);
  });
});
