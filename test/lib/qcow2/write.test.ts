/**
 * Proves that QEMU takes every qcow2 file that we write: its check finds neither errors nor leaks, its comparison no
 * difference, and it finds the backing files.
 */
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { convert, create } from "../../../src/lib/index.ts";
import { hasQemu, qemuImg, qemuIo, requireQemuCheck, requireQemuSame } from "../../support/images/qemu-img.ts";
import { paint } from "../../support/images/random-stacks.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const path = scratchDirectory();
const SIZE = 7 * (1 << 20);

const PATCHES = [
  { start: 0, length: 3, seed: 1 },
  { start: 0.2, length: 900, seed: 2 },
  { start: 0.7, length: 1, seed: 3 },
  { start: 0.99, length: 500, seed: 4 },
];
const CHANGES = [
  { start: 0.1, length: 5, seed: 5 },
  { start: 0.21, length: 400, seed: 0 },
  { start: 0.9999, length: 1, seed: 6 },
];

async function makeStack(name: string, size = SIZE): Promise<{ stack: string; base: string; shown: string }> {
  const [base, shown, cow] = [path(`${name}.img`), path(`${name}-shown.img`), path(`${name}.cow`)];
  const image = paint(new Uint8Array(size), PATCHES);
  writeFileSync(base, image);
  writeFileSync(shown, paint(image, CHANGES));
  await create(base, cow, { from: shown, force: true }, {});
  return { stack: `${base},${cow}`, base, shown };
}

function expectSound(file: string, shown: string): void {
  requireQemuCheck(file);
  requireQemuSame({ file, format: "qcow2" }, { file: shown, format: "raw" });
}

describe.skipIf(!hasQemu)("qcow2 files that we write", () => {
  test.each([512, 1024, 4096, 65536, 1 << 18, 1 << 21])("clusters of %i bytes", async (clusterBytes) => {
    const { stack, base, shown } = await makeStack(`c${clusterBytes}`);
    const [whole, layer] = [path(`whole${clusterBytes}.qcow2`), path(`layer${clusterBytes}.qcow2`)];
    await convert(stack, whole, { to: "qcow2", clusterBytes }, {});
    expectSound(whole, shown);
    // A shorter name, as the first of the smallest clusters has no room for this one.
    await convert(stack, layer, { to: "qcow2", clusterBytes, base }, {});
    expectSound(layer, shown);
    const [top, bottom] = JSON.parse(qemuImg(["info", "--backing-chain", "--output=json", layer])) as Record<
      string,
      unknown
    >[];
    expect(top).toMatchObject({
      "cluster-size": clusterBytes,
      "full-backing-filename": base,
      "backing-filename-format": "raw",
    });
    expect(bottom).toMatchObject({ format: "raw", filename: base });
  });

  test("QEMU goes on writing where we ended", async () => {
    const { stack, base, shown } = await makeStack("more");
    const file = path("more.qcow2");
    await convert(stack, file, { to: "qcow2", base }, {});
    for (const target of [file, shown])
      qemuIo(target, ["write -P 77 3M 700k", "write -z 1M 64k"], target === file ? "qcow2" : "raw");
    expectSound(file, shown);
    qemuImg(["snapshot", "-c", "one", file]);
    requireQemuCheck(file);
    const { losses } = await convert(`${base},${file}`, path("again.img"), { to: "raw" }, {});
    expect(losses.map(({ id }) => id)).toContain("snapshots-dropped");
    requireQemuSame({ file: path("again.img"), format: "raw" }, { file: shown, format: "raw" });
  });

  test("a relative backing file is found from the output's own directory, whatever its name", async () => {
    mkdirSync(path("sub"));
    const { stack, shown } = await makeStack("with:colon");
    const file = path("sub/out.qcow2");
    const before = process.cwd();
    process.chdir(path("."));
    try {
      await convert(stack.replaceAll(`${path("")}/`, ""), file, { to: "qcow2", base: "with:colon.img" }, {});
      const beside = path("beside.qcow2");
      await convert(stack.replaceAll(`${path("")}/`, ""), "beside.qcow2", { to: "qcow2", base: "with:colon.img" }, {});
      expectSound(beside, shown);
    } finally {
      process.chdir(before);
    }
    expectSound(file, shown);
  });

  test("an empty image, one of a sector, and one that ends within a cluster", async () => {
    for (const size of [512, 65536 + 512, 3 * 65536]) {
      const raw = path(`size${size}.img`);
      writeFileSync(raw, paint(new Uint8Array(size), [{ start: 0.999, length: 1, seed: 3 }]));
      await convert(raw, path(`size${size}.qcow2`), { to: "qcow2" }, {});
      expectSound(path(`size${size}.qcow2`), raw);
      writeFileSync(raw, new Uint8Array(size));
      await convert(raw, path(`size${size}.qcow2`), { to: "qcow2", force: true }, {});
      expectSound(path(`size${size}.qcow2`), raw);
    }
  });

  test("an image of odd length becomes longer, by zeros, and that is said", async () => {
    const raw = path("odd.img");
    writeFileSync(raw, paint(new Uint8Array(100_001), [{ start: 0, length: 300, seed: 3 }]));
    const result = await convert(raw, path("odd.qcow2"), { to: "qcow2" }, {});
    expect(result).toMatchObject({ virtual_size: 100_352, losses: [{ id: "size-padded" }] });
    requireQemuCheck(path("odd.qcow2"));
    qemuImg(["compare", "-f", "raw", "-F", "qcow2", raw, path("odd.qcow2")]);
  });

  test("8 TiB with little in it is a small file, made at once", async () => {
    const raw = path("huge.img");
    writeFileSync(raw, "");
    truncateSync(raw, 8 * 2 ** 40);
    qemuIo(raw, ["write -P 3 5T 64k", "write -P 4 8796093018112 4k"], "raw");
    const file = path("huge.qcow2");
    const { output_size } = await convert(raw, file, { to: "qcow2" }, {});
    expect(output_size).toBeLessThan(4 << 20);
    requireQemuCheck(file);
    expect(qemuImg(["map", "--output=json", file]).match(/"data": true/g)).not.toHaveLength(0);
    await convert(`qcow2:${file}`, path("huge2.img"), { to: "raw" }, {});
    qemuIo(path("huge2.img"), ["read -P 3 5T 64k", "read -P 4 8796093018112 4k"], "raw");
  });
});
