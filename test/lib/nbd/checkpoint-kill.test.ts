/**
 * Proves that a kill at any moment of a checkpoint loses nothing: a real server is killed while four clients write to two
 * exports and checkpoints of both are made. Opened again, each disk has every write that was replied to, and each checkpoint that
 * was answered is one instant; one that was not is in both stack files, or in neither.
 *
 * COWTOOL_KILL_ROUNDS says how many times.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect, create, nodeStorage } from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { contentOf } from "../../support/nbd/left-behind.ts";
import { NumberedWriter } from "../../support/nbd/numbered-writer.ts";
import { serveProgram } from "../../support/nbd/program.ts";
import { makeImage } from "../../support/nbd/test-server.ts";
import { noise, random } from "../../support/random.ts";
import { isExhaustive, SEED } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 3 * MIB;
const BLOCKS = 24;
const ROUNDS = Number(process.env["COWTOOL_KILL_ROUNDS"] ?? (isExhaustive ? 100 : 3));
const DISKS = ["a", "b"] as const;
const OFFSETS = [MIB, 2 * MIB];
/** A server lives for at most as long after the last of its checkpoints is asked for. */
const LATER_MS = 120;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const at = scratchDirectory();

interface Instant {
  readonly replied: readonly number[];
  readonly sent: readonly number[];
}

interface Listed {
  readonly base: { readonly file: string };
  readonly layers: readonly { readonly file: string; readonly checkpoint?: { readonly name: string } }[];
  readonly pending?: unknown;
}

const listed = (disk: string): Listed => JSON.parse(readFileSync(at(`${disk}.stack`), "utf8")) as Listed;

/** By checkpoint, and the disk itself under the name "". */
async function contents(disk: string): Promise<ReadonlyMap<string, Buffer>> {
  const { base, layers } = listed(disk);
  const all = new Map<string, Buffer>();
  for (const [i, { checkpoint }] of layers.entries()) {
    const files = [base, ...layers.slice(0, i + 1)].map(({ file }) => join(at(""), file));
    if (checkpoint || i === layers.length - 1) all.set(checkpoint?.name ?? "", await contentOf(...files));
  }
  return all;
}

class Campaign {
  readonly #next = random(SEED);
  /** For each checkpoint what it may hold; it was answered if `sent` is known. */
  readonly #instants = new Map<string, Instant>();
  readonly #answered = new Set<string>();
  #last: readonly number[] = [0, 0, 0, 0];
  made = 0;

  async play(round: number): Promise<void> {
    const stacks = DISKS.flatMap((disk) => ["--export", `${disk}=stack:${at(`${disk}.stack`)}`]);
    const server = await serveProgram([...stacks, "--socket", at("s"), "--control", at("c"), "--json"]);
    const client = await connect({ server: at("c") });
    const writers = await Promise.all(
      this.#last.map((from, i) =>
        NumberedWriter.enter(at("s"), DISKS[i >> 1] ?? "", OFFSETS[i & 1] ?? 0, BLOCKS, from),
      ),
    );
    const running = writers.map((writer) => writer.run());
    const wanted = Math.floor(this.#next() * 3);
    let killed: Promise<unknown> | undefined;
    for (let i = 0; !killed || i <= wanted; i++) {
      if (i === wanted) killed = pause(this.#next() * LATER_MS).then(() => server.stop("SIGKILL"));
      const name = `r${round}-${i}`;
      const replied = writers.map((writer) => writer.replied);
      this.#instants.set(name, { replied, sent: replied.map(() => Number.POSITIVE_INFINITY) });
      try {
        await client.checkpoint({ names: [...DISKS], as: name });
      } catch (error) {
        if (!killed) throw error;
        break;
      }
      this.#instants.set(name, { replied, sent: writers.map(({ sent }) => sent) });
      this.#answered.add(name);
      this.made++;
    }
    await killed;
    await Promise.all(running);
    await this.#judge(writers);
  }

  async #judge(writers: readonly NumberedWriter[]): Promise<void> {
    // The order in which they are opened must not matter.
    const order = this.#next() < 0.5 ? [...DISKS] : [...DISKS].reverse();
    for (const disk of order)
      (await ServedStack.open(nodeStorage, `stack:${at(`${disk}.stack`)}`, { access: "writable" })).close();
    const found = await Promise.all(DISKS.map(contents));
    const names = found.map((each) => [...each.keys()].sort());
    expect(names[0]).toEqual(names[1]);
    for (const name of this.#answered) expect(names[0]).toContain(name);
    for (const [name, { replied, sent }] of this.#instants)
      for (const [i, writer] of writers.entries()) {
        const image = found[i >> 1]?.get(name);
        if (!image) continue;
        const last = writer.lastIn(image);
        expect(last, name).toBeGreaterThanOrEqual(replied[i] ?? 0);
        expect(last, name).toBeLessThanOrEqual(sent[i] ?? 0);
      }
    this.#last = writers.map((writer, i) => writer.lastIn(found[i >> 1]?.get("") ?? Buffer.alloc(0)));
    for (const [i, writer] of writers.entries()) expect(this.#last[i]).toBeGreaterThanOrEqual(writer.replied);
    const layers = DISKS.flatMap((disk) => listed(disk).layers.map(({ file }) => file));
    expect(
      readdirSync(at(""))
        .filter((file) => file.endsWith(".cow"))
        .sort(),
    ).toEqual(layers.sort());
  }
}

test(`killed ${ROUNDS} times while checkpoints are made: nothing is lost`, {
  timeout: 60_000 + ROUNDS * 20_000,
}, async () => {
  for (const disk of DISKS) {
    makeImage(at(`${disk}.img`), noise(64 << 10, 1), SIZE);
    await create(at(`${disk}.img`), at(`${disk}.cow`), { stackFile: at(`${disk}.stack`) });
  }
  const campaign = new Campaign();
  for (let round = 0; round < ROUNDS; round++) await campaign.play(round);
  expect(campaign.made).toBeGreaterThan(0);
});
