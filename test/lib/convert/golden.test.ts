/**
 * Proves that what a real kernel wrote shows in every format what it showed there: the golden dm-snapshot stores, converted.
 */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readZeroFilled } from "../../../src/lib/bytes/byte-source.ts";
import { convert, nodeStorage, openStack } from "../../../src/lib/index.ts";
import { goldenCases, goldenImage } from "../../support/images/golden-folder.ts";
import { hasQemu, qemuImg, requireQemuCheck } from "../../support/images/qemu-img.ts";
import { layerText } from "../../support/images/random-stacks.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const path = scratchDirectory();

/** Stores that are not valid, or keep their map elsewhere. */
const REFUSED = /^(?:n8-transient|.*-invalid)$/;

const CASES = goldenCases("dmsnap").filter((name) => !REFUSED.test(name));

async function shown(stack: string): Promise<Uint8Array> {
  const opened = await openStack(nodeStorage, stack);
  try {
    const bytes = new Uint8Array(opened.device.sizeBytes);
    readZeroFilled(opened.device, bytes, 0);
    return bytes;
  } finally {
    opened.close();
  }
}

describe.each(CASES)("%s", (name) => {
  const image = (file: string): string => goldenImage(`dmsnap/${name}`, file);

  test.skipIf(!existsSync(image("view.img")))("in each format", async () => {
    const view = readFileSync(image("view.img"));
    const stack = `${image("origin.img")},${image("cow.img")}`;
    for (const to of ["cowfile", "dm-snapshot", "dm-cow", "qcow2"] as const) {
      const output = path(`${name}.${to}`);
      await convert(stack, output, { to, base: image("origin.img") }, {});
      expect(Buffer.compare(await shown(`${image("origin.img")},${layerText(to, output)}`), view)).toBe(0);
      const back = path(`${name}.${to}.store`);
      await convert(
        `${image("origin.img")},${layerText(to, output)}`,
        back,
        { to: "dm-snapshot", chunkBytes: 8192 },
        {},
      );
      expect(Buffer.compare(await shown(`${image("origin.img")},${back}`), view)).toBe(0);
    }
    await convert(stack, path(`${name}.raw`), { to: "raw" }, {});
    expect(Buffer.compare(readFileSync(path(`${name}.raw`)), view)).toBe(0);
    if (!hasQemu) return;
    requireQemuCheck(path(`${name}.qcow2`));
    qemuImg(["compare", "-f", "qcow2", "-F", "raw", path(`${name}.qcow2`), image("view.img")]);
  });
});
