/**
 * Proves what every format of the registry keeps, with the same questions to each: a layer's extents and places, what it
 * shows, facts that fit the schema, and that no damage brings about anything but a refusal.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CowError,
  check,
  diff,
  info,
  layerFormats,
  MemoryStorage,
  openStack,
  repair,
  SparseBytes,
} from "../../../src/lib/index.ts";
import { collected } from "../../support/collected.ts";
import { expectJson } from "../../support/command/harness.ts";
import { type FormatSample, formatSamples } from "../../support/images/format-samples.ts";
import { random } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";

const samples = await formatSamples();
const PIECE = 64 * 1024;

describe("the registry", () => {
  it("has formats with ids and settings of their own, each with a sample here", () => {
    const ids = layerFormats.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect([...new Set(samples.map(({ formatId }) => formatId))].sort()).toEqual([...ids].sort());
    for (const { id, title, settings = [] } of layerFormats) {
      expect(id).toMatch(/^[a-z][a-z0-9-]*$/);
      expect(title).not.toBe("");
      const names = settings.map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
      for (const name of names) expect(name).toMatch(/^[a-z][a-z-]*$/);
    }
  });

  it("knows none of them by a file of zeros, of noise, or of nothing", () => {
    const next = random(7);
    const noise = Uint8Array.from({ length: 4096 }, () => next() * 256);
    for (const head of [new Uint8Array(0), new Uint8Array(4096), noise])
      for (const { id, matches } of layerFormats) expect(matches(head), id).toBe(false);
  });

  it("takes a raw image that begins as gzip for packed only if a whole header of gzip is there", async () => {
    const storage = new MemoryStorage();
    storage.put("base.img", new Uint8Array(1024));
    for (const head of ["1f8b4fb589f50e1b", "1f8b084089f50e1b", "1f8b"]) {
      storage.put(
        "image.img",
        Uint8Array.from({ ...Buffer.from(head, "hex"), length: 1024 }, (byte) => byte ?? 0),
      );
      expect((await diff("base.img", "image.img", {}, { storage })).identical, head).toBe(false);
    }
  });
});

/** Everything that is asked of a part that may be damaged. */
async function askEverything(storage: MemoryStorage, { base, part, image, formatId }: FormatSample): Promise<void> {
  // What a damaged table names need not be there, nor what a damaged volume group is said to have.
  const unexpected = ["interrupted", ...(formatId === "dm-cow" ? [] : ["not-found"]), ...(image ? [] : ["usage"])];
  const questions: (() => Promise<void>)[] = [
    async () => {
      const stack = await openStack(storage, `${base},${part}`);
      try {
        readAll(stack.device);
      } finally {
        stack.close();
      }
    },
    async () => {
      const { problems, extents, close } = await info(part, { rdofile: base, map: true }, { storage });
      for (const _ of problems);
      await collected(extents);
      close();
    },
    async () => {
      for (const _ of (await check(part, { rdofile: base }, { storage })).problems);
    },
    async () => {
      for (const _ of (await repair(part, { dryRun: true, force: true }, { storage })).problems);
    },
    async () => {
      if (!image) return;
      const stack = await openStack(storage, image.part);
      try {
        readAll(stack.device);
      } finally {
        stack.close();
      }
    },
  ];
  for (const question of questions) {
    try {
      await question();
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
      expect(error.message).toMatch(/^[^A-Z\n][^\n]*[^.\n]$/);
      expect(unexpected).not.toContain(error.code);
    }
  }
}

function readAll(device: { readonly sizeBytes: number; read(target: Uint8Array, offset: number): number }): void {
  // A damaged file may say that it is an image of any size: then its beginning and its end will do.
  const size = device.sizeBytes;
  const places =
    size > 64 * PIECE ? [0, size - PIECE] : Array.from({ length: Math.ceil(size / PIECE) }, (_, i) => i * PIECE);
  for (const at of places) device.read(new Uint8Array(Math.min(PIECE, size - at)), at);
}

describe.each(samples.map((sample) => [sample.title, sample] as const))("%s", (_, sample) => {
  const { storage, base, part, view, files, formatId, image } = sample;

  it("holds extents that ascend and are joined, and says where each byte of them lies", async () => {
    const stack = await openStack(storage, `${base},${part}`);
    const [layer] = stack.layers;
    if (!layer) throw new Error("a stack with a layer");
    expect(layer.virtualSizeBytes).toBe(view.length);
    fc.assert(
      fc.property(fc.nat(view.length), fc.nat(view.length), (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        let end = -1;
        const covered: [number, number][] = [];
        for (const { offset, length } of layer.extents(from, to)) {
          expect(length).toBeGreaterThan(0);
          expect(offset).toBeGreaterThan(end);
          end = offset + length;
          const [start, stop] = [Math.max(from, offset), Math.min(to, end)];
          if (stop > start) covered.push([start, stop]);
        }
        const placed: [number, number][] = [];
        for (const { offset, length, at } of layer.places(from, to)) {
          expect(length).toBeGreaterThan(0);
          expect(at).toBeGreaterThanOrEqual(0);
          const last = placed.at(-1);
          expect(offset).toBeGreaterThanOrEqual(last?.[1] ?? from);
          if (last && last[1] === offset) last[1] += length;
          else placed.push([offset, offset + length]);
        }
        expect(placed).toEqual(covered);
      }),
      { numRuns: runs(100) },
    );
    stack.close();
  });

  it("shows what it should, at once and in pieces of any kind", async () => {
    for (const [text, wanted] of [
      [`${base},${part}`, view] as const,
      ...(image ? [[image.part, image.view] as const] : []),
    ]) {
      const { device, close } = await openStack(storage, text);
      expect(device.sizeBytes).toBe(wanted.length);
      const whole = new Uint8Array(wanted.length);
      expect(device.read(whole, 0)).toBe(wanted.length);
      expect(Buffer.compare(whole, wanted)).toBe(0);
      fc.assert(
        fc.property(fc.nat(wanted.length - 1), fc.integer({ min: 1, max: 9000 }), (at, length) => {
          const piece = new Uint8Array(length).fill(77);
          const got = device.read(piece, at);
          return (
            got === Math.min(length, wanted.length - at) &&
            Buffer.compare(piece.subarray(0, got), wanted.subarray(at, at + got)) === 0
          );
        }),
        { numRuns: runs(50) },
      );
      const data = [...device.dataExtents(0, wanted.length)];
      let at = 0;
      for (const { offset, length } of [...data, { offset: wanted.length, length: 0 }]) {
        expect(wanted.subarray(at, offset).every((byte) => byte === 0)).toBe(true);
        at = offset + length;
      }
      close();
    }
  });

  it("is described by facts of the schema; check finds nothing wrong, and repair has nothing to do", async () => {
    const { facts, problems } = await info(part, { rdofile: base }, { storage });
    const listed = [...problems].map(({ id, severity, offset, length, fixable, message }) => ({
      ...{ id, severity, offset, length, fixable, message },
    }));
    expectJson(JSON.stringify({ ...facts, problems: listed }), "info");
    expect(facts.format).toBe(formatId);
    expect([null, view.length]).toContain(facts.virtual_size);
    expect((await check(part, { rdofile: base }, { storage })).worst).toMatchObject({ fixable: 0, unfixable: 0 });
    const before = files.map((file) => storage.content(file)?.toBytes());
    const repaired = await repair(part, { force: true }, { storage }).catch((error: unknown) => error);
    if (repaired instanceof Error) expect(repaired).toMatchObject({ name: "CowError", code: "unsupported" });
    else expect(repaired).toMatchObject({ changed: false });
    expect(files.map((file) => storage.content(file)?.toBytes())).toEqual(before);
  });

  it("refuses what is cut short or spoiled, wherever that is, or reads on", async () => {
    const next = random(formatId.length * 1000 + part.length);
    for (const file of files) {
      const sound = storage.content(file)?.toBytes() ?? new Uint8Array();
      const lengths = [0, 1, 15, 16, 511, 512, 1024, 4095, 4096, 4097, sound.length - 512, sound.length - 1];
      const spoiled: Uint8Array[] = lengths
        .filter((length) => length >= 0 && length < sound.length)
        .map((length) => sound.slice(0, length));
      // Metadata is mostly at the beginning, and where the file is not zero.
      const trials = sound.length > 1 << 20 ? 12 : 150;
      const used = [...sound.keys()].filter((at) => sound[at] !== 0 || at < 128);
      for (let i = 0; i < trials; i++) {
        const bytes = sound.slice();
        for (let flips = 1 + next() * 3; flips > 0; flips--) {
          const at = used[Math.floor((i % 2 === 0 ? next() ** 4 : next()) * used.length)] ?? 0;
          bytes[at] = next() < 0.3 ? 255 : (bytes[at] ?? 0) ^ (1 << (next() * 8));
        }
        spoiled.push(bytes);
      }
      for (const bytes of spoiled) {
        const copy = storage.clone();
        copy.put(file, SparseBytes.from(bytes));
        await askEverything(copy, sample);
      }
    }
  });
});
