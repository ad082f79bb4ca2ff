/**
 * Proves snapshots of snap.c: every golden case reads as its manifest says, the map's every entry is where the manifest has
 * it, and what cannot be a log, or not in the way that is said, is refused.
 */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { check, info, nodeStorage, openStack } from "../../../src/lib/index.ts";
import {
  digestOf,
  hasRelatives,
  type RelativeManifest,
  relativeCases,
  relativeImages,
  relativeManifest,
} from "../../support/images/relatives.ts";

interface Manifest extends RelativeManifest {
  readonly geometry: {
    readonly src_blocks: number;
    readonly blksz: number;
    readonly word: number;
    readonly bitmap_blocks: number;
    readonly map_blocks: number;
    readonly data_base: number;
  };
  readonly endian: "le" | "be";
  readonly index_unit: "block" | "sector";
  readonly logs: readonly {
    readonly file: string;
    readonly blocks: number;
    readonly data_blocks: number;
    readonly used: number;
  }[];
  readonly ended: object | null;
  readonly map: readonly (readonly [block: number, log: number, dataBlock: number])[];
}

function partOf(
  name: string,
  terms: { readonly word?: number; readonly endian?: string; readonly block?: number } = {},
): string {
  const { geometry, endian, logs } = relativeManifest<Manifest>("snap", name);
  const folder = relativeImages("snap", name);
  const said = `block=${terms.block ?? geometry.blksz};word=${terms.word ?? geometry.word};endian=${terms.endian ?? (endian === "le" ? "little" : "big")}`;
  return `snap:${said};${logs.map(({ file }) => join(folder, file)).join(";")}`;
}

function sourceOf(name: string): string {
  return join(relativeImages("snap", name), "source.img");
}

const intended = relativeCases("snap").filter((name) => name !== "ascoded");

describe.runIf(hasRelatives)("golden logs of snap.c", () => {
  for (const name of intended) {
    it(`${name}: shows the source as it was`, async () => {
      const manifest = relativeManifest<Manifest>("snap", name);
      const stack = await openStack(nodeStorage, `${sourceOf(name)},${partOf(name)}`);
      try {
        const view = Buffer.alloc(stack.device.sizeBytes);
        stack.device.read(view, 0);
        expect({ bytes: view.length, sha256: digestOf(view) }).toEqual(manifest.files["view.img"]);
        const [layer] = stack.layers;
        const { blksz } = manifest.geometry;
        const found: unknown[] = [];
        for (const { offset, length, at, source } of layer?.places(0, view.length) ?? [])
          for (let done = 0; done < length; done += blksz)
            found.push([
              (offset + done) / blksz,
              manifest.logs.findIndex(({ file }) => source.name.endsWith(file)),
              (at + done) / blksz,
            ]);
        expect(found).toEqual(manifest.map);
        expect(layer?.warnings?.length ?? 0).toBe(manifest.ended ? 1 : 0);
      } finally {
        stack.close();
      }
    });

    it(`${name}: info and check tell what the manifest tells`, async () => {
      const { geometry, logs, map, ended } = relativeManifest<Manifest>("snap", name);
      const { facts } = await info(partOf(name), { rdofile: sourceOf(name) }, {});
      expect(facts).toMatchObject({
        format: "snap",
        source_blocks: geometry.src_blocks,
        bitmap_blocks: geometry.bitmap_blocks,
        map_blocks: geometry.map_blocks,
        data_base: geometry.data_base,
        blocks_preserved: map.length,
        possibly_ended: ended !== null,
        logs: logs.map(({ blocks, data_blocks, used }) => ({ blocks, data_blocks, used })),
      });
      const { problems } = await check(partOf(name), { rdofile: sourceOf(name) }, {});
      expect([...problems].map(({ id }) => id)).toEqual(ended ? ["possibly-ended"] : []);
    });
  }

  for (const name of intended.filter((each) => each !== "empty")) {
    it(`${name}: is refused with another word size or byte order, and told which would fit`, async () => {
      const { geometry, endian } = relativeManifest<Manifest>("snap", name);
      const right = `word=${geometry.word};endian=${endian === "le" ? "little" : "big"}`;
      for (const [word, order] of [
        [4, "little"],
        [4, "big"],
        [8, "little"],
        [8, "big"],
      ] as const) {
        if (`word=${word};endian=${order}` === right) continue;
        await expect(
          openStack(nodeStorage, `${sourceOf(name)},${partOf(name, { word, endian: order })}`),
        ).rejects.toMatchObject({
          code: expect.stringMatching(/damaged|truncated/),
          hints: expect.arrayContaining([expect.stringContaining(right)]),
        });
      }
    });
  }

  it("ascoded: what the driver as it was posted would have written is refused", async () => {
    await expect(openStack(nodeStorage, `${sourceOf("ascoded")},${partOf("ascoded")}`)).rejects.toMatchObject({
      code: "damaged",
    });
  });
});
