/**
 * Proves which notes of a base are not believed: hostile ones, and those that are about another cowfile.
 */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { check, create, MemoryStorage, merge, verifyFingerprint } from "../../../src/lib/index.ts";
import { BASE, CHANGED, KIB, listening, NOTE, report, start } from "../../support/images/noted-base.ts";
import { scratchDirectory } from "../../support/scratch.ts";

describe("a note that is not believed", () => {
  type Note = Readonly<Record<string, unknown>>;
  const good = async (storage: MemoryStorage): Promise<Note> =>
    JSON.parse(Buffer.from(storage.content(NOTE)?.toBytes() ?? []).toString()) as Note;
  const contradiction = "what it says contradicts itself";
  const noJson = "it is not the JSON that cowtool writes";
  const digest = "0".repeat(32);
  const ofCowfile = (note: Note, change: object): Note => ({
    ...note,
    cowfile: { ...(note["cowfile"] as object), ...change },
  });

  test.each<readonly [string, (note: Note) => unknown, string]>([
    ["nothing", () => "", noJson],
    ["no JSON", () => "{]", noJson],
    ["a list", () => [], noJson],
    ["null", () => null, noJson],
    ["deep nesting", () => "[".repeat(1 << 20), noJson],
    ["a newer version", (note) => ({ ...note, cowtool_base: 2 }), "a newer cowtool wrote it (version 2)"],
    ["no version", (note) => ({ ...note, cowtool_base: "1" }), contradiction],
    ["an older version", (note) => ({ ...note, cowtool_base: 0 }), contradiction],
    ["another hash", (note) => ({ ...note, hash: "crc32" }), contradiction],
    ["merged, perhaps", (note) => ({ ...note, merged: 1 }), contradiction],
    [
      "another fingerprint",
      (note) => ofCowfile(note, { fingerprint: "0x12345678" }),
      "it is about a cowfile over 256 blocks",
    ],
    ["another size", (note) => ofCowfile(note, { rdo_blocks: 300 }), "it is about a cowfile over 300 blocks"],
    ["a fingerprint that is none", (note) => ofCowfile(note, { fingerprint: 7 }), contradiction],
    ["more blocks than can be", (note) => ofCowfile(note, { rdo_blocks: 2 ** 52 }), contradiction],
    ["an id that is none", (note) => ofCowfile(note, { id: "/etc/passwd" }), contradiction],
    ["no cowfile", (note) => ({ ...note, cowfile: [] }), contradiction],
    ["a size that is none", (note) => ({ ...note, base_size: -1 }), contradiction],
    ["a time that acts on a terminal", (note) => ({ ...note, recorded: "Jan 1 2000 (\u001b[31m)" }), contradiction],
    ["a time that is none", (note) => ({ ...note, written: "2000-13-01T00:00:00.000Z" }), contradiction],
    ["chunks of no bytes", (note) => ({ ...note, chunk_bytes: 0, data: [] }), contradiction],
    ["chunks of odd bytes", (note) => ({ ...note, chunk_bytes: 5000 }), contradiction],
    ["chunks of all bytes there are", (note) => ({ ...note, chunk_bytes: 2 ** 50, data: [] }), contradiction],
    ["no data", (note) => ({ ...note, data: {} }), contradiction],
    ["data that is none", (note) => ({ ...note, data: [7] }), contradiction],
    ["a run beyond the end", (note) => ({ ...note, data: [[64, digest]] }), contradiction],
    ["a run before the beginning", (note) => ({ ...note, data: [[-1, digest]] }), contradiction],
    ["half a digest", (note) => ({ ...note, data: [[0, "0".repeat(48)]] }), contradiction],
    ["a digest that is none", (note) => ({ ...note, data: [[0, "x".repeat(32)]] }), contradiction],
    [
      "runs that overlap",
      (note) => ({
        ...note,
        data: [
          [0, digest + digest],
          [1, digest],
        ],
      }),
      contradiction,
    ],
    [
      "runs out of order",
      (note) => ({
        ...note,
        data: [
          [5, digest],
          [1, digest],
        ],
      }),
      contradiction,
    ],
    ["read and unread", (note) => ({ ...note, unread: [[3, 1]] }), contradiction],
    ["a run of nothing", (note) => ({ ...note, data: [], unread: [[3, 0]] }), contradiction],
    ["an endless run", (note) => ({ ...note, data: [], unread: [[0, 2 ** 52]] }), contradiction],
    ["files that are none", (note) => ({ ...note, files: ["../../etc/passwd"] }), contradiction],
    ["a great many files", (note) => ({ ...note, files: new Array(1000).fill(null) }), contradiction],
    ["too much", (note) => ({ ...note, more: "x".repeat(5 << 20) }), "bytes"],
  ])("%s", async (_, edit, why) => {
    const storage = await start(new MemoryStorage());
    const edited = edit(await good(storage));
    storage.put(NOTE, Buffer.from(typeof edited === "string" ? edited : JSON.stringify(edited)));
    const context = listening(storage);
    const { match, identity } = await verifyFingerprint("base", "cow", {}, context);
    expect([match, identity.recorded, identity.verdict]).toEqual([true, false, "unknown"]);
    expect(context.notices).toEqual([
      { severity: "note", file: NOTE, message: expect.stringContaining(why) as unknown },
    ]);
    const { problems, worst } = await check("cow", { rdofile: "base" }, { storage });
    const ofBase = [...problems].filter(({ id }) => id.startsWith("base"));
    expect(ofBase.map(({ id, severity }) => [id, severity])).toEqual([["base-record-ignored", "note"]]);
    expect(worst).toMatchObject({ fixable: 0, unfixable: 0 });
    const merging = listening(storage);
    await merge("base", "cow", {}, merging);
    expect(merging.notices).toEqual(context.notices);
  });

  test("what one does not know is no reason", async () => {
    const storage = await start(new MemoryStorage());
    storage.put(NOTE, Buffer.from(JSON.stringify({ ...(await good(storage)), later: true })));
    expect((await report(storage)).verdict).toBe("unchanged");
  });
});

describe("beside a file", () => {
  const at = scratchDirectory();
  let dir = "";
  let count = 0;
  const path = (name: string): string => join(dir, name);
  const verdict = async (): Promise<string> =>
    (await verifyFingerprint(path("base"), path("cow"), {})).identity.verdict;

  beforeEach(async () => {
    dir = at(`${count++}`);
    mkdirSync(dir);
    writeFileSync(path("base"), BASE);
    writeFileSync(path("changed"), CHANGED);
    await create(path("base"), path("cow"), { from: path("changed") }, {});
  });

  test("a cowfile that took the place of another is not that one", async () => {
    expect(await verdict()).toBe("unchanged");
    cpSync(path("cow"), path("other"));
    renameSync(path("other"), path("cow"));
    expect(await verdict()).toBe("unknown");
  });

  test.each([
    ["at once", {}],
    ["of an older version, later", { own_id: undefined, written: "2020-01-01T00:00:00.000Z" }],
  ])("both copied together, %s, are a pair; one alone has no note", async (_, old) => {
    const note = JSON.parse(readFileSync(path(NOTE), "utf8")) as object;
    for (const [name, content] of [
      ["cow", readFileSync(path("cow"))],
      [NOTE, JSON.stringify({ ...note, ...old })],
    ] as const) {
      writeFileSync(path("other"), content);
      renameSync(path("other"), path(name));
    }
    expect(await verdict()).toBe("unchanged");
    rmSync(path(NOTE));
    expect(await verdict()).toBe("unknown");
  });

  test("renamed together they are one still", async () => {
    renameSync(path("cow"), path("new"));
    renameSync(path(NOTE), path("new.cowtool-base"));
    expect((await verifyFingerprint(path("base"), path("new"), {})).identity.verdict).toBe("unchanged");
  });

  test("a copy of the base, with its holes or without, is the base; a shorter one is not", async () => {
    cpSync(path("base"), path("copy"));
    const { match, identity } = await verifyFingerprint(path("copy"), path("cow"), {});
    expect([match, identity.changed_extents]).toEqual([true, []]);
    truncateSync(path("copy"), 200 * KIB);
    const short = await verifyFingerprint(path("copy"), path("cow"), {});
    expect([short.match, short.identity.changed_extents]).toEqual([
      false,
      [{ offset: 200 * KIB, length: 56 * KIB, hidden: "no" }],
    ]);
  });

  test("a directory, a link to nowhere and a link to a device are no notes", async () => {
    for (const make of [
      () => mkdirSync(path(NOTE)),
      () => symlinkSync("nowhere", path(NOTE)),
      () => symlinkSync("/dev/zero", path(NOTE)),
    ]) {
      rmSync(path(NOTE), { recursive: true, force: true });
      make();
      expect(await verdict()).toBe("unknown");
    }
    const context = { ...listening(new MemoryStorage()), storage: undefined };
    expect((await create(path("base"), path("cow"), { force: true }, context)).identity.recorded).toBe(false);
    expect(context.notices.map(({ severity, file }) => [severity, file])).toContainEqual(["warning", path(NOTE)]);
  });
});
