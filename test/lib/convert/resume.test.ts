/**
 * Proves that a conversion may be stopped, killed or lose power at any change it makes: the same command then completes it,
 * and the output is the one that an undisturbed conversion makes, byte for byte. Runs on MemoryStorage.
 */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { CONVERT_FORMATS, type ConvertFormat, CowError, convert, MemoryStorage } from "../../../src/lib/index.ts";
import { paint, putStack } from "../../support/images/random-stacks.ts";
import { isExhaustive } from "../../support/sample.ts";
import { crashStates } from "../../support/storage/crash-states.ts";

const POWER_CUTS_PER_POINT = isExhaustive ? 8 : 2;
/** A note after each piece. */
const OFTEN = { bytes: 0, milliseconds: 0 };

/** Parts here and there, zeros among them, in an image that needs several tables of every format. */
const DRAWN = {
  size: 1500,
  base: [
    { start: 0, length: 8, seed: 1 },
    { start: 0.3, length: 300, seed: 2 },
    { start: 0.9, length: 100, seed: 3 },
  ],
  layers: [
    {
      format: "cowfile" as const,
      unit: 10,
      patches: [
        { start: 0.02, length: 6, seed: 4 },
        { start: 0.31, length: 50, seed: 0 },
        { start: 0.5, length: 2, seed: 5 },
        { start: 0.7, length: 2, seed: 6 },
        { start: 0.95, length: 200, seed: 7 },
      ],
    },
  ],
};

const UNITS: Partial<Record<ConvertFormat, object>> = {
  qcow2: { clusterBytes: 512 },
  "dm-snapshot": { chunkBytes: 512 },
};

async function start(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await putStack(storage, DRAWN);
  return storage.clone();
}

/** A digest of each output: comparing megabytes byte for byte takes the test runner minutes. */
function outputsOf(storage: MemoryStorage): Record<string, string> {
  const names = storage.paths().filter((name) => /^out/.test(name) && !name.endsWith(".cowtool-base"));
  return Object.fromEntries(
    names.map((name) => {
      const bytes = storage.content(name)?.toBytes() ?? new Uint8Array();
      return [name, `${bytes.length} ${createHash("sha256").update(bytes).digest("hex")}`];
    }),
  );
}

function isDone(storage: MemoryStorage, whole: Record<string, string>): boolean {
  return JSON.stringify(outputsOf(storage)) === JSON.stringify(whole);
}

function stopAtFirstWrite(storage: MemoryStorage): AbortController {
  const stop = new AbortController();
  storage.onChange = (change) => {
    if (change.kind === "device" && change.change.kind === "write") stop.abort();
  };
  return stop;
}

const CASES: readonly (readonly [string, ConvertFormat, object])[] = [
  ...CONVERT_FORMATS.map((to) => [to, to, UNITS[to] ?? {}] as const),
  ["qcow2 over a backing file", "qcow2", { ...UNITS.qcow2, base: "base.img" }],
  ["dm-snapshot, by comparing", "dm-snapshot", { ...UNITS["dm-snapshot"], base: "copy.img" }],
];

describe.each(CASES)("%s", (_, to, options) => {
  const work = (storage: MemoryStorage, signal?: AbortSignal) =>
    convert("base.img,layer0", "out", { to, ...options }, { storage, signal }, OFTEN);

  async function prepared(): Promise<{ initial: MemoryStorage; whole: Record<string, string> }> {
    const initial = await start();
    initial.put("copy.img", initial.content("base.img")?.toBytes() ?? new Uint8Array());
    const storage = initial.clone();
    await work(storage);
    return { initial, whole: outputsOf(storage) };
  }

  test("killed, or without power, at any change", async () => {
    const { initial, whole } = await prepared();
    let [states, resumed] = [0, 0];
    for await (const { name, storage } of crashStates(initial, work, POWER_CUTS_PER_POINT)) {
      states++;
      // It may have come to its end, of which nothing is left but the output.
      if (isDone(storage, whole)) continue;
      const { resumed_at } = await work(storage);
      if (resumed_at !== null) resumed++;
      expect(outputsOf(storage), name).toEqual(whole);
    }
    expect(states).toBeGreaterThan(20);
    expect(resumed).toBeGreaterThan(5);
  });

  test("stopped at its first piece, it says how to go on, and goes on", async () => {
    const { initial, whole } = await prepared();
    const stop = stopAtFirstWrite(initial);
    let error: unknown;
    await work(initial, stop.signal).catch((thrown: unknown) => {
      error = thrown;
    });
    expect(error).toBeInstanceOf(CowError);
    expect(error).toMatchObject({ code: "interrupted", message: expect.stringContaining("cowtool-partial") });
    expect(initial.content("out")).toBeUndefined();
    const result = await work(initial);
    expect(result.resumed_at).toBeGreaterThan(0);
    expect(outputsOf(initial)).toEqual(whole);
  });

  test("begins anew when an input changed", async () => {
    const { initial } = await prepared();
    // With a base record, a changed base is refused.
    for (const name of initial.paths()) if (name.endsWith(".cowtool-base")) initial.remove(name);
    const stop = stopAtFirstWrite(initial);
    await work(initial, stop.signal).catch(() => undefined);
    const image = paint(initial.content("base.img")?.toBytes() ?? new Uint8Array(), [
      { start: 0.6, length: 9, seed: 8 },
    ]);
    initial.put("base.img", image);
    const fresh = initial.clone();
    for (const name of fresh.paths()) if (name.includes("partial")) fresh.remove(name);
    expect((await work(initial)).resumed_at).toBeNull();
    await work(fresh);
    expect(outputsOf(initial)).toEqual(outputsOf(fresh));
  });
});
