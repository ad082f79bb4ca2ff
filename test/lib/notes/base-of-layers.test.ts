/**
 * Proves that operations which make an output of layers ask each cowfile about its base first: a base that was changed where it
 * shows is refused before a new base record would vouch for it, and is a warning where none is written or `force` is given.
 */
import { describe, expect, test } from "vitest";
import {
  convert,
  create,
  diff,
  invert,
  MemoryStorage,
  merge,
  mergeSiblings,
  type OperationContext,
  squash,
} from "../../../src/lib/index.ts";
import { CHANGED, KIB, listening, poke, start } from "../../support/images/noted-base.ts";
import { noise } from "../../support/random.ts";

/** `cow` and `other` over `base`, `top` over `base,cow`, which holds block 100 as well. */
async function prepared(): Promise<MemoryStorage> {
  const storage = await start(new MemoryStorage());
  const over = (image: Uint8Array, block: number) => {
    const copy = Uint8Array.from(image);
    copy.set(noise(KIB * 4, block), block * KIB);
    return copy;
  };
  storage.put("top.img", over(CHANGED, 100));
  await create("base,cow", "top", { from: "top.img" }, { storage });
  storage.put("other.img", over(storage.content("base")?.toBytes() ?? CHANGED, 60));
  await create("base", "other", { from: "other.img" }, { storage });
  return storage;
}

type Call = (force: boolean, context: OperationContext) => Promise<unknown>;

const refusing: Readonly<Record<string, Call>> = {
  squash: (force, context) => squash("base,cow,top", "out", { force }, context),
  "squash of the upper one": (force, context) => squash("base,cow,top", "out", { from: 2, force }, context),
  "three-way merge": (force, context) => mergeSiblings("base", "cow", "other", { output: "out", force }, context),
  "create --from": (force, context) => create("base", "out", { from: "base,cow", force }, context),
  "diff -o": (force, context) => diff("base", "base,cow", { delta: "out", force }, context),
  "convert --to cowfile": (force, context) =>
    convert("base,cow,top", "out", { to: "cowfile", base: "base", force }, context),
};

const warning: Readonly<Record<string, Call>> = {
  "merge into the cowfile below": (_, context) => merge("base,cow", "top", {}, context),
  "merge -o of a stack": (_, context) => merge("base,cow", "top", { output: "out" }, context),
  invert: (_, context) => invert("base", "cow", { output: "out", layer: "back" }, context),
  "convert --to raw": (_, context) => convert("base,cow", "out", { to: "raw" }, context),
};

const message = expect.stringMatching(
  /^was changed since .* does not hide that: blocks 8 to 11 at byte 8192/,
) as unknown;

describe("a base that was changed where it shows", () => {
  test.each(Object.entries(refusing))("%s: refused, and forced with a warning", async (_, call) => {
    const storage = await prepared();
    await call(false, { storage: storage.clone() });
    poke(storage, 10);
    await expect(call(false, { storage })).rejects.toMatchObject({ code: "wrong-base", message });
    expect(storage.paths()).not.toContain("out");
    const context = listening(storage);
    await call(true, context);
    expect(context.notices).toContainEqual(expect.objectContaining({ severity: "warning", message }));
  });

  test.each(Object.entries(warning))("%s: a warning", async (_, call) => {
    const storage = await prepared();
    poke(storage, 10);
    const context = listening(storage);
    await call(false, context);
    expect(context.notices).toContainEqual(expect.objectContaining({ severity: "warning", message }));
  });
});

test("a base that was changed where a layer above holds the block is squashed without a word", async () => {
  const storage = await prepared();
  poke(storage, 101);
  const context = listening(storage);
  await squash("base,cow,top", "out", {}, context);
  expect(context.notices).toEqual([]);
});

test("a change below layers that stay is not asked about", async () => {
  const storage = await prepared();
  poke(storage, 10);
  storage.remove("top.cowtool-base");
  await squash("base,cow,top", "out", { from: 2 }, { storage });
  await create("base,cow", "again", { from: "base,cow,top" }, { storage });
  await convert("base,cow,top", "third", { to: "cowfile", base: "base,cow" }, { storage });
});
