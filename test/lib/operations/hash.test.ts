/**
 * Proves that `hash` is the blkhash of what a stack shows: published checksums of blkhash's own tests, and the definition
 * written down plainly, for stacks of every format; and that holes are not read.
 */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { convert, HASH_DIGESTS, hash, MemoryStorage } from "../../../src/lib/index.ts";
import { drawing, putStack, viewOf } from "../../support/images/random-stacks.ts";
import { runs } from "../../support/sample.ts";

const BLOCK = 64 * 1024;
const HALF = BLOCK / 2;

/** H(H(block 1) ‖ … ‖ H(block N) ‖ length). */
function blkhash(image: Uint8Array, digest: string, blockBytes: number): string {
  const outer = createHash(digest);
  for (let at = 0; at < image.length; at += blockBytes)
    outer.update(
      createHash(digest)
        .update(image.subarray(at, at + blockBytes))
        .digest(),
    );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(image.length));
  return outer.update(length).digest("hex");
}

type Run = readonly [content: string, bytes: number];

/** From blkhash-test.c of github.com/nirs/blkhash, as sha256 over blocks of 64 KiB; `-` are holes, `0` zeros as data. */
const PUBLISHED: readonly (readonly [name: string, checksum: string, runs: readonly Run[]])[] = [
  ["a block", "2e3a5f57d5e726ee5de62db1a85ff816f4fa6ea4627807d9a51bdc4c883e165e", [["A", BLOCK]]],
  ["a block of zeros", "8ab067ab7939a3d4f40cbb118956c07c06aeae2d075d6e0a2ebbb94bd42832af", [["0", BLOCK]]],
  ["a hole", "8ab067ab7939a3d4f40cbb118956c07c06aeae2d075d6e0a2ebbb94bd42832af", [["-", BLOCK]]],
  ["half a block", "9467334d6d7668a2f06898185b5cddc78cdfbd962f50c6bf250101f03a0e54dc", [["A", HALF]]],
  ["half a hole", "842d185f0ff348b0d689e184bddc47f69a19032a6934c89b879479f1e86f9d56", [["-", HALF]]],
  ["holes", "722ac11a3a81034edf196aa3ee68d1a2e345cd0838b0c78c2ce2fb015d4d817d", [["-", 8 * BLOCK]]],
  ["a hole of 1 GiB", "c6d6562c3074a2caa0ceea3e1f460f3af678c792ed05e64157eb51e68ae5260d", [["-", 1 << 30]]],
  ["holes and a half", "e623a5702b1feb08fbb3d18e35bbb7ec10146b8cd1bcff811200a3948c78c55c", [["-", 8 * BLOCK + HALF]]],
  [
    "halves and a rest",
    "2cad558b3a2a8d87435e80fe7bae69fa664d92eaa1b9411f573b9fbb412a4d43",
    [..."ABCDE"].map((letter): Run => [letter, HALF]),
  ],
  [
    "a mix",
    "4b2b5acd96f8105f4fb26abaf35c7c5756338ef9ccce19ffe7714c9ad94b4398",
    [..."A--0E--0"].map((letter): Run => [letter, HALF]),
  ],
];

describe("published checksums", () => {
  test.each(PUBLISHED)("%s", async (_, checksum, parts) => {
    const storage = new MemoryStorage();
    storage.put("image", new Uint8Array());
    const file = storage.open("image", { writable: true });
    let [at, data] = [0, 0];
    for (const [content, bytes] of parts) {
      if (content !== "-") file.write(Buffer.alloc(bytes, content === "0" ? 0 : content), at);
      if (content !== "-") data += bytes;
      at += bytes;
    }
    file.resize(at);
    file.close();
    const found = await hash("image", {}, { storage });
    expect(found).toMatchObject({ hash: checksum, virtual_size: at, digest: "sha256", block_size: BLOCK });
    expect(found.bytes_read).toBeLessThanOrEqual(2 * data);
  });
});

test("of stacks of every format it is that of the image, for every digest and size of block", async () => {
  await fc.assert(
    fc.asyncProperty(
      drawing,
      fc.constantFrom(...HASH_DIGESTS),
      fc.integer({ min: 9, max: 17 }),
      async (drawn, digest, bits) => {
        const storage = new MemoryStorage();
        const { stack } = await putStack(storage, drawn);
        const image = await viewOf(storage, stack);
        const request = { digest, blockBytes: 2 ** bits };
        expect((await hash(stack, request, { storage })).hash).toBe(blkhash(image, digest, 2 ** bits));
        await convert(stack, "whole", { to: "qcow2" }, { storage });
        // A qcow2 image ends with a whole sector.
        if (image.length % 512 === 0)
          expect((await hash("qcow2:whole", request, { storage })).hash).toBe(blkhash(image, digest, 2 ** bits));
      },
    ),
    { numRuns: runs(50) },
  );
});

test("a block size that is no power of two is refused", async () => {
  const storage = new MemoryStorage();
  storage.put("image", new Uint8Array(1024));
  await expect(hash("image", { blockBytes: 3000 }, { storage })).rejects.toMatchObject({ code: "usage" });
});
