/**
 * Proves stack files as a format and as a file: what is written is read again, anything else is refused with its place, names
 * are relative to the file, and it is only replaced as a whole, by the one that holds it.
 */
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CowError, create, diff, info, MemoryStorage, merge, openStack } from "../../../src/lib/index.ts";
import { parsePart, textOf } from "../../../src/lib/stack/part.ts";
import { StackSpec } from "../../../src/lib/stack/spec.ts";
import { decodeStackDocument, encodeStackDocument, type StackDocument } from "../../../src/lib/stack/stack-document.ts";
import { documentOf, HeldStackFile, readStackFile } from "../../../src/lib/stack/stack-file.ts";
import { noise } from "../../support/random.ts";

const KIB = 1024;
const name = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
  .filter((text) => !text.includes("\0") && text.isWellFormed());
const foreign = fc.option(fc.record({ x_other: fc.jsonValue() }), { nil: {} });
const checkpoint = fc.record(
  {
    name: fc.stringMatching(/^[a-z][a-z0-9_.:+-]{0,8}$/).filter((text) => !text.includes("..")),
    time: fc.constant("2026-11-29T12:00:00.000Z"),
    note: name,
  },
  { requiredKeys: ["name", "time"] },
);
const layer = fc
  .tuple(
    fc.record(
      { file: name, format: fc.constantFrom("cowfile", "dm-snapshot", "qcow2"), checkpoint, shared: fc.boolean() },
      { requiredKeys: ["file"] },
    ),
    foreign,
  )
  .map(([fields, more]) => ({ ...fields, ...more }));
const base = fc.oneof(
  fc.record({ file: name }),
  fc.record({ file: name, format: fc.constant("raw") }),
  fc.record({ file: name, format: fc.constant("qcow2"), settings: fc.constant({ backing: true as const }) }),
  fc.record({ uri: fc.constantFrom("nbd://host/golden", "nbd+unix:///?socket=/run/g.sock") }),
);
const pending = fc.record(
  { checkpoint: checkpoint.map((each) => ({ ...each, name: `new-${each.name}` })), file: name, decided_by: name },
  { requiredKeys: ["checkpoint", "file"] },
);
const documents: fc.Arbitrary<StackDocument> = fc
  .tuple(
    base,
    fc.uniqueArray(layer, { maxLength: 5, selector: (each) => each.checkpoint?.name ?? each }),
    foreign,
    fc.option(pending, { nil: undefined }),
  )
  .map(([bottom, layers, more, begun]) => ({
    cowtool_stack: 1,
    base: bottom,
    layers,
    ...more,
    ...(begun && layers.length > 0 && { pending: begun }),
  }));

function refusalOf(text: string | Uint8Array): CowError {
  try {
    decodeStackDocument(typeof text === "string" ? Buffer.from(text) : text, "f");
  } catch (error) {
    if (error instanceof CowError) return error;
    throw error;
  }
  throw new Error(`${text} is taken`);
}

const BEYOND_SCHEMA = /\$\.base\.format |settings|more_files|layers\[1\]|99999|\\ud800/;
const isOfSchema = new Ajv2020({ strict: false }).compile(
  JSON.parse(readFileSync(new URL("../../../schemas/stack-file.json", import.meta.url), "utf8")),
);

const SOUND = { cowtool_stack: 1, base: { file: "golden.img" }, layers: [{ file: "vm1.cow" }] } as const;
const CP = { name: "monday", time: "2026-11-29T12:00:00.000Z" };

/** `golden.img`, a layer `vm1.cow` over it, and `vm1.stack` of both; `changed.img` is what they show. */
async function made(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  const golden = noise(64 * KIB, 1);
  const changed = Buffer.from(golden);
  changed.set(noise(3000, 2), 20_000);
  storage.put("golden.img", golden);
  storage.put("changed.img", changed);
  const result = await create("golden.img", "vm1.cow", { from: "changed.img", stackFile: "vm1.stack" }, { storage });
  expect(result.stack).toBe("vm1.stack");
  return storage.clone();
}

function put(storage: MemoryStorage, path: string, document: object): void {
  storage.put(path, Buffer.from(JSON.stringify(document)));
}

describe("the format", () => {
  it("is read as it was written", () => {
    fc.assert(
      fc.property(documents, (document) => {
        const bytes = encodeStackDocument(document, "f");
        expect(isOfSchema(JSON.parse(JSON.stringify(document))), JSON.stringify(isOfSchema.errors)).toBe(true);
        expect(decodeStackDocument(bytes, "f")).toEqual(JSON.parse(JSON.stringify(document)));
        expect(Buffer.from(encodeStackDocument(decodeStackDocument(bytes, "f"), "f")).equals(bytes)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    ["", "bad-head", /not JSON from byte 0 \(0x0\)/],
    ["[1]", "bad-head", /\$ in it is no object/],
    ["{}", "bad-head", /cowtool_stack is missing/],
    ['{"cowtool_stack":1,"base":{"file":"ü"},"layers":[nope]}', "bad-head", /from byte 51 .*unexpected token 'o'/],
    ['{"cowtool_stack":1,}', "bad-head", /from byte 19 /],
    [Buffer.from([0x7b, 0xff, 0x7d]), "bad-head", /not UTF-8/],
    [Buffer.alloc((1 << 20) + 1, 32), "unsuitable", /longer than/],
  ] as const)("%j is none", (text, code, message) => {
    expect(refusalOf(text)).toMatchObject({ code, file: "f", message: expect.stringMatching(message) });
  });

  const layerWith = (fields: object) => ({ ...SOUND, layers: [{ file: "vm1.cow", ...fields }] });
  it.each([
    ["$.cowtool_stack", "unsupported", { ...SOUND, cowtool_stack: 2 }],
    ["$.cowtool_stack", "damaged", { ...SOUND, cowtool_stack: "1" }],
    ["$.base", "damaged", { cowtool_stack: 1, layers: [] }],
    ["$.layers", "damaged", { cowtool_stack: 1, base: SOUND.base }],
    ["$.colour", "unsupported", { ...SOUND, colour: "red" }],
    ['$.layers[0]["a b"]', "unsupported", layerWith({ "a b": 1 })],
    ["$.pending", "damaged", { ...SOUND, pending: true }],
    ["$.pending", "damaged", { ...SOUND, layers: [], pending: { checkpoint: CP, file: "x" } }],
    ["$.pending.file", "damaged", { ...SOUND, pending: { checkpoint: CP } }],
    ["$.pending.checkpoint", "damaged", { ...SOUND, pending: { file: "x" } }],
    ["$.pending.colour", "unsupported", { ...SOUND, pending: { checkpoint: CP, file: "x", colour: 1 } }],
    ["$.base.file", "damaged", { ...SOUND, base: {} }],
    ["$.base.file", "damaged", { ...SOUND, base: { file: "" } }],
    ["$.base.file", "damaged", { ...SOUND, base: { file: "a\0b" } }],
    ["$.base.file", "damaged", { ...SOUND, base: { file: "\ud800" } }],
    ["$.base.file", "damaged", { ...SOUND, base: { file: "x".repeat(5000) } }],
    ["$.base.format", "unsupported", { ...SOUND, base: { file: "a", format: "stack" } }],
    ["$.base.file", "unsupported", { ...SOUND, base: { uri: "nbd://h/e", file: "a" } }],
    ["$.base.uri", "damaged", { ...SOUND, base: { uri: "http://h/e" } }],
    ["$.base.uri", "damaged", { ...SOUND, base: { uri: "nbd://h:99999/" } }],
    ["$.layers[0].uri", "unsupported", { ...SOUND, layers: [{ uri: "nbd://h/e" }] }],
    ["$.layers[0].format", "damaged", layerWith({ format: "raw" })],
    ["$.layers[0].shared", "damaged", layerWith({ shared: 1 })],
    ["$.layers[0].settings.force", "unsupported", layerWith({ settings: { force: true } })],
    ["$.layers[0].settings.force", "damaged", layerWith({ format: "dm-snapshot", settings: { force: "yes" } })],
    ["$.layers[0].more_files", "damaged", layerWith({ more_files: ["b"] })],
    ["$.layers[0].checkpoint.name", "damaged", layerWith({ checkpoint: { ...CP, name: "a..b" } })],
    ["$.layers[0].checkpoint.name", "damaged", layerWith({ checkpoint: { ...CP, name: "vm@x" } })],
    ["$.layers[0].checkpoint.time", "damaged", layerWith({ checkpoint: { ...CP, time: "yesterday" } })],
    ["$.layers[0].checkpoint.note", "damaged", layerWith({ checkpoint: { ...CP, note: 7 } })],
    [
      "$.layers[1].checkpoint.name",
      "damaged",
      { ...SOUND, layers: ["a", "b"].map((file) => ({ file, checkpoint: CP })) },
    ],
    ["$.layers", "damaged", { ...SOUND, layers: Array.from({ length: 1025 }, (_, i) => ({ file: `${i}` })) }],
  ] as const)("%s: %s", (json_path, code, document) => {
    const error = refusalOf(JSON.stringify(document));
    // What the schema cannot say: what a format has, and that names differ.
    expect(isOfSchema(document)).toBe(BEYOND_SCHEMA.test(`${json_path} ${JSON.stringify(document)}`));
    expect(error).toMatchObject({ code, details: { file: "f", json_path } });
    expect(error.message).toContain(json_path);
  });

  it("has no place for a name that is no field", () => {
    expect(refusalOf('{"cowtool_stack":1,"base":{"file":"a"},"layers":[],"__proto__":{}}').code).toBe("unsupported");
  });
});

describe("a part of one", () => {
  it("can be written as a part of a stack", () => {
    const safe = name.filter((text) => !/\\(?:;|$)/.test(text));
    fc.assert(
      fc.property(
        safe,
        fc.constantFrom("", "raw:", "qcow2:backing;", "dm-snapshot:", "snap:word=4;block=512;"),
        (path, how) => {
          const { format, settings } = parsePart(`${how}x`);
          const wanted = { format, settings, path, more: how.startsWith("snap") ? [`${path}2`] : [] };
          const part = parsePart(textOf(wanted));
          expect({ ...part, path: part.path.replace(/^\.\//, "") }).toMatchObject({
            ...wanted,
            path: path.replace(/^\.\//, ""),
          });
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("names in it", () => {
  it("are relative to the file, absolute or URIs, and whatever is in them", () => {
    const storage = new MemoryStorage();
    put(storage, "vms/a/vm1.stack", {
      ...SOUND,
      base: { file: "../golden,1.img" },
      layers: [{ file: "/abs/x.cow" }, { file: "qcow2:y" }],
    });
    const spec = StackSpec.parse(storage, "stack:vms/a/vm1.stack");
    expect(spec.files).toEqual(["vms/golden,1.img", "/abs/x.cow", "vms/a/qcow2:y", "vms/a/vm1.stack"]);
    expect(spec).toMatchObject({ text: "stack:vms/a/vm1.stack", stackFile: { path: "vms/a/vm1.stack" } });
    expect(spec.below.text).toBe("vms/golden\\,1.img,/abs/x.cow");
    put(storage, "u.stack", { ...SOUND, base: { uri: "nbd://h/g" }, layers: [{ file: "nbd://h/e" }] });
    expect(StackSpec.parse(storage, "stack:u.stack").files).toEqual(["nbd://h/g", "nbd:/h/e", "u.stack"]);
  });

  it("are never the same twice, so no chain is endless", () => {
    const storage = new MemoryStorage();
    put(storage, "a.stack", { ...SOUND, layers: [{ file: "x" }, { file: "./y/../x" }] });
    expect(() => StackSpec.parse(storage, "stack:a.stack")).toThrow(
      expect.objectContaining({ code: "damaged", details: { file: "a.stack", json_path: "$.layers[1].file" } }),
    );
  });

  it("may not be those of stack files, its own either", async () => {
    const storage = new MemoryStorage();
    put(storage, "a.stack", { ...SOUND, base: { file: "a.stack" }, layers: [] });
    await expect(openStack(storage, "stack:a.stack")).rejects.toMatchObject({ code: "unsuitable", file: "a.stack" });
    expect(() => StackSpec.parse(storage, "base,stack:a.stack")).toThrow(expect.objectContaining({ code: "usage" }));
  });

  it("are in the message if there is no such file", async () => {
    const storage = new MemoryStorage();
    put(storage, "vm.stack", SOUND);
    const error = await openStack(storage, "stack:vm.stack").catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "not-found", file: "golden.img", hints: ["the stack file vm.stack names it"] });
  });

  it("may be more than 64, others may not", () => {
    const storage = new MemoryStorage();
    put(storage, "deep.stack", { ...SOUND, layers: Array.from({ length: 200 }, (_, i) => ({ file: `${i}.cow` })) });
    const spec = StackSpec.parse(storage, "stack:deep.stack");
    expect(spec.below.layers).toHaveLength(199);
    expect(() => spec.with(...Array.from({ length: 65 }, () => parsePart("x")))).toThrow(/more than 64/);
  });
});

describe("a stack file", () => {
  it("is made with a cowfile, and then is the stack", async () => {
    const storage = await made();
    expect(readStackFile(storage, "vm1.stack").document).toEqual(SOUND);
    expect((await diff("stack:vm1.stack", "changed.img", {}, { storage })).identical).toBe(true);
    const { stackFile } = StackSpec.parse(storage, "stack:vm1.stack");
    expect(documentOf(storage, "vm1.stack", StackSpec.parse(storage, "stack:vm1.stack").parts)).toEqual(
      stackFile?.document,
    );
  });

  it.each([
    ["an input", "golden.img", "usage"],
    ["the new layer", "./new.cow", "usage"],
    ["stack:FILE", "stack:x", "usage"],
    ["an image", "changed.img", "exists"],
    ["a stack file", "vm1.stack", "exists"],
    ["a file of cowtool's own", "x.cowtool-base", "usage"],
  ])("is not made over %s", async (_, stackFile, code) => {
    const storage = await made();
    const before = storage.clone();
    await expect(create("golden.img", "new.cow", { stackFile }, { storage })).rejects.toMatchObject({ code });
    const over = create("stack:vm1.stack", "new.cow", { stackFile: "new.stack" }, { storage });
    await expect(over).rejects.toMatchObject({ code: "usage" });
    expect(storage.paths()).toEqual(before.paths());
    expect(storage.log).toHaveLength(0);
  });

  it("is not overwritten by another output, and by --force only with another stack file", async () => {
    const storage = await made();
    const as = (output: string) => merge("golden.img", "vm1.cow", { output, force: true }, { storage });
    await expect(as("vm1.stack")).rejects.toMatchObject({ code: "exists" });
    await create("golden.img", "new.cow", { stackFile: "vm1.stack", force: true }, { storage });
    expect(readStackFile(storage, "vm1.stack").document.layers).toEqual([{ file: "new.cow" }]);
  });

  it("tells info which layers are checkpoints", async () => {
    const storage = await made();
    put(storage, "vm1.stack", { ...SOUND, layers: [{ file: "vm1.cow", checkpoint: { ...CP, note: "before" } }] });
    const { chain } = await info("stack:vm1.stack", {}, { storage });
    expect(chain?.map(({ checkpoint: found }) => found)).toEqual([null, { ...CP, note: "before" }]);
  });

  it("loses its top when that is merged, and shows the same", async () => {
    const storage = await made();
    await expect(merge("stack:vm1.stack", undefined, {}, { storage })).rejects.toMatchObject({
      code: "usage",
      hints: [expect.stringContaining("stack:vm1.stack vm1.cow merges the topmost one")],
    });
    await merge("stack:vm1.stack", "vm1.cow", { dryRun: true }, { storage });
    expect(readStackFile(storage, "vm1.stack").document).toEqual(SOUND);
    expect(await merge("stack:vm1.stack", "vm1.cow", {}, { storage })).toMatchObject({ output: "golden.img" });
    expect(readStackFile(storage, "vm1.stack").document).toEqual({ ...SOUND, layers: [] });
    expect((await diff("stack:vm1.stack", "changed.img", {}, { storage })).identical).toBe(true);
    expect(await merge("stack:vm1.stack", "vm1.cow", {}, { storage })).toMatchObject({ already_merged: true });
  });

  it.each([
    ["a checkpoint", { checkpoint: CP }, /is checkpoint "monday" of vm1.stack, and is never/],
    ["a shared layer", { shared: true }, /is a layer of vm1.stack that other stack files share, and is never/],
  ])("keeps %s as it is", async (_, frozen, message) => {
    const storage = await made();
    put(storage, "vm1.stack", { ...SOUND, layers: [{ file: "vm1.cow", ...frozen }] });
    await create("stack:vm1.stack", "more.cow", {}, { storage });
    const before = storage.log.length;
    const refusal = { code: "unsuitable", file: "vm1.cow", message: expect.stringMatching(message) };
    await expect(merge("stack:vm1.stack", "vm1.cow", {}, { storage })).rejects.toMatchObject(refusal);
    await expect(merge("stack:vm1.stack", "more.cow", {}, { storage })).rejects.toMatchObject(refusal);
    expect(storage.log).toHaveLength(before);
    await merge("stack:vm1.stack", "more.cow", { output: "out" }, { storage });
    await merge("stack:vm1.stack", undefined, { output: "all" }, { storage });
    expect((await diff("all", "changed.img", {}, { storage })).identical).toBe(true);
  });
});

describe("who holds a stack file", () => {
  it("replaces it as a whole: cut off anywhere, it is the old or the new one", async () => {
    const storage = await made();
    const before = storage.clone();
    const held = HeldStackFile.hold(storage, readStackFile(storage, "vm1.stack"));
    const next: StackDocument = { ...SOUND, layers: [...SOUND.layers, { file: "vm2.cow" }], x_keep: [1] };
    held.replace(next);
    expect(held.document).toEqual(next);
    held.close();
    for (let cut = 0; cut <= storage.log.length; cut++)
      for (const keep of [() => true, () => false]) {
        const partial = storage.clone();
        partial.log.push(...storage.log.slice(0, cut));
        const { document } = readStackFile(partial.powerCut(before, keep), "vm1.stack");
        expect([SOUND, next]).toContainEqual(document);
        if (cut === storage.log.length) expect(document).toEqual(next);
      }
  });

  it("does not take one that was changed since it was read", async () => {
    const storage = await made();
    const read = readStackFile(storage, "vm1.stack");
    put(storage, "vm1.stack", { ...SOUND, layers: [] });
    expect(() => HeldStackFile.hold(storage, read)).toThrow(
      expect.objectContaining({ code: "locked", file: "vm1.stack" }),
    );
  });
});
