/**
 * Proves the chain as a document: what a checkpoint, a fork, a rollback and a squash make of it; and what is found of a
 * checkpoint that was pending when a process ended, whether it was killed at any step or lost power.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { create, MemoryStorage } from "../../../src/lib/index.ts";
import {
  begun,
  checkpointAt,
  checkpointNames,
  committed,
  committedFor,
  dropped,
  flattened,
  forked,
  rangeOf,
  requireFreeName,
  rolledBack,
  squashed,
  unnamedRuns,
  withdrawn,
} from "../../../src/lib/stack/chain.ts";
import { isEmptyTop } from "../../../src/lib/stack/pending.ts";
import {
  decodeStackDocument,
  encodeStackDocument,
  type LayerPart,
  type StackDocument,
} from "../../../src/lib/stack/stack-document.ts";
import { HeldStackFile, readStackFile } from "../../../src/lib/stack/stack-file.ts";
import { noise } from "../../support/random.ts";

const TIME = "2026-11-29T12:00:00.000Z";
const CP = { name: "monday", time: TIME };
const PENDING = { checkpoint: CP, file: "new.cow" };

const chains: fc.Arbitrary<StackDocument> = fc
  .array(fc.record({ isNamed: fc.boolean(), isShared: fc.boolean() }), { minLength: 1, maxLength: 8 })
  .map((layers) => ({
    cowtool_stack: 1,
    base: { file: "golden.img" },
    layers: layers.map(({ isNamed, isShared }, i) => ({
      file: `${i}.cow`,
      ...(isNamed && i < layers.length - 1 && { checkpoint: { name: `cp${i}`, time: TIME } }),
      ...(isShared && i < layers.length - 1 && { shared: true }),
    })),
    x_other: 1,
  }));
const filesOf = (layers: readonly LayerPart[]): readonly string[] => layers.map(({ file }) => file);
const isSound = (document: StackDocument): void =>
  expect(decodeStackDocument(encodeStackDocument(document, "f"), "f")).toEqual(document);

describe("the chain as a document", () => {
  it("gets a checkpoint, and then has it; withdrawn it is as before", () => {
    fc.assert(
      fc.property(chains, (before) => {
        const pending = begun(before, PENDING);
        isSound(pending);
        const after = committed(pending);
        isSound(after);
        expect(filesOf(after.layers)).toEqual([...filesOf(before.layers), "new.cow"]);
        expect(checkpointNames(after)).toEqual([...checkpointNames(before), "monday"]);
        expect(checkpointAt(after, "monday", "f")).toBe(before.layers.length - 1);
        expect(() => requireFreeName(after, "monday", "f")).toThrow(expect.objectContaining({ code: "exists" }));
        expect(withdrawn(pending)).toEqual(before);
        expect(rolledBack(after, before.layers.length - 1, "newer.cow")).toMatchObject({ gone: [{ file: "new.cow" }] });
        const unnamed = dropped(after, before.layers.length - 1);
        expect(checkpointNames(unnamed)).toEqual(checkpointNames(before));
        expect(filesOf(unnamed.layers)).toEqual(filesOf(after.layers));
      }),
      { numRuns: 100 },
    );
  });

  it("is parted and shortened without the loss or the doubling of a layer", () => {
    fc.assert(
      fc.property(chains, fc.nat(), (chain, number) => {
        const at = number % chain.layers.length;
        const back = rolledBack(chain, at, "new.cow");
        isSound(back.document);
        expect(filesOf([...back.document.layers.slice(0, -1), ...back.gone])).toEqual(filesOf(chain.layers));
        const { parent, child } = forked(chain, at, "new.cow");
        isSound(parent);
        isSound(child);
        expect(filesOf(parent.layers)).toEqual(filesOf(chain.layers));
        expect(child.layers.slice(0, -1)).toEqual(parent.layers.slice(0, at + 1));
        expect(child.layers.slice(0, -1).every(({ shared }) => shared)).toBe(true);
        expect(child).not.toHaveProperty("x_other");
        const flat = flattened(chain, at, "new.img");
        isSound(flat.document);
        expect(filesOf([...flat.gone, ...flat.document.layers])).toEqual(filesOf(chain.layers));
      }),
      { numRuns: 100 },
    );
  });

  it("loses no checkpoint and no shared layer by a squash of what has no name", () => {
    fc.assert(
      fc.property(chains, (chain) => {
        let [short, gone]: [StackDocument, readonly LayerPart[]] = [chain, []];
        for (const [i, range] of [...unnamedRuns(chain)].reverse().entries()) {
          const done = squashed(short, range, `joined${i}.cow`);
          isSound(done.document);
          gone = [...done.gone, ...gone];
          short = done.document;
        }
        expect(unnamedRuns(short)).toEqual([]);
        expect(checkpointNames(short)).toEqual(checkpointNames(chain));
        expect(gone.some(({ shared }) => shared)).toBe(false);
        expect(short.layers.at(-1)).toEqual(chain.layers.at(-1));
        // Of two neighbours without a name, one would be too many.
        const frozen = short.layers.slice(0, -1);
        expect(
          frozen.some((each, i) => !(each.checkpoint || each.shared || !frozen[i + 1] || frozen[i + 1]?.shared)),
        ).toBe(false);
      }),
      { numRuns: 100 },
    );
  });

  it("is squashed from one checkpoint to another, and says what is no range", () => {
    const named = (name: string) => ({ file: `${name}.cow`, checkpoint: { name, time: TIME } });
    const layers = [named("a"), { file: "b.cow" }, named("c"), named("d"), { file: "top.cow" }];
    const chain: StackDocument = { cowtool_stack: 1, base: { file: "golden.img" }, layers };
    expect(rangeOf(chain, { from: "a", to: "d" }, "f")).toEqual({ from: 1, to: 3 });
    expect(rangeOf(chain, {}, "f")).toEqual({ from: 0, to: 3 });
    const { document, gone } = squashed(chain, { from: 1, to: 3 }, "new.cow");
    expect(checkpointNames(document)).toEqual(["a", "d"]);
    expect(filesOf(gone)).toEqual(["b.cow", "c.cow", "d.cow"]);
    for (const [range, code] of [
      [{ from: "d" }, "usage"],
      [{ from: "c", to: "a" }, "usage"],
      [{ from: "x" }, "not-found"],
    ] as const)
      expect(() => rangeOf(chain, range, "f")).toThrow(expect.objectContaining({ code, file: "f" }));
  });
});

const SOUND: StackDocument = { cowtool_stack: 1, base: { file: "golden.img" }, layers: [{ file: "vm1.cow" }] };
const put = (storage: MemoryStorage, path: string, document: StackDocument): void =>
  storage.put(path, encodeStackDocument(document, path));

/** A stack file whose checkpoint is pending, its new top, and the stack file that may decide. */
async function pendingOf(
  { decidedBy, hasData }: { readonly decidedBy?: string; readonly hasData?: boolean },
  decider?: StackDocument,
): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("golden.img", noise(8192, 1));
  storage.put("changed.img", noise(8192, 2));
  await create("golden.img", "vm1.cow", {}, { storage });
  await create("golden.img", "new.cow", { ...(hasData && { from: "changed.img" }) }, { storage });
  put(storage, "vm1.stack", begun(SOUND, { ...PENDING, ...(decidedBy !== undefined && { decided_by: decidedBy }) }));
  if (decider) put(storage, "first.stack", decider);
  return storage.clone();
}

const DECIDED = committed(begun(SOUND, PENDING));
describe("a stack file that decided for another one", () => {
  it("keeps that, whatever becomes of the checkpoint there, until the other one has written it down", async () => {
    const decider = dropped(committedFor(begun(SOUND, PENDING), ["vm1.stack"]), SOUND.layers.length - 1);
    const storage = await pendingOf({ decidedBy: "first.stack" }, decider);
    const hold = (name: string): StackDocument => {
      const held = HeldStackFile.hold(storage, readStackFile(storage, name));
      held.close();
      return held.document;
    };
    expect(hold("first.stack").decided).toEqual([{ name: CP.name, time: CP.time, members: ["vm1.stack"] }]);
    expect(hold("vm1.stack")).toEqual(DECIDED);
    expect(hold("first.stack")).not.toHaveProperty("decided");
    expect(decodeStackDocument(storage.readSmall("first.stack") ?? new Uint8Array(), "f")).not.toHaveProperty(
      "decided",
    );
  });

  it("does not keep it for one that is gone", async () => {
    const storage = await pendingOf({}, committedFor(begun(SOUND, PENDING), ["gone.stack", "vm1.stack"]));
    const held = HeldStackFile.hold(storage, readStackFile(storage, "first.stack"));
    held.close();
    expect(held.document.decided?.map(({ members }) => members)).toEqual([["vm1.stack"]]);
  });
});

it("makes the name of a stack file durable when it is held, if its top is in another directory", () => {
  const storage = new MemoryStorage();
  const syncs: string[] = [];
  storage.onChange = (change) => {
    if (change.kind === "sync-names") syncs.push(JSON.stringify(change));
  };
  for (const file of ["top.cow", "disks/top.cow"]) {
    put(storage, "vm1.stack", { ...SOUND, layers: [{ file }] });
    HeldStackFile.hold(storage, readStackFile(storage, "vm1.stack")).close();
  }
  expect(syncs).toHaveLength(1);
});

describe("a pending checkpoint", () => {
  it.each([
    ["of its own", false, {}, undefined, false],
    ["of its own, with unflushed writes", false, { hasData: true }, undefined, true],
    ["that another file decided", true, { decidedBy: "first.stack" }, DECIDED, true],
    [
      "that another file decided and dropped since",
      true,
      { decidedBy: "first.stack" },
      dropped(committedFor(begun(SOUND, PENDING), ["vm1.stack"]), SOUND.layers.length - 1),
      true,
    ],
    ["that another file did not decide", false, { decidedBy: "first.stack" }, begun(SOUND, PENDING), false],
    [
      "that another file decided at another time",
      false,
      { decidedBy: "first.stack" },
      { ...DECIDED, layers: [{ file: "a", checkpoint: { ...CP, time: "2026-11-29T13:00:00Z" } }, { file: "b" }] },
      false,
    ],
    ["whose deciding file is missing", false, { decidedBy: "first.stack" }, undefined, false],
    ["with writes, whose deciding file is missing", true, { decidedBy: "first.stack", hasData: true }, undefined, true],
    ["with writes, that another file did not decide", false, { decidedBy: "first.stack", hasData: true }, SOUND, true],
  ])("%s is made: %s", async (_, isMade, how, decider, isKept) => {
    const before = await pendingOf(how, decider);
    const counts = isMade ? DECIDED : SOUND;
    expect(readStackFile(before, "vm1.stack").document).toEqual(counts);
    // Killed at each step, it is the same again.
    for (let at = 0; ; at++) {
      const storage = before.clone();
      storage.onChange = (_change, index) => {
        if (index >= at) throw new Error("killed");
      };
      const notices: string[] = [];
      const hold = (on: MemoryStorage) =>
        HeldStackFile.hold(on, readStackFile(on, "vm1.stack"), { onNotice: ({ message }) => notices.push(message) });
      let isDone = true;
      try {
        hold(storage).close();
      } catch (error) {
        expect(error).toMatchObject({ message: "killed" });
        isDone = false;
      }
      const left = storage.clone();
      expect(readStackFile(left, "vm1.stack").document).toEqual(counts);
      const held = hold(left);
      expect(held.document).toEqual(counts);
      held.close();
      expect(decodeStackDocument(left.readSmall("vm1.stack") ?? new Uint8Array(), "f")).toEqual(counts);
      expect(left.facts("new.cow") !== undefined).toBe(isKept);
      expect(notices.some((text) => text.includes("no flush covered"))).toBe(!isMade && isKept);
      if (isDone) break;
    }
  });

  it("does not remove a layer, a used cowfile, or what is none", async () => {
    const storage = await pendingOf({});
    put(storage, "vm1.stack", begun(SOUND, { ...PENDING, file: "./x/../vm1.cow" }));
    storage.put("x/../vm1.cow", storage.content("vm1.cow")?.clone() ?? new Uint8Array());
    for (const file of ["vm1.cow", "golden.img"]) {
      put(storage, "vm1.stack", begun(SOUND, { ...PENDING, file }));
      HeldStackFile.hold(storage, readStackFile(storage, "vm1.stack")).close();
      expect(storage.facts(file)).toBeDefined();
      expect(readStackFile(storage, "vm1.stack").document).toEqual(SOUND);
    }
    expect(isEmptyTop(storage, "new.cow")).toBe(true);
    storage.open("new.cow", { writable: true }).write(Uint8Array.of(1), 9000);
    expect(isEmptyTop(storage, "new.cow")).toBe(false);
  });
});

describe("a prepared replacement", () => {
  it("is a rename and nothing else at the instant, and nothing if it is abandoned", async () => {
    const storage = await pendingOf({});
    put(storage, "vm1.stack", SOUND);
    const held = HeldStackFile.hold(storage, readStackFile(storage, "vm1.stack"));
    held.prepare(DECIDED).abandon();
    expect(held.document).toEqual(SOUND);
    const prepared = held.prepare(DECIDED);
    expect(readStackFile(storage, "vm1.stack").document).toEqual(SOUND);
    const steps = storage.log.length;
    prepared.commit();
    expect(storage.log.slice(steps).map(({ kind }) => kind)).toEqual(["name"]);
    expect(held.document).toEqual(DECIDED);
    expect(readStackFile(storage, "vm1.stack").document).toEqual(DECIDED);
    prepared.sync();
    expect(storage.log.slice(steps).map(({ kind }) => kind)).toEqual(["name", "sync-names"]);
    held.close();
  });
});
