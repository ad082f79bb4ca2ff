/**
 * Proves that a base behind an NBD server is a base like any other for every operation that reads one, that what writes
 * refuses it, and that the program as published can do it, too.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { ExtentCache } from "../../../../src/lib/device/remote/extent-cache.ts";
import { PieceCache } from "../../../../src/lib/device/remote/piece-cache.ts";
import { ReadAhead } from "../../../../src/lib/device/remote/read-ahead.ts";
import { newSharedMemory, PIECE_BYTES, PIECE_COUNT, Slot } from "../../../../src/lib/device/remote/shared-memory.ts";
import { CowError } from "../../../../src/lib/errors.ts";
import { check } from "../../../../src/lib/operations/check.ts";
import { create } from "../../../../src/lib/operations/create.ts";
import { diff } from "../../../../src/lib/operations/diff/diff.ts";
import { info } from "../../../../src/lib/operations/info.ts";
import { merge } from "../../../../src/lib/operations/merge/merge.ts";
import { repair } from "../../../../src/lib/operations/repair.ts";
import { verifyFingerprint } from "../../../../src/lib/operations/verify-fingerprint.ts";
import { finish, skipsLoudly } from "../../../support/command/real-process.ts";
import { hasProgram, startNbdkit, startQemuNbd, uriOf } from "../../../support/nbd/servers.ts";
import { noise } from "../../../support/random.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

const scratch = scratchDirectory();
const missing = ["nbdkit", "qemu-nbd"].filter((program) => !hasProgram(program));
const cannot = skipsLoudly(missing.length > 0, `bases behind NBD servers are not tried: no ${missing.join(", ")}`);

async function failureOf(work: () => Promise<unknown>): Promise<CowError> {
  const failure = await work().catch((error: unknown) => error);
  if (failure instanceof CowError) return failure;
  throw new Error("it did not fail as it should", { cause: failure });
}

describe.skipIf(cannot)("a base behind an NBD server", () => {
  const [local, changed, cow] = [scratch("base.img"), scratch("changed.img"), scratch("vm.cow")];
  let uri: string;
  beforeAll(async () => {
    writeFileSync(local, noise(3 << 20, 1));
    execFileSync("truncate", ["-s", "20M", local]);
    copyFileSync(local, changed);
    execFileSync("dd", ["if=/dev/urandom", `of=${changed}`, "bs=1000", "seek=3000", "count=700", "conv=notrunc"], {
      stdio: "ignore",
    });
    uri = uriOf((await startQemuNbd(scratch("a,b.sock"), ["-r", "-f", "raw", local])).socket);
    expect(uri).not.toContain(",");
  });

  test("create makes the same cowfile as over the file", async () => {
    await create(uri, cow, { from: changed }, {});
    await create(local, scratch("local.cow"), { from: changed }, {});
    expect(readFileSync(cow).equals(readFileSync(scratch("local.cow")))).toBe(true);
    await create(changed, scratch("back.cow"), { from: uri }, {});
    expect((await diff(`${changed},${scratch("back.cow")}`, uri, {}, {})).identical).toBe(true);
  });

  test("info and verify-fingerprint compare with it", async () => {
    expect([...(await info(cow, { rdofile: uri }, {})).problems]).toEqual([]);
    expect(await verifyFingerprint(uri, cow, {})).toMatchObject({ match: true, rdofile: uri });
    const other = uriOf((await startNbdkit(scratch("other.sock"), ["pattern", "size=20M"])).socket);
    expect((await verifyFingerprint(other, cow, {})).match).toBe(false);
    expect((await failureOf(() => diff(`${other},${cow}`, local, {}, {}))).code).toBe("wrong-base");
  });

  test("diff reads it on either side, alone and in a stack", async () => {
    expect((await diff(uri, local, {}, {})).identical).toBe(true);
    expect((await diff(`${uri},${cow}`, changed, {}, {})).identical).toBe(true);
    expect((await diff(changed, `${uri},${cow}`, {}, {})).identical).toBe(true);
    const [a, b] = [await diff(uri, changed, {}, {}), await diff(local, changed, {}, {})];
    expect([...a.extents]).toEqual([...b.extents]);
    // Two mentions of one export are one base: only what the layers hold is compared.
    expect((await diff(`${uri},${cow}`, uri, {}, {})).bytesDifferent).toBe(a.bytesDifferent);
  });

  test("merge -o copies it", async () => {
    const output = scratch("merged.img");
    await merge(uri, cow, { output }, {});
    expect(readFileSync(output).equals(readFileSync(changed))).toBe(true);
    expect(Number(execFileSync("du", ["-k", output]).toString().split("\t")[0])).toBeLessThan(8 << 10);
  });

  test.each([false, true])("merge in place refuses it, dry run: %s", async (dryRun) => {
    const failure = await failureOf(() => merge(uri, cow, { dryRun }, {}));
    expect([failure.code, failure.file, failure.hints]).toEqual([
      "usage",
      uri,
      ["--output FILE writes the result into a new image"],
    ]);
  });

  test("nothing else writes it, or takes it for a file", async () => {
    expect((await failureOf(() => create(local, uri, {}, {}))).code).toBe("usage");
    expect((await failureOf(() => create(local, uri, { force: true }, {}))).code).toBe("usage");
    expect((await failureOf(() => create(uri, uri, {}, {}))).message).toMatch(/an output must not be one/);
    const copy = scratch("copy.img");
    copyFileSync(local, copy);
    expect((await failureOf(() => merge(copy, cow, { undo: uri }, {}))).code).toMatch(/usage|exists/);
    expect(readFileSync(copy).equals(readFileSync(local))).toBe(true);
    expect((await failureOf(() => repair(uri, {}, {}))).code).toBe("usage");
    expect(existsSync(`${local}.cowtool-merge`)).toBe(false);
  });

  test("a cowfile may lie there, too, to be read", async () => {
    const far = uriOf((await startQemuNbd(scratch("cow.sock"), ["-r", "-f", "raw", cow])).socket);
    expect((await info(far, {}, {})).facts).toMatchObject({ file: far, virtual_size: 20 << 20 });
    expect([...(await check(far, {}, {})).problems]).toEqual([...(await check(cow, {}, {})).problems]);
    expect((await diff(`${local},${far}`, changed, {}, {})).identical).toBe(true);
  });

  test("that there is not is told as such", async () => {
    const nowhere = uriOf(scratch("nowhere.sock"));
    const failure = await failureOf(() => create(nowhere, scratch("x.cow"), {}, {}));
    expect([failure.code, failure.file, failure.message]).toEqual([
      "io",
      nowhere,
      "cannot connect: there is no such socket",
    ]);
    expect((await failureOf(() => create("nbd://", scratch("x.cow"), {}, {}))).code).toBe("usage");
  });

  test("the program as published reads it, and ends at once", async () => {
    const ran = await finish(["diff", `${uri},${cow}`, changed, "--json"]);
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    expect(JSON.parse(ran.stdout)).toMatchObject({ identical: true });
    const refused = await finish(["merge", uri, cow, "--yes"]);
    expect(refused.status).toBe(16);
  });
});

describe("reading ahead", () => {
  const MIB = 1 << 20;

  test("who goes forward has a window that grows to its limit and no further", () => {
    const ahead = new ReadAhead(4 * MIB, 64 << 10);
    const windows: number[] = [];
    for (let at = 0; at < 64 * MIB; at += 4096) {
      const to = ahead.note(at, 4096);
      if (to !== undefined) windows.push(to - (at + 4096));
    }
    expect(Math.max(...windows)).toBe(4 * MIB);
    expect(windows.slice(-100).every((bytes) => bytes >= 2 * MIB - 4096)).toBe(true);
    expect(windows[0]).toBe(128 << 10);
  });

  test("several share it, and gaps are stepped over; who jumps gets just what he asks for", () => {
    const ahead = new ReadAhead(4 * MIB, 64 << 10);
    for (let i = 0; i < 200; i++) {
      for (const start of [0, 1e9, 2e9]) {
        const at = start + i * 40_000;
        const to = ahead.note(at, 1000);
        if (i > 0) expect(to).toBeLessThanOrEqual(at + 1000 + 4 * MIB);
        if (i > 150) expect(to).toBeLessThanOrEqual(at + 1000 + 2 * MIB);
      }
    }
    const jumps = Array.from({ length: 50 }, (_, i) => ahead.note(3e9 + i * 1e7, 4096));
    expect(jumps.every((to) => to === undefined)).toBe(true);
    expect(ahead.note(9e9, MIB)).toBe(9e9 + MIB);
  });
});

describe("pieces", () => {
  test("make room in the order of their use, but not while they are on their way", () => {
    const memory = newSharedMemory();
    const cache = new PieceCache(memory);
    const slots = Array.from({ length: PIECE_COUNT }, (_, piece) => cache.claim(piece));
    expect(new Set(slots).size).toBe(PIECE_COUNT);
    memory.states.fill(Slot.PENDING);
    expect(cache.claim(1000)).toBeUndefined();
    for (const piece of [3, 5]) memory.states[slots[piece] ?? 0] = Slot.READY;
    expect(cache.find(3)).toBe(slots[3]);
    expect(cache.claim(1000)).toBe(slots[5]);
    expect(memory.offsets[slots[5] ?? 0]).toBe(1000 * PIECE_BYTES);
    expect([cache.has(5), cache.has(3), cache.find(5)]).toEqual([false, true, undefined]);
    cache.forget(3);
    expect(cache.claim(2000)).toBe(slots[3]);
  });
});

describe("what is known of holes", () => {
  test("is asked for once, as it is needed, and forgotten rather than let grow", () => {
    const size = 2 ** 40;
    const asked: number[] = [];
    // Data and holes of 4 KiB by turns, 60 000 of them in each answer.
    const cache = new ExtentCache(size, (offset) => {
      asked.push(offset);
      const isData = Math.floor(offset / 4096) % 2 === 0;
      const first = 4096 - (offset % 4096);
      return { lengths: [first, ...Array.from({ length: 59_999 }, () => 4096)], beginsWithData: isData };
    });
    const [first, second] = cache.data(1000, size);
    expect([first, second]).toEqual([
      { offset: 1000, length: 3096 },
      { offset: 8192, length: 4096 },
    ]);
    expect([...cache.data(8192 + 100, 20_000)]).toEqual([
      { offset: 8292, length: 3996 },
      { offset: 16_384, length: 3616 },
    ]);
    expect(asked).toEqual([1000]);
    let bytes = 0;
    for (const { length } of cache.data(0, 20 * 60_000 * 4096)) bytes += length;
    expect(bytes).toBe(10 * 60_000 * 4096);
    const before = asked.length;
    // The first of so many lists is forgotten, the last is not.
    void [...cache.data(20 * 60_000 * 4096 - 10_000, 20 * 60_000 * 4096)];
    expect(asked.length).toBe(before);
    void [...cache.data(0, 10)];
    expect(asked.length).toBe(before + 1);
  });
});
