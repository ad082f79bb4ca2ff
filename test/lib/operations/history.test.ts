/**
 * Proves checkpoints, rollbacks, forks and squashes of a stack file without a server: each shows what it should, and killed at
 * any step, or after a power cut there, the same call completes it, and nothing is left behind or lost.
 */
import { describe, expect, it } from "vitest";
import {
  CowError,
  checkpoint,
  create,
  diff,
  drop,
  fork,
  layersToRepair,
  MemoryStorage,
  type OperationContext,
  repair,
  rollback,
  squashChain,
} from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import type { StackDocument } from "../../../src/lib/stack/stack-document.ts";
import { readStackFile } from "../../../src/lib/stack/stack-file.ts";
import { noise } from "../../support/random.ts";
import { HOW, sampleOf } from "../../support/sample.ts";
import { FaultyStorage, TAKES_SPACE } from "../../support/storage/faulty-storage.ts";
import type { Step } from "../../support/storage/stepped-storage.ts";

const BYTES = 64 * 1024;

const documentIn = (storage: MemoryStorage, name = "vm.stack"): StackDocument => readStackFile(storage, name).document;

/** Writes through the stack file's top; left dirty, as by a killed server, if `isKilled`. */
async function write(storage: MemoryStorage, at: number, seed: number, isKilled = false): Promise<void> {
  const served = await ServedStack.open(storage, "stack:vm.stack", { access: "writable", repair: false });
  const image = served.image();
  image.write(noise(4096, seed), at);
  image.commit();
  if (isKilled) served.abandon();
  else {
    image.flush();
    served.close();
  }
}

/** Is what a stack shows the same as an image that was put aside? */
async function shows(storage: MemoryStorage, stack: string, image: Uint8Array): Promise<boolean> {
  storage.put("expected.img", image);
  return (await diff(stack, "expected.img", {}, { storage })).identical;
}

interface Made {
  readonly storage: MemoryStorage;
  /** What the disk was at each checkpoint, and is now. */
  readonly images: Readonly<Record<"a" | "b" | "c" | "now", Uint8Array>>;
}

/** A disk with checkpoints a, b and c, each after a write, and one write more. */
async function made(): Promise<Made> {
  const storage = new MemoryStorage();
  const now = Buffer.from(noise(BYTES, 1));
  storage.put("golden.img", Buffer.from(now));
  await create("golden.img", "vm.cow", { stackFile: "vm.stack" }, { storage });
  const images: Record<string, Uint8Array> = {};
  for (const [i, as] of (["a", "b", "c", "now"] as const).entries()) {
    await write(storage, i * 6000, i + 2);
    now.set(noise(4096, i + 2), i * 6000);
    images[as] = Buffer.from(now);
    if (as !== "now") await checkpoint("vm.stack", { as, note: `after ${i}` }, { storage });
  }
  return { storage: storage.clone(), images: images as Made["images"] };
}

/** Files that no stack file names. */
function unnamed(storage: MemoryStorage): readonly string[] {
  const stacks = storage.paths().filter((path) => path.endsWith(".stack"));
  const named = stacks.flatMap((stack) => {
    const { base, layers } = documentIn(storage, stack);
    return [...("file" in base ? [base.file as string] : []), ...layers.map(({ file }) => file)];
  });
  return storage.paths().filter((path) => path.endsWith(".cow") && !named.includes(path));
}

describe("a stack file without a server", () => {
  it("has the disk as it was at each checkpoint", async () => {
    const { storage, images } = await made();
    expect(documentIn(storage).layers.map(({ file, checkpoint: cp }) => [file, cp?.name, cp?.note])).toEqual([
      ["vm.cow", "a", "after 0"],
      ["vm-a.cow", "b", "after 1"],
      ["vm-b.cow", "c", "after 2"],
      ["vm-c.cow", undefined, undefined],
    ]);
    for (const as of ["c", "b", "a"] as const) {
      expect(
        await rollback("vm.stack", { checkpoint: as, discard: as === "a" || as === "b" }, { storage }),
      ).toMatchObject({
        already_done: false,
        left: [],
        discarded: as === "c" ? [] : [as === "b" ? "c" : "b"],
      });
      expect(await shows(storage, "stack:vm.stack", images[as])).toBe(true);
      expect(unnamed(storage)).toEqual([]);
    }
    expect(await rollback("vm.stack", { checkpoint: "a" }, { storage })).toMatchObject({ already_done: true });
  });

  it("refuses what would lose a checkpoint, a name that is taken, and one that is missing", async () => {
    const { storage } = await made();
    const context = { storage };
    await expect(rollback("vm.stack", { checkpoint: "a" }, context)).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("b, c"),
    });
    await expect(checkpoint("vm.stack", { as: "a" }, context)).rejects.toMatchObject({ code: "exists" });
    await expect(checkpoint("vm.stack", { as: "a..b" }, context)).rejects.toMatchObject({ code: "usage" });
    for (const refused of [
      rollback("vm.stack", { checkpoint: "x" }, context),
      drop("stack:vm.stack", "x", context),
      fork("vm.stack", { output: "new.stack", checkpoint: "x" }, context),
      squashChain("vm.stack", { range: { from: "x" } }, context),
    ])
      await expect(refused).rejects.toMatchObject({ code: "not-found", file: "vm.stack" });
    await expect(fork("vm.stack", { output: "vm.stack", checkpoint: "a" }, context)).rejects.toMatchObject({
      code: "usage",
    });
    await expect(
      fork("vm.stack", { output: "new.stack", checkpoint: "a", cowfile: "vm.cow" }, context),
    ).rejects.toMatchObject({ code: "usage" });
    expect(storage.log).toHaveLength(0);
  });

  it("is as it was after a fork that is refused, and after one whose cowfile cannot be made", async () => {
    const { storage } = await made();
    await fork("vm.stack", { output: "other.stack", checkpoint: "a" }, { storage });
    storage.put("there.cow", noise(100, 1));
    const before = storage.paths().map((path) => [path, storage.facts(path)?.identity]);
    for (const [code, request] of [
      ["exists", { output: "other.stack" }],
      ["exists", { output: "w.stack", cowfile: "there.cow" }],
      ["usage", { output: "q.img", cowfile: "./q.img" }],
      ["usage", { output: "w.stack", cowfile: "vm-w.cow" }],
    ] as const)
      await expect(fork("vm.stack", request, { storage })).rejects.toMatchObject({ code });
    const away = new FaultyStorage(storage, ({ kind, path }) =>
      kind === "create" && path.startsWith("/away/") ? { errno: "EIO" } : undefined,
    );
    const elsewhere = { output: "w.stack", cowfile: "/away/w.cow" };
    await expect(fork("vm.stack", elsewhere, { storage: away })).rejects.toMatchObject({ code: "io" });
    const full = new FaultyStorage(storage, ({ kind, path }) =>
      kind === "write" && path === "w.cow" ? { errno: "ENOSPC" } : undefined,
    );
    const request = { output: "w.stack", checkpoint: "b" };
    await expect(fork("vm.stack", request, { storage: full })).rejects.toMatchObject({ code: "no-space" });
    expect(documentIn(storage).layers.map(({ shared }) => shared)).toEqual([true, undefined, undefined, undefined]);
    const names = (files: readonly (readonly unknown[])[]) => files.map(([path]) => path);
    expect(storage.paths()).toEqual(names(before));
    expect(await fork("vm.stack", request, { storage })).toMatchObject({ already_done: false });
  });

  it("never writes or removes what another stack file names", async () => {
    const { storage, images } = await made();
    const context = { storage };
    await fork("vm.stack", { output: "b.stack", checkpoint: "b" }, context);
    await rollback("vm.stack", { checkpoint: "a", keep: "old.stack" }, context);
    await rollback("b.stack", { checkpoint: "a", discard: true }, context);
    expect(await shows(storage, "stack:old.stack", images.now)).toBe(true);
    expect(await shows(storage, "stack:vm.stack", images.a)).toBe(true);
    expect(await shows(storage, "stack:b.stack", images.a)).toBe(true);
    expect((await squashChain("old.stack", {}, context)).squashed).toEqual([]);
    expect((await squashChain("old.stack", { range: {} }, context)).squashed).toMatchObject([
      { checkpoint: "c", dropped: ["a", "b"] },
    ]);
    for (const [stack, image] of [
      ["old", images.now],
      ["vm", images.a],
      ["b", images.a],
    ] as const)
      expect(await shows(storage, `stack:${stack}.stack`, image)).toBe(true);
  });

  it("takes up layers that a killed server left, wherever they are", async () => {
    const { storage, images } = await made();
    await write(storage, 40_000, 9, true);
    const content = Buffer.from(images.now);
    content.set(noise(4096, 9), 40_000);
    expect(layersToRepair("stack:vm.stack", {}, { storage })).toEqual(["vm-c.cow"]);
    await repair("vm-c.cow", {}, { storage });
    expect(await shows(storage, "stack:vm.stack", content)).toBe(true);
    await write(storage, 44_100, 10, true);
    content.set(noise(4096, 10), 44_100);
    await checkpoint("vm.stack", { as: "d" }, { storage });
    expect(await shows(storage, "stack:vm.stack", content)).toBe(true);
  });

  it("goes on where a layer has an odd name, and names new ones for its file system", async () => {
    const storage = new MemoryStorage();
    storage.put("golden,1.img", noise(BYTES, 1));
    await create("golden,1.img", "x;y.cow", { stackFile: "ü:1,2.stack" }, { storage });
    const as = `${"ü".repeat(99)}1`;
    const result = await checkpoint("ü:1,2.stack", { as }, { storage });
    expect(Buffer.byteLength(result.top)).toBeLessThan(200);
    expect(await rollback("ü:1,2.stack", { checkpoint: as }, { storage })).toMatchObject({ already_done: true });
    expect((await diff("stack:ü:1,2.stack", "golden,1.img", {}, { storage })).identical).toBe(true);
  });
});

type Job = readonly [
  title: string,
  job: {
    readonly run: (context: OperationContext) => Promise<unknown>;
    readonly image: keyof Made["images"];
    readonly stack?: string;
  },
];

const JOBS: readonly Job[] = [
  ["checkpoint", { run: (context) => checkpoint("vm.stack", { as: "d" }, context), image: "now" }],
  ["rollback", { run: (context) => rollback("vm.stack", { checkpoint: "b", discard: true }, context), image: "b" }],
  [
    "rollback --keep",
    { run: (context) => rollback("vm.stack", { checkpoint: "b", keep: "old.stack" }, context), image: "b" },
  ],
  [
    "fork",
    {
      run: (context) => fork("vm.stack", { output: "new.stack", checkpoint: "b" }, context),
      image: "b",
      stack: "new.stack",
    },
  ],
  [
    "fork of now",
    { run: (context) => fork("vm.stack", { output: "new.stack" }, context), image: "now", stack: "new.stack" },
  ],
  ["squash", { run: (context) => squashChain("vm.stack", { range: { from: "a" } }, context), image: "now" }],
];

describe.each(JOBS)("%s", (_, { run, image, stack = "vm.stack" }) => {
  const context = (storage: MemoryStorage): OperationContext => ({ storage, onNotice: () => undefined });
  const killedAt = async (before: MemoryStorage, at: number): Promise<MemoryStorage> => {
    const storage = before.clone();
    storage.onChange = (_change, index) => {
      if (index >= at) throw new Error("killed");
    };
    await expect(run(context(storage))).rejects.toThrow("killed");
    return storage;
  };

  it(`killed at any step, is completed by the same call (${HOW})`, async () => {
    const { storage: before, images } = await made();
    const whole = before.clone();
    await run(context(whole));
    const expected = documentIn(whole, stack);
    for (const at of sampleOf([...whole.log.keys()], 12)) {
      const left = (await killedAt(before, at)).clone();
      // In between it is the old disk, or the new one.
      const isOld = await shows(left, "stack:vm.stack", images.now);
      expect(isOld || (await shows(left, "stack:vm.stack", images[image]))).toBe(true);
      await run(context(left));
      expect(await shows(left, `stack:${stack}`, images[image])).toBe(true);
      expect(documentIn(left, stack).layers).toHaveLength(expected.layers.length);
      expect(unnamed(left)).toEqual([]);
      expect(documentIn(left)).not.toHaveProperty("pending");
      expect(documentIn(left)).not.toHaveProperty("to_remove");
    }
  }, 20_000);

  it(`on a full disk or a failing one, is refused or done; with space again, done (${HOW})`, async () => {
    const { storage: before, images } = await made();
    const steps = new FaultyStorage(before.clone(), () => undefined);
    await run({ storage: steps, onNotice: () => undefined });
    for (const [i, at] of sampleOf([...Array(steps.count).keys()], 16, 2).entries()) {
      const memory = before.clone();
      const errno = i % 2 === 0 ? "ENOSPC" : "EIO";
      const fails = ({ kind }: Step): boolean => errno === "EIO" || TAKES_SPACE.has(kind);
      const faulty = new FaultyStorage(memory, (step, index) => (index >= at && fails(step) ? { errno } : undefined));
      const error = await run({ storage: faulty, onNotice: () => undefined }).catch((reason: unknown) => reason);
      if (error instanceof Error) expect(error).toBeInstanceOf(CowError);
      expect(faulty.openCount).toBe(0);
      const left = memory.clone();
      await run(context(left));
      expect(await shows(left, `stack:${stack}`, images[image])).toBe(true);
      expect(unnamed(left)).toEqual([]);
    }
  }, 20_000);

  it(`after a power cut at any step, is completed by the same call (${HOW})`, async () => {
    const { storage: before, images } = await made();
    const whole = before.clone();
    await run(context(whole));
    for (const at of sampleOf([...whole.log.keys()], 6, 1)) {
      const cut = await killedAt(before, at);
      for (const keeps of [true, false]) {
        const left = cut.powerCut(before, () => keeps);
        await run(context(left));
        expect(await shows(left, `stack:${stack}`, images[image])).toBe(true);
      }
    }
  }, 20_000);
});
