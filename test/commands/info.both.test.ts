/** Proves what `info` tells: facts of every kind of file, and a map that covers the image without gap or overlap. */
import { describe, expect, test } from "vitest";
import { HELD, pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { holdLocks, type LockHolder } from "../support/lock-holder.ts";

const at = useImages();

interface MapExtent {
  readonly offset: number;
  readonly length: number;
  readonly allocated: boolean;
}

async function factsOf(name: string, ...flags: readonly string[]): Promise<Record<string, unknown>> {
  const ran = await run("info", [at(name), "--json", ...flags]);
  expect(ran.status).toBe(0);
  return expectJson(ran.stdout, "info");
}

describe("info --map", () => {
  test.each(["vm.cow", "be32.cow", "dirty.cow", "lost.cow", "top.cow", "plain.pack", "gzip.pack"])(
    "%s: covers the whole image once",
    async (name) => {
      const facts = await factsOf(name, "--map");
      const extents = facts["extents"] as readonly MapExtent[];
      let end = 0;
      let allocated: boolean | undefined;
      for (const extent of extents) {
        expect(extent.offset).toBe(end);
        expect(extent.length % 1024).toBe(0);
        expect(extent.allocated, "neighbours are joined").not.toBe(allocated);
        end += extent.length;
        allocated = extent.allocated;
      }
      expect(end).toBe(facts["virtual_size"]);
    },
  );

  test("says which blocks the cowfile holds", async () => {
    const extents = (await factsOf("vm.cow", "--map"))["extents"] as readonly MapExtent[];
    const held = extents.filter(({ allocated }) => allocated);
    const blocks = held.flatMap(({ offset, length }) =>
      Array.from({ length: length / 1024 }, (_, index) => offset / 1024 + index),
    );
    expect(blocks).toEqual(HELD);
    expect(extents[0]).toEqual({ offset: 0, length: 1024, allocated: true });
  });

  test("of an empty cowfile is one extent", async () => {
    await run("create", [at("base.img"), at("new.cow")]);
    expect((await factsOf("new.cow", "--map"))["extents"]).toEqual([
      { offset: 0, length: 300 * 1024, allocated: false },
    ]);
  });

  test("is drawn for people, with a legend", async () => {
    const ran = await run("info", [at("vm.cow"), "--map"], { isTerminal: true, columns: 60, env: { NO_COLOR: "1" } });
    const rows = ran.stdout.split("\n").filter((line) => /^[.·█#]+$/.test(line));
    expect(rows.join("")).toHaveLength(300);
    for (const [block, cell] of [...rows.join("")].entries())
      expect(/[█#]/.test(cell), `block ${block}`).toBe(HELD.includes(block));
    expect(ran.stdout).toMatch(/from the base .* allocated in the cowfile .*1 KiB/);
  });

  test("is refused for a file whose head is beyond use", async () => {
    const error = expectErrorJson(await run("info", [at("hostile.cow"), "--map", "--json"]), 4);
    expect(error.details).toMatchObject({ file: at("hostile.cow"), problem: "block-count" });
  });
});

describe("info", () => {
  test("tells state, counts and sizes", async () => {
    expect(await factsOf("vm.cow")).toMatchObject({
      file: at("vm.cow"),
      format: "cowfile",
      abi: "le64",
      version: 1,
      state: "clean",
      packed: null,
      block_size: 1024,
      map_size: 1024,
      data_offset: 4096,
      rdo_blocks: 300,
      virtual_size: 307200,
      blocks_used: 10,
      blocks_used_header: 10,
      file_size: 4096 + 300 * 1024,
      problems: [],
    });
    expect(await factsOf("dirty.cow")).toMatchObject({ state: "dirty", blocks_used: 7, blocks_used_header: 10 });
    expect(await factsOf("be32.cow")).toMatchObject({ abi: "be32", blocks_used: 10 });
  });

  test("sees through both kinds of pack", async () => {
    const { fingerprint } = await factsOf("vm.cow");
    for (const packed of ["plain", "gzip"])
      expect(await factsOf(`${packed}.pack`)).toMatchObject({ packed, blocks_used: 10, fingerprint, state: "clean" });
  });

  test("gives what a double would round as decimal digits, and does not fail over it", async () => {
    const facts = await factsOf("hostile.cow");
    expect(facts).toMatchObject({ rdo_blocks: "9223372036854775808", blocks_used: null, virtual_size: null });
    expect(facts["problems"]).toMatchObject([{ id: "block-count", severity: "error", offset: 32 }]);
    expect((await run("info", [at("hostile.cow")])).stdout).toContain("9223372036854775808");
  });

  test("lists what another base would mean, and still succeeds", async () => {
    const { problems } = await factsOf("vm.cow", "--rdofile", at("random.img"));
    expect(problems).toMatchObject([{ id: "base-fingerprint" }]);
    expect((await factsOf("vm.cow", "--rdofile", at("base.img")))["problems"]).toEqual([]);
  });

  test("--force-share looks at a file that is being written; without it the hint says when to try again", async () => {
    let holder: LockHolder | undefined;
    try {
      holder = await holdLocks(false);
      await holder.lock(at("vm.cow"));
      const before = pictureOf(at(""));
      const refused = await run("info", [at("vm.cow")]);
      expectErrorLine(refused, 8);
      expect(refused.stderr).toMatch(/hint: .*(?:try again|--force-share)/);
      expect((await factsOf("vm.cow", "--force-share"))["blocks_used"]).toBe(10);
      expect(pictureOf(at(""))).toEqual(before);
    } finally {
      await holder?.end();
    }
  });
});
