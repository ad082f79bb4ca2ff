/**
 * Proves that `map` says what `qemu-img map` says of raw and qcow2 files and their backing files, and that for layers of
 * every format it covers the image, its zeros are zeros, and its offsets are where the bytes are.
 */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { create, type MapEntry, MemoryStorage, map, pack } from "../../../src/lib/index.ts";
import { skipsLoudly } from "../../support/command/real-process.ts";
import { hasQemu, qemuImg, qemuIo } from "../../support/images/qemu-img.ts";
import { drawing, putStack, viewOf } from "../../support/images/random-stacks.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();
const MIB = 1 << 20;

async function entriesOf(stack: string, storage?: MemoryStorage): Promise<MapEntry[]> {
  const found: MapEntry[] = [];
  for await (const entry of (await map(stack, { storage })).entries) found.push(entry);
  return found;
}

/** What qemu-img says; older ones do not tell what is compressed. */
function theirs(file: string, format: string): MapEntry[] {
  const entries = JSON.parse(qemuImg(["map", "--output=json", "-f", format, file])) as MapEntry[];
  return entries.map((entry) => ({ ...entry, compressed: entry.compressed ?? false }));
}

/** Of a cluster that is held in part QEMU tells where the rest would be, too: nothing is there. */
function withoutIdle(entries: readonly MapEntry[]): MapEntry[] {
  const all: MapEntry[] = [];
  for (const entry of entries) {
    const { offset, ...idle } = entry;
    const last = all.at(-1);
    if (entry.present) all.push(entry);
    else if (last?.present === false) all[all.length - 1] = { ...last, length: last.length + entry.length };
    else all.push(idle);
  }
  return all;
}

describe.skipIf(skipsLoudly(!hasQemu, "no qemu-img: maps are not compared"))("against qemu-img map", () => {
  test("a raw file with holes", async () => {
    writeFileSync(at("raw.img"), noise(MIB, 1));
    truncateSync(at("raw.img"), 4 * MIB);
    expect(await entriesOf(at("raw.img"))).toEqual(theirs(at("raw.img"), "raw"));
    writeFileSync(at("hole.img"), "");
    truncateSync(at("hole.img"), 4 * MIB);
    expect(await entriesOf(at("hole.img"))).toEqual(theirs(at("hole.img"), "raw"));
    writeFileSync(at("empty.img"), "");
    expect(await entriesOf(at("empty.img"))).toEqual(theirs(at("empty.img"), "raw"));
  });

  test("a qcow2 file: data, zeros with and without a cluster, nothing", async () => {
    qemuImg(["create", "-q", "-f", "qcow2", at("a.qcow2"), "8M"]);
    qemuIo(at("a.qcow2"), ["write -P 1 0 256k", "write -P 2 1M 64k", "write -z 128k 64k", "write -z -u 2M 128k"]);
    const found = await entriesOf(`qcow2:${at("a.qcow2")}`);
    expect(found).toEqual(theirs(at("a.qcow2"), "qcow2"));
    expect(found.filter(({ zero, present, offset }) => zero && present && offset !== undefined)).toHaveLength(1);
    expect(found.filter(({ present }) => !present).length).toBeGreaterThan(1);
  });

  test("a qcow2 file over a shorter raw one and over another qcow2 file, from either end of the chain", async () => {
    writeFileSync(at("base.raw"), noise(MIB, 3));
    truncateSync(at("base.raw"), 3 * MIB);
    qemuImg(["create", "-q", "-f", "qcow2", "-b", at("base.raw"), "-F", "raw", at("mid.qcow2"), "6M"]);
    qemuIo(at("mid.qcow2"), ["write -P 5 512k 64k", "write -P 6 4M 64k", "write -z -u 0 64k"]);
    qemuImg(["create", "-q", "-f", "qcow2", "-b", at("mid.qcow2"), "-F", "qcow2", at("top.qcow2"), "8M"]);
    qemuIo(at("top.qcow2"), ["write -P 7 576k 64k"]);
    const wanted = theirs(at("top.qcow2"), "qcow2");
    expect(await entriesOf(`qcow2:backing;${at("top.qcow2")}`)).toEqual(wanted);
    expect(await entriesOf(`${at("base.raw")},${at("mid.qcow2")},${at("top.qcow2")}`)).toEqual(wanted);
  });

  test("compressed and extended clusters", async () => {
    writeFileSync(at("text.img"), Buffer.alloc(MIB, "the same again and again "));
    truncateSync(at("text.img"), 2 * MIB);
    qemuImg(["convert", "-q", "-c", "-f", "raw", "-O", "qcow2", at("text.img"), at("c.qcow2")]);
    const found = await entriesOf(`qcow2:${at("c.qcow2")}`);
    expect(found.map((entry) => ({ ...entry, compressed: false }))).toEqual(
      theirs(at("c.qcow2"), "qcow2").map((entry) => ({ ...entry, compressed: false })),
    );
    expect(found[0]).toMatchObject({ length: MIB, data: true, compressed: true });
    qemuImg(["create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=128k", at("x.qcow2"), "4M"]);
    qemuIo(at("x.qcow2"), ["write -P 1 4k 8k", "write -z 256k 12k", "write -P 3 1M 256k", "write -z 1028k 8k"]);
    expect(await entriesOf(`qcow2:${at("x.qcow2")}`)).toEqual(withoutIdle(theirs(at("x.qcow2"), "qcow2")));
  });
});

/** Everything that a map of an image promises. */
function expectTrue(entries: readonly MapEntry[], image: Uint8Array, fileAt: (depth: number) => Uint8Array): void {
  let end = 0;
  for (const { start, length, zero, data, present, depth, offset } of entries) {
    expect(start).toBe(end);
    expect(length).toBeGreaterThan(0);
    expect(data).toBe(!zero);
    end = start + length;
    const part = Buffer.from(image.subarray(start, end));
    if (zero || !present) expect(part.every((byte) => byte === 0)).toBe(true);
    if (offset === undefined) continue;
    const inFile = Buffer.alloc(length);
    inFile.set(fileAt(depth).subarray(offset, offset + length));
    if (data) expect(inFile.equals(part)).toBe(true);
  }
  expect(end).toBe(image.length);
}

test("layers of every format: covers the image, zeros are zeros, offsets are where the bytes are", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, async (drawn) => {
      const storage = new MemoryStorage();
      const { stack } = await putStack(storage, drawn);
      const image = await viewOf(storage, stack);
      const { names } = await map(stack, { storage });
      const entries = await entriesOf(stack, storage);
      expect(names).toHaveLength(drawn.layers.length + 1);
      const fileAt = (depth: number) => storage.content(names[depth] ?? "")?.toBytes() ?? new Uint8Array();
      expectTrue(entries, image, fileAt);
      for (const { depth } of entries) expect(depth).toBeLessThan(names.length);
    }),
    { numRuns: runs(60) },
  );
});

test("a cowfile in a pack is compressed, and at no byte of its own", async () => {
  writeFileSync(at("b.img"), noise(64 * 1024, 1));
  const changed = Buffer.from(readFileSync(at("b.img")));
  changed.fill(9, 8192, 16384);
  writeFileSync(at("n.img"), changed);
  await create(at("b.img"), at("b.cow"), { from: at("n.img") }, {});
  for (const format of ["zstd", "gzip"] as const) {
    await pack(at("b.cow"), at(`b.${format}`), { format }, {});
    const held = (await entriesOf(`${at("b.img")},${at(`b.${format}`)}`)).filter(({ depth }) => depth === 0);
    expect(held).toEqual([
      { start: 8192, length: 8192, depth: 0, present: true, zero: false, data: true, compressed: true },
    ]);
  }
});
