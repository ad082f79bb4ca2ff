/**
 * Proves squash and flatten of a running export step by step: killed at any of them, the next start finds the same disk, with the
 * old or the new layers, and leaves no file behind; cancelled, everything is as it was.
 */
import { describe, expect, it } from "vitest";
import { create, MemoryStorage } from "../../../src/lib/index.ts";
import type { JobContext } from "../../../src/lib/nbd/server/export-job.ts";
import { Exports } from "../../../src/lib/nbd/server/exports.ts";
import { History } from "../../../src/lib/nbd/server/history.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import type { StackDocument } from "../../../src/lib/stack/stack-document.ts";
import { readStackFile } from "../../../src/lib/stack/stack-file.ts";
import { noise } from "../../support/random.ts";
import { HOW, sampleOf } from "../../support/sample.ts";

const BYTES = 64 * 1024;
const NO_SERVER = { defaults: {}, onClosed: () => undefined, isSound: () => true };

interface Running {
  readonly storage: MemoryStorage;
  readonly exports: Exports;
  readonly history: History;
  readonly notices: string[];
  /** What clients see. */
  readonly content: Buffer;
}

const documentIn = (storage: MemoryStorage): StackDocument => readStackFile(storage, "vm.stack").document;

function write({ exports, content }: Running, at: number, seed: number): void {
  const image = exports.get("vm").served?.image;
  image?.write(noise(5000, seed), at);
  image?.commit();
  image?.flush();
  content.set(noise(5000, seed), at);
}

/** A running export with checkpoints a, b and c, each after a write, and one write more. */
async function running(maxDepth?: number, drop: readonly string[] = []): Promise<Running> {
  const storage = new MemoryStorage();
  const content = Buffer.from(noise(BYTES, 1));
  storage.put("golden.img", Buffer.from(content));
  await create("golden.img", "vm.cow", { stackFile: "vm.stack" }, { storage });
  const notices: string[] = [];
  const context = { storage, onNotice: ({ message }: { message: string }) => void notices.push(message) };
  const exports = new Exports(NO_SERVER, context);
  const history = new History(exports, context, () => undefined, maxDepth);
  await exports.add({ name: "vm", stack: "stack:vm.stack" });
  const all = { storage, exports, history, notices, content };
  for (const [i, as] of ["a", "b", "c"].entries()) {
    write(all, i * 6000, i + 2);
    await history.checkpoint(["vm"], { as });
    if (drop.includes(as)) await history.drop("vm", as);
  }
  write(all, 20_000, 9);
  return all;
}

const namesOf = ({ layers }: StackDocument): readonly (string | undefined)[] =>
  layers.map(({ checkpoint }) => checkpoint?.name);

/** Cowfiles that the stack file does not name. */
function unnamed(storage: MemoryStorage): readonly string[] {
  const { layers } = documentIn(storage);
  const named = layers.map(({ file }) => file);
  return storage.paths().filter((path) => path.includes(".cow") && !named.some((file) => path.startsWith(file)));
}

const FLATTENED = "flat.img";
const JOBS: readonly (readonly [
  title: string,
  run: (history: History, how?: JobContext) => Promise<unknown>,
  names: readonly (string | undefined)[],
])[] = [
  ["squash", (history, how) => history.squash("vm", { from: "a" }, how), ["a", "c", undefined]],
  ["flatten", (history, how) => history.flatten("vm", { into: FLATTENED }, how), [undefined]],
];

describe.each(JOBS)("%s of a running export", (_, run, names) => {
  it("shows the same, also after a restart; old files are gone, and a checkpoint meanwhile stays", async () => {
    const all = await running();
    const { storage, exports, history, content, notices } = all;
    const job = run(history);
    await history.checkpoint(["vm"], { as: "d" });
    write(all, 30_000, 11);
    expect(await job).toMatchObject({ stack: "vm.stack", left: [] });
    write(all, 40_000, 12);
    const now = [...names.slice(0, -1), "d", undefined];
    expect(namesOf(documentIn(storage))).toEqual(now);
    expect(exports.get("vm").served?.stack.checkpoints.map(({ name }) => name)).toEqual(now.slice(0, -1));
    expect(unnamed(storage)).toEqual([]);
    const bytes = Buffer.alloc(BYTES);
    exports.get("vm").served?.image.read(bytes, 0);
    expect(bytes.equals(content)).toBe(true);
    await exports.end();
    expect(notices).toEqual([]);
    expect(documentIn(storage)).not.toHaveProperty("to_remove");
    await expectContent(storage, content);
  });

  it("cancelled while it writes, leaves everything as it was", async () => {
    const { storage, exports, history, content } = await running();
    const before = documentIn(storage);
    const controller = new AbortController();
    const how = { signal: controller.signal, onProgress: () => controller.abort() };
    await expect(run(history, how)).rejects.toMatchObject({ code: "interrupted" });
    expect(documentIn(storage)).toEqual(before);
    expect(unnamed(storage)).toEqual([]);
    expect(storage.paths()).not.toContain(FLATTENED);
    await exports.end();
    await expectContent(storage, content);
  });

  it("stops when the export is closed, and the next start removes what it made", async () => {
    const { storage, exports, history, content } = await running();
    const layers = documentIn(storage).layers;
    const closed: Promise<unknown>[] = [];
    const onProgress = (): void => void (closed.length === 0 && closed.push(exports.close("vm")));
    await expect(run(history, { onProgress })).rejects.toMatchObject({ code: "interrupted" });
    await Promise.all(closed);
    expect(documentIn(storage).layers).toEqual(layers);
    expect(documentIn(storage)).not.toHaveProperty("to_remove");
    expect(unnamed(storage)).toEqual([]);
    await expectContent(storage, content);
  });

  it(`killed at any step, or without power, leaves the same disk and no file (${HOW})`, async () => {
    const whole = await running();
    const begin = whole.storage.log.length;
    await run(whole.history);
    const steps = whole.storage.log.length - begin;
    expect(steps).toBeGreaterThan(10);
    for (const step of sampleOf([...Array(steps).keys()], 10)) {
      const { storage, history, content } = await running();
      const at = storage.log.length + step;
      storage.onChange = (_change, index) => {
        if (index >= at) throw new Error("killed");
      };
      await expect(run(history)).rejects.toThrow();
      const begun = new MemoryStorage();
      begun.put("golden.img", noise(BYTES, 1));
      const cuts = [true, false].map((keeps) => storage.powerCut(begun, () => keeps));
      for (const left of [storage.clone(), ...cuts]) {
        await expectContent(left, content, cuts.includes(left) ? new Uint8Array(16).fill(7) : undefined);
        const found = namesOf(documentIn(left));
        expect([names, ["a", "b", "c", undefined]]).toContainEqual(found);
        expect(documentIn(left)).not.toHaveProperty("to_remove");
        expect(unnamed(left)).toEqual([]);
      }
    }
  }, 20_000);
});

/** As the next server finds it. */
async function expectContent(storage: MemoryStorage, content: Buffer, boot?: Uint8Array): Promise<void> {
  const how = { access: "writable", ...(boot && { boot }) } as const;
  const served = await ServedStack.open(storage, "stack:vm.stack", how);
  const bytes = Buffer.alloc(BYTES);
  served.image().read(bytes, 0);
  served.close();
  expect(bytes.equals(content)).toBe(true);
}

it("a top that was left before it knew the fingerprint of its base can be flattened", async () => {
  const { storage, history, content } = await running();
  const lefts: MemoryStorage[] = [];
  storage.onChange = () => void lefts.push(storage.clone());
  await history.checkpoint(["vm"], { as: "d" });
  for (const left of lefts.filter((each) => namesOf(documentIn(each)).includes("d"))) {
    const exports = new Exports(NO_SERVER, { storage: left });
    await exports.add({ name: "vm", stack: "stack:vm.stack" });
    await new History(exports, { storage: left }, () => undefined).flatten("vm", { into: FLATTENED });
    await expectContent(left.clone(), content);
  }
});

describe("a chain that gets too deep", () => {
  it("is squashed after a checkpoint or a drop where layers have no name", async () => {
    const { storage, exports, history, content } = await running(3, ["a"]);
    await exports.get("vm").job?.ended;
    expect(namesOf(documentIn(storage))).toEqual(["b", "c", undefined]);
    await history.checkpoint(["vm"], { as: "d" });
    await history.drop("vm", "b");
    await exports.get("vm").job?.ended;
    expect(namesOf(documentIn(storage))).toEqual(["c", "d", undefined]);
    await exports.end();
    await expectContent(storage, content);
  });

  it("is left where all layers are checkpoints, which is said once", async () => {
    const { storage, exports, history, notices } = await running(2);
    await history.checkpoint(["vm"], { as: "d" });
    expect(notices).toEqual([expect.stringContaining("more than --max-depth 2")]);
    expect(namesOf(documentIn(storage))).toEqual(["a", "b", "c", "d", undefined]);
    await exports.end();
  });
});
