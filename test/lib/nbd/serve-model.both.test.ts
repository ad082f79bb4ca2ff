/**
 * Proves that a served stack behaves like a row of bytes in memory: random writes, zeros, trims, flushes and reads at any
 * offset, through up to three connections at once whose writes meet in the same blocks, over stacks of every kind; and
 * that afterwards the cowfile holds just that, and is clean.
 */
import { readFileSync, rmSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { create, nodeStorage } from "../../../src/lib/index.ts";
import { contentOf, expectClean } from "../../support/nbd/left-behind.ts";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { type Ask, CMD, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeImage, startServing } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { scratchDirectory, seesHoles } from "../../support/scratch.ts";

const KIB = 1024;
const MAX_BYTES = 300 * KIB;
const at = scratchDirectory();

type Kind = "write" | "zero" | "trim" | "read" | "flush";

interface Step {
  readonly connection: number;
  readonly kind: Kind;
  /** Where, in millionths of the image. */
  readonly where: number;
  readonly length: number;
  readonly flags: number;
  readonly seed: number;
}

const kinds: readonly Kind[] = ["write", "write", "write", "zero", "trim", "read", "read", "flush"];
const lengths = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.constantFrom(512, KIB, 4 * KIB, 64 * KIB),
  fc.integer({ min: 1, max: 9 * KIB }),
  fc.integer({ min: 1, max: MAX_BYTES }),
);
const step: fc.Arbitrary<Step> = fc.record({
  connection: fc.nat(2),
  kind: fc.constantFrom(...kinds),
  where: fc.oneof(fc.nat(1_000_000), fc.nat(20_000)),
  length: lengths,
  flags: fc.constantFrom(0, 0, FLAG.FUA, FLAG.NO_HOLE),
  seed: fc.nat(1000),
});

interface Scene {
  readonly blocks: number;
  /** Bytes behind the last whole block of the base. */
  readonly tail: number;
  readonly withHoles: boolean;
  readonly connections: number;
  readonly steps: readonly Step[];
}

const scene: fc.Arbitrary<Scene> = fc.record({
  blocks: fc.constantFrom(1, 7, 255, 256, 257, 700, 1500),
  tail: fc.constantFrom(0, 0, 1, 700),
  withHoles: fc.boolean(),
  connections: fc.integer({ min: 1, max: 3 }),
  steps: fc.array(step, { minLength: 1, maxLength: 40, size: "max" }),
});

interface Placed extends Step {
  readonly offset: number;
}

function place(given: Step, size: number): Placed {
  const offset = Math.min(size - 1, Math.floor((given.where * size) / 1_000_000));
  return { ...given, offset, length: given.kind === "flush" ? 0 : Math.min(given.length, size - offset) };
}

/** Steps that may be under way together: none touches a byte that another one changes. */
function waves(steps: readonly Placed[]): readonly (readonly Placed[])[] {
  const found: Placed[][] = [];
  for (const next of steps) {
    const meets = (other: Placed): boolean =>
      (next.kind !== "read" || other.kind !== "read") &&
      next.offset < other.offset + other.length &&
      other.offset < next.offset + next.length;
    const current = found.at(-1);
    if (current && !current.some(meets)) current.push(next);
    else found.push([next]);
  }
  return found;
}

const TYPES = { write: CMD.WRITE, zero: CMD.WRITE_ZEROES, trim: CMD.TRIM, read: CMD.READ, flush: CMD.FLUSH };

function askOf({ kind, offset, length, flags, seed }: Placed): Ask {
  const type = TYPES[kind];
  if (kind === "flush") return { type };
  if (kind === "write") return { type, offset, payload: noise(length, seed), flags: flags & FLAG.FUA };
  return { type, offset, length, flags: kind === "zero" ? flags : flags & FLAG.FUA };
}

/** Does a wave through all connections at once, and what it means to the model. */
async function playWave(wave: readonly Placed[], sessions: readonly RawSession[], model: Buffer): Promise<void> {
  const byConnection = sessions.map((_, i) => wave.filter(({ connection }) => connection % sessions.length === i));
  const answers = await Promise.all(sessions.map((session, i) => session.all(...(byConnection[i] ?? []).map(askOf))));
  for (const [i, steps] of byConnection.entries()) {
    for (const [k, done] of steps.entries()) {
      const answer = answers[i]?.[k];
      if (!answer) throw new Error("no answer");
      const { data } = succeed(answer);
      await note(done, data, sessions[0], model);
    }
  }
}

async function note(
  { kind, offset, length, seed }: Placed,
  data: Buffer,
  session: RawSession | undefined,
  model: Buffer,
): Promise<void> {
  const end = offset + length;
  if (kind === "read") expectSame(data, model.subarray(offset, end), offset);
  if (kind === "write") model.set(noise(length, seed), offset);
  if (kind === "zero") model.fill(0, offset, end);
  if (kind !== "trim" || !session) return;
  const got = await session.read(offset, length);
  for (const [i, byte] of got.entries())
    if (byte !== 0 && byte !== model[offset + i]) throw new Error(`trimmed byte ${offset + i} is neither old nor zero`);
  model.set(got, offset);
}

/** Says little of what may be much. */
function expectSame(got: Uint8Array, wanted: Uint8Array, offset = 0): void {
  if (Buffer.compare(got, wanted) === 0) return;
  const first = got.findIndex((byte, i) => byte !== wanted[i]);
  throw new Error(
    `byte ${offset + first} is ${got[first]}, not ${wanted[first]}; ${got.length} of ${wanted.length} bytes`,
  );
}

/** The base of a scene, with real holes. */
function makeBase(path: string, { blocks, tail, withHoles }: Scene): Buffer {
  const bytes = Buffer.from(noise(blocks * KIB + tail, blocks));
  const holes: (readonly [number, number])[] = [];
  for (let from = 8 * KIB; withHoles && from < bytes.length; from += 24 * KIB)
    holes.push([from, Math.min(bytes.length, from + 16 * KIB)]);
  for (const [from, to] of holes) bytes.fill(0, from, to);
  makeImage(path, bytes);
  const device = nodeStorage.open(path, { writable: true, lock: "exclusive" });
  for (const [from, to] of holes) device.punchHole(from, to - from);
  device.close();
  return bytes;
}

/** So many cowfiles over a base; all but the last one hold some blocks, as the model then does. */
async function makeLayers(count: number, base: string, model: Buffer, tail: Uint8Array): Promise<string[]> {
  const parts = [base];
  for (let i = 1; i <= count; i++) {
    const cowfile = `${base}.${i}`;
    rmSync(cowfile, { force: true });
    if (i < count) {
      for (let offset = i * 3000; offset < model.length; offset += 50_000 + i)
        model.set(noise(Math.min(5000, model.length - offset), i + offset), offset);
      // What lies behind the last whole block is in the base alone.
      const wanted = makeImage(at("wanted"), Buffer.concat(i === 1 ? [model, tail] : [model]));
      await create(parts.join(","), cowfile, { from: wanted }, {});
    } else await create(parts.join(","), cowfile, {}, {});
    parts.push(cowfile);
  }
  return parts;
}

interface Stage {
  readonly made: Scene;
  readonly base: Buffer;
  readonly model: Buffer;
  readonly parts: readonly string[];
}

async function set(made: Scene, name: string, layers: number): Promise<Stage> {
  const base = makeBase(at(name), made);
  const model = Buffer.from(base.subarray(0, made.blocks * KIB));
  return { made, base, model, parts: await makeLayers(layers, at(name), model, base.subarray(model.length)) };
}

async function play({ made, model }: Stage, socket: string, name: string): Promise<void> {
  const sessions: RawSession[] = [];
  for (const style of STYLES.slice(0, made.connections)) sessions.push(await RawSession.open(socket, style, { name }));
  for (const wave of waves(made.steps.map((given) => place(given, model.length))))
    await playWave(wave, sessions, model);
  for (const session of sessions) expectSame(await session.read(0, model.length), model);
  await Promise.all(sessions.map((session) => session.goodbye()));
}

async function judge({ base, model, parts }: Stage): Promise<void> {
  expectSame(readFileSync(parts[0] ?? ""), base);
  if (parts.length === 1) return;
  expectSame((await contentOf(...parts)).subarray(0, model.length), model);
  await expectClean(parts.at(-1) ?? "", parts.slice(0, -1).join(","));
}

/** All scenes are exports of one server: threads take longer to start than scenes to play. */
async function playAll(scenes: readonly Scene[], layers: number): Promise<void> {
  const stages: Stage[] = [];
  for (const [i, made] of scenes.entries()) stages.push(await set(made, `base${i}`, layers));
  const exports = stages.map(({ parts }, i) => ({ name: `scene ${i}`, stack: parts.join(",") }));
  const server = await startServing(at, exports, layers === 0 ? { ephemeral: true } : {});
  try {
    for (const [i, stage] of stages.entries()) await play(stage, server.socket, `scene ${i}`);
  } finally {
    await server.stop();
  }
  expect(server.notices).toEqual([]);
  for (const stage of stages) await judge(stage);
}

describe("a served stack is like bytes in memory", () => {
  test.each([
    ["a throw-away layer", 0],
    ["a cowfile", 1],
    ["two cowfiles", 2],
    ["three cowfiles", 3],
  ] as const)("%s over a base", async (_, layers) => {
    const count = runs(seesHoles ? 10 : 4);
    const scenes = fc.array(scene, { minLength: count, maxLength: count });
    await fc.assert(
      fc.asyncProperty(scenes, (made) => playAll(made, layers)),
      { numRuns: 1, endOnFailure: true },
    );
  });
});
