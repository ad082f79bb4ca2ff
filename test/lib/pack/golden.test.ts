/**
 * Proves that packing is the original's, both ways, on four ABIs: its packs unpack to the file that was packed, our plain
 * packs are its own byte for byte, our gzip packs hold what its own hold.
 */
import { closeSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { pack, unpack } from "../../../src/lib/index.ts";
import {
  goldenPath,
  hasGolden,
  type OpenCase,
  openCase,
  openCases,
  type PackedCase,
  packedCases,
} from "../../support/images/golden.ts";
import { readAt, scratchDirectory, sha256 } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const [made, back] = [scratch("made"), scratch("back")];
const BLOCK_BYTES = 1024;

/** What the manifest also tells of a gzip pack. */
type GzipCase = PackedCase & {
  readonly payload_sha256: string;
  readonly payload_size: number;
  readonly gzip_members: readonly { readonly gzip_header_hex: string }[];
};

const plainCases = packedCases.filter(({ kind }) => kind === "packed-plain");
const gzipCases = packedCases.filter((each): each is GzipCase => each.kind === "packed-gzip");
const cleanCases = openCases.filter(({ kind }) => kind === "clean");

function sourceOf({ of, id }: PackedCase): OpenCase {
  if (of === undefined) throw new Error(`${id} was packed from nothing`);
  return openCase(of);
}

/** Unpacks a file to `back`, and returns what was said about it. */
async function unpacked(file: string): Promise<{ readonly blocks: number; readonly notices: readonly string[] }> {
  const notices: string[] = [];
  const { blocks } = await unpack(file, back, {}, { onNotice: ({ message }) => void notices.push(message) });
  return { blocks, notices };
}

describe.skipIf(!hasGolden)("golden packs of the original cowloop", () => {
  beforeAll(() => void goldenPath(""));
  beforeEach(() => {
    rmSync(made, { force: true });
    rmSync(back, { force: true });
  });

  test("there are all of them: 60 plain, 60 gzip, and 84 clean cowfiles", () => {
    expect([plainCases.length, gzipCases.length, cleanCases.length]).toEqual([60, 60, 84]);
  });

  test.each(packedCases)("$file unpacks to the file that was packed", async (golden) => {
    const source = sourceOf(golden);
    expect(await unpacked(goldenPath(golden.file))).toEqual({ blocks: source.bits_on_disk, notices: [] });
    expect(sha256(back)).toBe(source.sha256);
  });

  test.each(plainCases)("$of packs to the original's plain pack", async (golden) => {
    const result = await pack(goldenPath(sourceOf(golden).file), made, { format: "plain" }, {});
    expect(result.bytes_out).toBe(golden.size);
    expect(sha256(made)).toBe(golden.sha256);
  });

  test.each(gzipCases)("$of packs to a gzip pack with the original's payload", async (golden) => {
    await pack(goldenPath(sourceOf(golden).file), made, { format: "gzip" }, {});
    const payload = gunzipSync(readFileSync(made));
    writeFileSync(scratch("payload"), payload);
    expect([payload.length, sha256(scratch("payload"))]).toEqual([golden.payload_size, golden.payload_sha256]);
    expect(payload.equals(gunzipSync(readFileSync(goldenPath(golden.file))))).toBe(true);
    // The same first bytes as zlib's on that machine: level 9, no name, no time.
    expect(readAt(made, 0, 10).toString("hex")).toBe(golden.gzip_members[0]?.gzip_header_hex);
  });

  /** Where the original's own pack was compared, only what it doesn't know is left to try. */
  const hasPacks = new Set(packedCases.map(({ of }) => of));

  test.each(cleanCases)("$id: what is packed unpacks to the same file", async (golden) => {
    for (const format of hasPacks.has(golden.id) ? (["zstd"] as const) : (["zstd", "gzip", "plain"] as const)) {
      const result = await pack(goldenPath(golden.file), made, { format, force: true }, {});
      expect(result).toMatchObject({ format, blocks: golden.bits_on_disk, bytes_in: golden.size });
      expect(result.bytes_out).toBe(statSync(made).size);
      rmSync(back, { force: true });
      expect(await unpacked(made)).toEqual({ blocks: golden.bits_on_disk, notices: [] });
      expect(sha256(back)).toBe(golden.sha256);
    }
  });

  const dirtyCases = openCases.filter(({ kind }) => kind === "dirty");
  test.each(dirtyCases)("$id: a dirty one is refused, and makes nothing", async ({ file }) => {
    const refused = { code: "dirty", file: goldenPath(file) };
    await expect(pack(goldenPath(file), made, {}, {})).rejects.toMatchObject(refused);
    expect(() => statSync(made)).toThrow(/ENOENT/);
  });
});

describe.skipIf(!hasGolden)("golden extras", () => {
  beforeEach(() => {
    rmSync(made, { force: true });
    rmSync(back, { force: true });
  });

  test("zlib 1.2.11's second, empty gzip member is taken for what it is", async () => {
    expect(await unpacked(goldenPath("extras/clean_zlib1.2.11.packz"))).toMatchObject({ notices: [] });
    expect(sha256(back)).toBe(openCase("le64/rsign/clean").sha256);
  });

  test("a file packed into itself has a stale tail: it unpacks, with a warning (U12)", async () => {
    const { notices } = await unpacked(goldenPath("extras/inplace.pack"));
    expect(notices).toEqual([expect.stringMatching(/last 82944 bytes/)]);
    expect(sha256(back)).toBe(openCase("le64/rsign/clean").sha256);
  });

  test.each(["ok3", "doffset8192", "beyond_rdoblocks"])("%s.cow comes back byte for byte", async (name) => {
    for (const format of ["zstd", "gzip", "plain"] as const) {
      await pack(goldenPath(`extras/${name}.cow`), made, { format, force: true }, {});
      rmSync(back, { force: true });
      await unpacked(made);
      expect(sha256(back)).toBe(sha256(goldenPath(`extras/${name}.cow`)));
    }
  });

  test("what stands behind the head is not packed, and that is said", async () => {
    const notices: string[] = [];
    const context = { onNotice: ({ message }: { message: string }) => void notices.push(message) };
    await pack(goldenPath("extras/headtail.cow"), made, {}, context);
    expect(notices).toEqual([expect.stringMatching(/after the head.*not packed/)]);
    await unpacked(made);
    expect(readFileSync(back).equals(readFileSync(goldenPath("extras/ok3.cow")))).toBe(true);
  });

  test.each([
    ["misaligned", "damaged", /block 4 .*byte 8704/],
    ["enospc", "damaged", /block 11 .*byte 15872/],
    ["trunc_mid", "damaged", /byte 16484/],
    ["trunc_bitmap", "truncated", /byte 1500/],
    ["trunc_40", "truncated", /byte 40/],
    ["version2", "unsupported", /version 2/],
    ["badused", "damaged", /counts 4 used blocks.*3 are allocated/],
    ["mapunit0", "bad-head", /byte 8/],
  ])("%s.cow is refused as %s, and makes nothing", async (name, code, message) => {
    const file = goldenPath(`extras/${name}.cow`);
    for (const format of ["zstd", "gzip", "plain"] as const) {
      const refused = pack(file, made, { format }, {});
      await expect(refused).rejects.toMatchObject({ code, file, message: expect.stringMatching(message) });
      expect(() => statSync(made)).toThrow(/ENOENT/);
    }
  });
});

describe.skipIf(!hasGolden)("a cowfile of 4 GiB with two blocks", () => {
  const SPARSE_BYTES = 1 << 20;

  /** Head, bitmap, the marked blocks; whoever takes no more space than these has nothing else but holes. */
  function expectBig(file: string): void {
    const golden = goldenPath("extras/big5g_le64.cow");
    const { size, blocks } = statSync(file);
    expect(size).toBe(statSync(golden).size);
    expect(blocks * 512).toBeLessThan(SPARSE_BYTES);
    const dataOffset = 659456;
    for (const [at, length] of [
      [0, dataOffset + 64 * BLOCK_BYTES],
      [size - 64 * BLOCK_BYTES, 64 * BLOCK_BYTES],
    ] as const)
      expect(readAt(file, at, length).equals(readAt(golden, at, length))).toBe(true);
  }

  test("its pack unpacks to it, with its holes", async () => {
    rmSync(back, { force: true });
    expect((await unpacked(goldenPath("extras/big5g_le64.pack"))).blocks).toBe(2);
    expectBig(back);
  });

  test.each(["zstd", "gzip", "plain"] as const)("it packs to %s and back", async (format) => {
    rmSync(back, { force: true });
    const result = await pack(goldenPath("extras/big5g_le64.cow"), made, { format, force: true }, {});
    expect(result).toMatchObject({ blocks: 2, bytes_in: 4295634944 });
    if (format === "plain") expect(sha256(made)).toBe(sha256(goldenPath("extras/big5g_le64.pack")));
    else expect(result.bytes_out).toBeLessThan(8192);
    await unpacked(made);
    expectBig(back);
  });

  test("without its last block it is truncated, and nothing appears", async () => {
    const pack5g = readFileSync(goldenPath("extras/big5g_le64.pack"));
    writeFileSync(made, pack5g.subarray(0, pack5g.length - BLOCK_BYTES));
    rmSync(back, { force: true });
    await expect(unpack(made, back, {}, {})).rejects.toMatchObject({ code: "truncated", file: made });
    expect(() => closeSync(openSync(back, "r"))).toThrow(/ENOENT/);
  });
});
