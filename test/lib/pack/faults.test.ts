/**
 * Proves that packing and unpacking make their file whole or not at all: whichever write fails, whenever they are stopped,
 * whatever a power cut takes, and when somebody else was faster.
 */
import { describe, expect, test } from "vitest";
import {
  CowError,
  MemoryStorage,
  type OperationContext,
  pack,
  type SparseBytes,
  unpack,
} from "../../../src/lib/index.ts";
import { denseCow, firstDifference, packed } from "../../support/images/pack-images.ts";
import { unheardDuring } from "../../support/unheard.ts";

const FORMATS = ["zstd", "gzip", "plain"] as const;
const cow = denseCow(1500);

interface Job {
  readonly title: string;
  readonly input: () => Promise<SparseBytes | Uint8Array>;
  readonly run: (context: OperationContext, replace?: readonly string[]) => Promise<unknown>;
}

const JOBS: readonly Job[] = FORMATS.flatMap((format) => [
  {
    title: `pack to ${format}`,
    input: async () => cow.content.clone(),
    run: (context, replace) => pack("in", "out", { format, threads: 2, replace }, context),
  },
  {
    title: `unpack of ${format}`,
    input: () => packed(cow, format),
    run: (context, replace) => unpack("in", "out", { threads: 2, replace }, context),
  },
]);

async function storageFor({ input }: Job): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("in", await input());
  return storage;
}

function contentOf(storage: MemoryStorage, path: string): SparseBytes {
  const content = storage.content(path);
  if (!content) throw new Error(`there is no ${path}`);
  return content;
}

/** What the job makes when nothing happens. */
async function undisturbed(job: Job): Promise<MemoryStorage> {
  const storage = await storageFor(job);
  await job.run({ storage });
  return storage;
}

describe.each(JOBS)("$title", (job) => {
  test("whichever change of the storage fails, there is all of it or nothing", async () => {
    const whole = await undisturbed(job);
    const input = contentOf(await storageFor(job), "in");
    const count = whole.log.length;
    expect(count).toBeGreaterThan(3);
    const steps = new Set([...Array(6).keys(), ...Array.from({ length: 6 }, (_, i) => count - 1 - i)]);
    for (const failing of [...steps].filter((index) => index >= 0 && index < count)) {
      const storage = await storageFor(job);
      storage.onChange = (_, index) => {
        if (index === failing) throw new CowError("io", "that failed", { file: "out" });
      };
      const unheard = await unheardDuring(async () => {
        await expect(job.run({ storage }), `change ${failing}`).rejects.toMatchObject({ code: "io" });
      });
      expect(unheard).toEqual([]);
      if (storage.paths().includes("out"))
        expect(firstDifference(contentOf(storage, "out"), contentOf(whole, "out"))).toBeUndefined();
      expect(firstDifference(contentOf(storage, "in"), input)).toBeUndefined();
    }
  });

  test("stopped at any step, it says that there is nothing, and there is nothing", async () => {
    for (let step = 1; ; step++) {
      const storage = await storageFor(job);
      const stop = new AbortController();
      let seen = 0;
      const onProgress = (): void => {
        if (++seen === step) stop.abort();
      };
      const outcome = await job.run({ storage, signal: stop.signal, onProgress }).catch((error: unknown) => error);
      if (!(outcome instanceof CowError)) {
        // The last step, after which there is nothing left to stop.
        expect(storage.paths()).toEqual(["in", "out"]);
        expect(step).toBeGreaterThan(1);
        return;
      }
      expect(outcome).toMatchObject({ code: "interrupted", message: expect.stringMatching(/not created/) });
      expect(storage.paths()).toEqual(["in"]);
    }
  });

  test("stopped before it began, it does nothing", async () => {
    const storage = await storageFor(job);
    await expect(job.run({ storage, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "interrupted" });
    expect(storage.paths()).toEqual(["in"]);
  });

  test("once it is done, a power cut takes nothing of it", async () => {
    const before = await storageFor(job);
    const storage = before.clone();
    await job.run({ storage });
    const after = storage.powerCut(before, () => false);
    expect(firstDifference(contentOf(after, "out"), contentOf(storage, "out"))).toBeUndefined();
  });

  test("a file that appeared meanwhile stays", async () => {
    const storage = await storageFor(job);
    const onProgress = (): void => {
      if (!storage.paths().includes("out")) storage.put("out", Buffer.from("precious"));
    };
    await expect(job.run({ storage, onProgress })).rejects.toMatchObject({ code: "exists", file: "out" });
    expect(Buffer.from(contentOf(storage, "out").toBytes()).toString()).toBe("precious");
  });

  test("named to be replaced, what it replaces is there until the new one is", async () => {
    const storage = await storageFor(job);
    storage.put("out", Buffer.from("precious"));
    const named: string[] = [];
    storage.onChange = ({ kind }) => {
      if (kind === "name") named.push(Buffer.from(contentOf(storage, "out").toBytes()).toString());
    };
    await job.run({ storage }, ["out"]);
    expect(named).toEqual(["precious"]);
    expect(firstDifference(contentOf(storage, "out"), contentOf(await undisturbed(job), "out"))).toBeUndefined();
  });
});
