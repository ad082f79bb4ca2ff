/**
 * Proves dm-cow stacks: every golden case reads as its manifest says in every way in which its bitmaps can be read, and
 * whatever is not a table, or does not fit its devices, is refused.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { check, info, nodeStorage, openStack } from "../../../src/lib/index.ts";
import { collected } from "../../support/collected.ts";
import {
  digestOf,
  hasRelatives,
  type RelativeManifest,
  relativeCases,
  relativeImages,
  relativeManifest,
} from "../../support/images/relatives.ts";
import { scratchDirectory } from "../../support/scratch.ts";

interface Manifest extends RelativeManifest {
  readonly length_sectors: number;
  readonly addressing: string;
  readonly table: string;
  readonly base_offset: number;
  readonly layers: readonly {
    readonly bitmap: string;
    readonly data: string;
    readonly present: readonly (readonly [number, number])[];
    readonly fits: readonly string[];
  }[];
  readonly view_equals_truth: boolean;
}

const scratch = scratchDirectory();

/** The table of a case as a file, naming the golden images. */
function tableOf(name: string): string {
  const { table } = relativeManifest<Manifest>("dmcow", name);
  const path = scratch(`${name}.table`);
  const folder = relativeImages("dmcow", name);
  const named = table
    .replace(/\/dev\/base/g, join(folder, "base.img"))
    .replace(/\/dev\/(bitmap|data)(\d)/g, (_, kind: string, number: string) => join(folder, `layer${number}.${kind}`));
  writeFileSync(path, `# ${name}\n${named}\n`);
  return path;
}

/** `ascoded:4096`, as manifests have it, as users say it. */
function userWay(way: string): string {
  return way.replace("ascoded", "as-coded");
}

async function viewOf(text: string): Promise<Buffer> {
  const stack = await openStack(nodeStorage, text);
  try {
    const view = Buffer.alloc(stack.device.sizeBytes);
    expect(stack.device.read(view, 0)).toBe(view.length);
    return view;
  } finally {
    stack.close();
  }
}

const REFUSED: Readonly<Record<string, string>> = { "bad-magic": "bad-head" };

describe.runIf(hasRelatives)("golden dm-cow stacks", () => {
  for (const name of relativeCases("dmcow")) {
    const refusal = REFUSED[name];
    if (refusal) {
      it(`${name}: is refused`, async () => {
        await expect(viewOf(`dm-cow:${tableOf(name)}`)).rejects.toMatchObject({ code: refusal });
        const { worst } = await check(`dm-cow:${tableOf(name)}`, {}, {});
        expect(worst.unfixable).toBeGreaterThan(0);
      });
      continue;
    }
    it(`${name}: reads as it should, as an image and as a layer over its base`, async () => {
      const manifest = relativeManifest<Manifest>("dmcow", name);
      const table = tableOf(name);
      const way = `dm-cow:bitmap=${userWay(manifest.addressing)};${table}`;
      const view = await viewOf(way);
      expect({ bytes: view.length, sha256: digestOf(view) }).toEqual(manifest.files["view.img"]);
      if (manifest.base_offset === 0)
        expect(digestOf(await viewOf(`${join(relativeImages("dmcow", name), "base.img")},${way}`))).toBe(
          digestOf(view),
        );
    });

    it(`${name}: info tells what each layer holds, and in which ways its bitmap can be read`, async () => {
      const manifest = relativeManifest<Manifest>("dmcow", name);
      const way = `dm-cow:bitmap=${userWay(manifest.addressing)};${tableOf(name)}`;
      const { facts } = await info(way, {}, {});
      expect(facts).toMatchObject({
        format: "dm-cow",
        virtual_size: manifest.length_sectors * 512,
        lossy: manifest.addressing !== "linear" && manifest.length_sectors > Number(manifest.addressing.slice(8)),
        layers: manifest.layers.map(({ present, fits }) => ({
          sectors_used: present.reduce((sum, [, count]) => sum + count, 0),
          addressings_possible: fits.map(userWay),
        })),
      });
    });

    it(`${name}: each layer holds the sectors that its manifest lists`, async () => {
      const manifest = relativeManifest<Manifest>("dmcow", name);
      for (const [i, { present }] of manifest.layers.entries()) {
        const part = `dm-cow:bitmap=${userWay(manifest.addressing)};layer=${i + 1};${tableOf(name)}`;
        const { extents } = await info(part, { map: true }, {});
        const held = (await collected(extents)).filter(({ allocated }) => allocated);
        expect(held.map(({ offset, length }) => [offset / 512, length / 512])).toEqual(present);
      }
    });

    it(`${name}: is refused in every way in which its bitmap cannot have been written`, async () => {
      const manifest = relativeManifest<Manifest>("dmcow", name);
      for (const way of ["linear", "ascoded:512", "ascoded:1024", "ascoded:2048", "ascoded:4096"]) {
        const view = viewOf(`dm-cow:bitmap=${userWay(way)};${tableOf(name)}`);
        if (manifest.layers.every(({ fits }) => fits.includes(way))) await view;
        else await expect(view).rejects.toMatchObject({ code: "damaged", details: { problem: "impossible-bit" } });
      }
    });
  }
});
