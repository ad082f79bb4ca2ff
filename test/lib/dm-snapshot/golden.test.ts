/**
 * Proves that stores written by a real kernel are read as that kernel reads them: the view bit for bit, the status
 * numbers, next free chunk, areas, exceptions in order; and what it did with damaged ones.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { MemoryDevice } from "../../../src/lib/device/memory-device.ts";
import { CowError } from "../../../src/lib/errors.ts";
import { dmSnapshotFormat } from "../../../src/lib/formats/dm-snapshot/index.ts";
import type { DmSnapshotLayer } from "../../../src/lib/formats/dm-snapshot/layer.ts";
import { goldenCases, goldenImage, goldenJson, hasGoldenFolder } from "../../support/images/golden-folder.ts";
import { bytesOf, deviceOfFile, viewOf } from "../../support/storage/memory-files.ts";

interface GoldenStore {
  readonly error?: string;
  readonly valid?: number;
  readonly chunk_sectors: number;
  readonly areas: number;
  readonly next_free: number;
  readonly status: string;
  readonly count: number;
  readonly holes: readonly number[];
  readonly exceptions: readonly (readonly [number, number])[];
}

interface Manifest {
  readonly notes: readonly (readonly [string, string])[];
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
  readonly store: GoldenStore;
  readonly store2?: GoldenStore;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function layerOver(cow: MemoryDevice, origin: MemoryDevice, force = false): DmSnapshotLayer {
  const settings = new Map(force ? [["force", ""]] : []);
  return dmSnapshotFormat.openLayer(cow, { allowDirty: false, backing: origin, settings }) as DmSnapshotLayer;
}

async function expectAsInManifest(cow: MemoryDevice, origin: MemoryDevice, store: GoldenStore): Promise<void> {
  const { facts } = await dmSnapshotFormat.describe(cow, { backing: origin });
  expect(facts).toMatchObject({
    valid: true,
    chunk_sectors: store.chunk_sectors,
    areas: store.areas,
    next_free: store.next_free,
    exceptions: store.count,
    kernel_status: store.status,
    chunks_unused: store.holes.length,
    virtual_size: origin.sizeBytes,
  });
  const { scan } = layerOver(cow, origin).opened.verdicts;
  const tuples = Array.from({ length: scan.olds.length }, (_, i) => [scan.olds.at(i), scan.news.at(i)]);
  expect(tuples).toEqual(store.exceptions);
}

describe("a store that a kernel wrote", () => {
  const open = goldenCases("dmsnap").filter((name) => !["n8-transient", "p8-overflow-invalid", "lvm"].includes(name));
  it.each(open)("%s", async (name) => {
    const manifest = goldenJson(`dmsnap/${name}`, "manifest.json") as Manifest;
    const origin = deviceOfFile(goldenImage(`dmsnap/${name}`, "origin.img"));
    const pairs: [string, string, GoldenStore | undefined][] = [
      ["cow.img", "view.img", manifest.store],
      ["cow2.img", "view2.img", manifest.store2],
    ];
    for (const [file, view, store] of pairs) {
      if (!store || !existsSync(goldenImage(`dmsnap/${name}`, file))) continue;
      const cow = deviceOfFile(goldenImage(`dmsnap/${name}`, file));
      await expectAsInManifest(cow, origin, store);
      const seen = sha256(viewOf(origin, layerOver(cow, origin)));
      expect(seen).toBe(manifest.files[view]?.sha256);
      const live = manifest.notes.find(([key]) => key === (file === "cow.img" ? "sha256.live" : "sha256.live2"));
      if (live) expect(seen).toBe(live[1]);
      const { worst } = await dmSnapshotFormat.check(cow, { backing: origin });
      expect(worst).toMatchObject({ fixable: 0, unfixable: 0 });
    }
  });

  it.skipIf(open.length === 0)("n8-transient is refused: nothing on disk tells what it holds", () => {
    const cow = deviceOfFile(goldenImage("dmsnap/n8-transient", "cow.img"));
    const origin = deviceOfFile(goldenImage("dmsnap/n8-transient", "origin.img"));
    expect(dmSnapshotFormat.matches(bytesOf(cow).subarray(0, 4096))).toBe(false);
    expect(() => layerOver(cow, origin, true)).toThrow(/no dm-snapshot header/);
    try {
      layerOver(cow, origin);
    } catch (error) {
      expect(error).toBeInstanceOf(CowError);
      expect((error as CowError).hints.join()).toContain("transient");
    }
  });

  it.skipIf(open.length === 0)(
    "p8-overflow-invalid is refused, but can be read by force, and that is said",
    async () => {
      const cow = deviceOfFile(goldenImage("dmsnap/p8-overflow-invalid", "cow.img"));
      const origin = deviceOfFile(goldenImage("dmsnap/p8-overflow-invalid", "origin.img"));
      expect(() => layerOver(cow, origin)).toThrow(/marked invalid/);
      const layer = layerOver(cow, origin, true);
      // 254 were written before the store ran full.
      expect(layer.opened.verdicts.map.count).toBe(254);
      expect(layer.warnings.join()).toContain("given up by a kernel");
      const { facts } = await dmSnapshotFormat.describe(cow, {});
      expect(facts).toMatchObject({ valid: false, kernel_status: "Invalid", exceptions: 254 });
      const { worst } = await dmSnapshotFormat.check(cow, {});
      expect(worst.unfixable).toBe(1);
      await expect(dmSnapshotFormat.repair(cow, { dryRun: false, force: true, dropLost: true })).rejects.toThrow(
        /marked invalid/,
      );
    },
  );
});

interface Verdict {
  readonly case: string;
  readonly create?: string;
  readonly status?: string;
  readonly first_60_chunks_not_from_origin?: Readonly<Record<string, string>>;
}

/** What cowtool makes of each: how it is refused, or what it is read as; what check finds; what repair can do. */
const EXPECTED: Readonly<
  Record<
    string,
    {
      readonly open: RegExp | "read";
      readonly problem?: string;
      readonly repair?: "fixes" | "drops" | "refuses";
      /** Repair keeps the chunks that the kernel showed. */
      readonly status?: boolean;
    }
  >
> = {
  "m00-baseline": { open: "read", status: true },
  "m01-magic0": { open: /magic number.* is zero/ },
  "m02-badmagic": { open: /0x12345678 is at/ },
  "m03-version2": { open: /version 2/ },
  "m04-valid0": { open: /marked invalid/, problem: "invalid", repair: "refuses" },
  "m05-valid2": { open: "read", problem: "valid-value", status: true },
  "m06-chunk3": { open: /is 3 sectors/, problem: "chunk-size", repair: "refuses" },
  "m07-chunk0": { open: /is 0 sectors/, problem: "chunk-size", repair: "refuses" },
  "m08-dupold": { open: /first one counts/, problem: "old-duplicate", repair: "fixes", status: true },
  "m09-newmeta": { open: /holds metadata/, problem: "new-metadata", repair: "drops", status: true },
  "m10-newbeyond": { open: /only 64 whole chunks/, problem: "new-beyond", repair: "drops", status: true },
  "m11-oldbeyond": { open: "read", problem: "old-beyond", repair: "drops", status: true },
  "m12-term-oldset": { open: "read", problem: "stale-tuples", repair: "fixes", status: true },
  "m13-gap": { open: "read", problem: "stale-tuples", repair: "fixes", status: true },
  "m14-highbits": { open: /chunk 216172782113783815/, problem: "new-beyond", repair: "drops", status: true },
  "m15-area1-missing": { open: /metadata area 1/, problem: "area-missing", repair: "drops" },
  "m16-old0new2": { open: "read", status: true },
  "m17-dupnew": { open: /which another exception uses/, problem: "new-duplicate", repair: "refuses", status: true },
};

const MALFORMED = "dmsnap-malformed";

describe.skipIf(!hasGoldenFolder(MALFORMED))("a damaged store", () => {
  const { cases } = goldenJson(MALFORMED, "verdicts.json") as { readonly cases: readonly Verdict[] };
  const open = (name: string) => ({
    cow: deviceOfFile(goldenImage(MALFORMED, `${name}.cow`)),
    origin: deviceOfFile(goldenImage(MALFORMED, "origin.img")),
  });

  it.each(cases.map((each) => [each.case, each] as const))("%s", async (name, verdict) => {
    const expected = EXPECTED[name];
    if (!expected) throw new Error(`no expectation for ${name}`);
    const { cow, origin } = open(name);
    if (expected.open === "read") {
      const view = viewOf(origin, layerOver(cow, origin));
      expectChunks(view, bytesOf(origin), bytesOf(cow), verdict);
    } else expect(() => layerOver(cow, origin)).toThrow(expected.open);
    if (verdict.create === "failed") expect(expected.open).not.toBe("read");
    if (expected.problem) {
      const { problems } = await dmSnapshotFormat.check(cow, { backing: origin });
      expect([...problems].map(({ id }) => id)).toContain(expected.problem);
    }
    if (expected.status) {
      const { facts } = await dmSnapshotFormat.describe(cow, { backing: origin });
      expect(`0 2048 snapshot ${facts["kernel_status"]}`).toBe(verdict.status);
    }
  });

  it.each(Object.entries(EXPECTED).filter(([, { repair }]) => repair))("%s: repair", async (name, { repair }) => {
    const { cow, origin } = open(name);
    const before = bytesOf(cow);
    const options = { dryRun: false, force: true, dropLost: false, backing: origin };
    if (repair !== "fixes") {
      await expect(dmSnapshotFormat.repair(cow, options)).rejects.toThrow(CowError);
      expect(bytesOf(cow).equals(before)).toBe(true);
    }
    if (repair === "refuses") {
      await expect(dmSnapshotFormat.repair(cow, { ...options, dropLost: true })).rejects.toThrow(CowError);
      expect(bytesOf(cow).equals(before)).toBe(true);
      return;
    }
    const view = viewOf(origin, layerOver(cow, origin, true));
    const dry = await dmSnapshotFormat.repair(cow, { ...options, dropLost: true, dryRun: true });
    expect(dry.changed).toBe(true);
    expect(bytesOf(cow).equals(before)).toBe(true);
    await dmSnapshotFormat.repair(cow, { ...options, dropLost: repair === "drops" });
    const after = await dmSnapshotFormat.check(cow, { backing: origin });
    expect(after.worst).toMatchObject({ fixable: 0, unfixable: 0 });
    expect(viewOf(origin, layerOver(cow, origin)).equals(view)).toBe(true);
    const again = await dmSnapshotFormat.repair(cow, options);
    expect(again.changed).toBe(false);
  });
});

/** Compares the first 60 chunks with what the kernel read. */
function expectChunks(view: Buffer, origin: Buffer, cow: Buffer, verdict: Verdict): void {
  const chunk = (bytes: Buffer, index: number): Buffer => bytes.subarray(index * 4096, (index + 1) * 4096);
  for (let i = 0; i < 60; i++) {
    const said = verdict.first_60_chunks_not_from_origin?.[i];
    const expected = said === undefined ? chunk(origin, i) : chunk(cow, Number(said.slice(3)));
    expect(chunk(view, i).equals(expected), `chunk ${i}`).toBe(true);
  }
}
