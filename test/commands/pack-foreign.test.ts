/**
 * Proves that others read what we pack, and that we read what others make of it: zstd, gzip and Python's zlib, none of
 * which knows anything of cowfiles. Tools that are missing are said to be.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { type PackRequest, pack, unpack } from "../../src/lib/index.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { type Cow, denseCow, layOut, payloadOf, tinyCow } from "../support/images/pack-images.ts";
import { readSeekTable } from "../support/images/zstd-containers.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const at = scratchDirectory();
const HUGE_OUTPUT_BYTES = 64 << 20;

/** Cowfiles of no block, of a few, of several frames, and one whose bitmap alone fills a frame. */
const COWS: Readonly<Record<string, Cow>> = {
  empty: layOut({ rdoBlocks: 1, blocks: [] }),
  tiny: tinyCow("be32"),
  dense: denseCow(3000),
  sparse: layOut({ rdoBlocks: 9_000_000, blocks: [1, 524288, 8_999_999].map((block) => [block, noise(1024, block)]) }),
};
const NAMES = Object.keys(COWS);

function cow(name: string): Cow {
  return COWS[name] as Cow;
}

function isMissing(tool: string, ...argv: readonly string[]): boolean {
  const gone = spawnSync(tool, argv).status !== 0;
  return skipsLoudly(gone, `there is no ${tool}: what it makes of our packs, and we of its own, is not tried`);
}

const noZstd = isMissing("zstd", "--version");
const noGzip = isMissing("gzip", "--version");
const noPython = isMissing("python3", "-c", "import zlib, gzip");

/** Runs a tool that must succeed and keep its peace; returns what it printed. */
function ran(tool: string, argv: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync(tool, argv, { input, maxBuffer: HUGE_OUTPUT_BYTES });
  expect([status, stderr.toString()], `${tool} ${argv.join(" ")}`).toEqual([0, ""]);
  return stdout;
}

async function packTo(name: string, format: NonNullable<PackRequest["format"]>): Promise<string> {
  const out = at(`${name}.${format === "gzip" ? "gz" : "zst"}`);
  await pack(at(`${name}.cow`), out, { format, force: true }, {});
  return out;
}

/** Unpacks those bytes and expects the cowfile. */
async function expectUnpacks(bytes: Uint8Array, name: string, warnings = 0): Promise<void> {
  writeFileSync(at("foreign"), bytes);
  const notices: string[] = [];
  const context = { onNotice: ({ message }: { message: string }) => void notices.push(message) };
  await unpack(at("foreign"), at("back.cow"), { force: true }, context);
  expect(readFileSync(at("back.cow")).equals(cow(name).content.toBytes())).toBe(true);
  expect(notices).toHaveLength(warnings);
}

beforeAll(() => {
  for (const name of NAMES.slice(0, 3)) writeFileSync(at(`${name}.cow`), cow(name).content.toBytes());
  // 9 GiB, of which a file system keeps some pages.
  const fd = spawnSync("truncate", ["-s", String(cow("sparse").content.sizeBytes), at("sparse.cow")]);
  expect(fd.status).toBe(0);
  const { pages } = cow("sparse").content;
  for (const [index, page] of pages) {
    const args = [`of=${at("sparse.cow")}`, "bs=4096", `seek=${index}`, "conv=notrunc"];
    expect(spawnSync("dd", args, { input: page }).status).toBe(0);
  }
});

describe.skipIf(noZstd)("zstd", () => {
  test.each(NAMES)("finds the pack of %s sound, and gives its payload", async (name) => {
    const file = await packTo(name, "zstd");
    ran("zstd", ["-q", "-t", file]);
    expect(ran("zstd", ["-q", "-dc", file]).equals(payloadOf(cow(name)))).toBe(true);
  });

  test("decompresses any one frame by itself", async () => {
    const file = readFileSync(await packTo("dense", "zstd"));
    const payload = payloadOf(cow("dense"));
    let done = 0;
    for (const { offset, compressedBytes, contentBytes } of readSeekTable(file)) {
      const content = ran("zstd", ["-q", "-dc"], file.subarray(offset, offset + compressedBytes));
      expect(content.equals(payload.subarray(done, done + contentBytes))).toBe(true);
      done += contentBytes;
    }
    expect(done).toBe(payload.length);
  });

  test.each([[[]], [["-19"]], [["--no-check"]], [["-T2", "-B65536"]]])(
    "with %j makes what lacks a seek table: refused, saying so",
    async (flags) => {
      writeFileSync(at("foreign.zst"), ran("zstd", ["-q", "-c", ...flags], payloadOf(cow("dense"))));
      const failed = unpack(at("foreign.zst"), at("never.cow"), {}, {});
      const message = expect.stringMatching(/seek table.*missing/);
      await expect(failed).rejects.toMatchObject({ file: at("foreign.zst"), message });
      expect(() => readFileSync(at("never.cow"))).toThrow(/ENOENT/);
    },
  );
});

describe.skipIf(noGzip)("gzip", () => {
  test.each(NAMES)("finds the pack of %s sound, and gives its payload", async (name) => {
    const file = await packTo(name, "gzip");
    ran("gzip", ["-t", file]);
    expect(ran("gzip", ["-dc", file]).equals(payloadOf(cow(name)))).toBe(true);
  });

  test.each([[["-1"]], [["-9"]], [["-6"]]])("with %j makes packs that we read", async (flags) => {
    for (const name of ["tiny", "dense"])
      await expectUnpacks(ran("gzip", ["-c", ...flags], payloadOf(cow(name))), name);
  });

  test("with a name and a time in its header, too", async () => {
    writeFileSync(at("a name with spaces"), payloadOf(cow("dense")));
    await expectUnpacks(ran("gzip", ["-c", "-N", at("a name with spaces")]), "dense");
  });

  test("in members cut anywhere, end to end", async () => {
    const payload = payloadOf(cow("tiny"));
    for (const cut of [1, 31, 32, 33, 1056, 1057, payload.length - 1]) {
      const parts = [payload.subarray(0, cut), payload.subarray(cut)];
      await expectUnpacks(Buffer.concat(parts.map((part) => ran("gzip", ["-c"], part))), "tiny");
    }
  });

  test("goes on where it finds garbage behind the end, and so do we", async () => {
    const bytes = Buffer.concat([readFileSync(await packTo("dense", "gzip")), Buffer.from("garbage"), noise(5000, 1)]);
    const { status, stdout } = spawnSync("gzip", ["-dc"], { input: bytes, maxBuffer: HUGE_OUTPUT_BYTES });
    expect([status, stdout.equals(payloadOf(cow("dense")))]).toEqual([2, true]);
    await expectUnpacks(bytes, "dense");
  });
});

describe.skipIf(noPython)("Python", () => {
  /** Member by member, as the original's gzread does. */
  const MEMBERS = `
import sys, zlib
data, out = sys.stdin.buffer.read(), []
while data:
    member = zlib.decompressobj(31)
    out.append(member.decompress(data) + member.flush())
    assert member.eof
    data = member.unused_data
sys.stdout.buffer.write(b"".join(out))
print(len(out), max(map(len, out)), file=sys.stderr)
`;
  test.each(NAMES)("reads every member of the gzip pack of %s with zlib", async (name) => {
    const input = readFileSync(await packTo(name, "gzip"));
    const { status, stdout, stderr } = spawnSync("python3", ["-c", MEMBERS], { input, maxBuffer: HUGE_OUTPUT_BYTES });
    expect(status, stderr.toString()).toBe(0);
    expect(stdout.equals(payloadOf(cow(name)))).toBe(true);
    const [members = 0, largest = 0] = stderr.toString().split(" ").map(Number);
    expect([members, largest <= 1 << 20]).toEqual([Math.ceil(stdout.length / (1 << 20)), true]);
  });

  test("reads it with its gzip module, and writes what we read", async () => {
    const program = "import sys, gzip; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    const content = ran("python3", ["-c", program], readFileSync(await packTo("dense", "gzip")));
    expect(content.equals(payloadOf(cow("dense")))).toBe(true);
    const back = "import sys, gzip; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read(), 5))";
    await expectUnpacks(ran("python3", ["-c", back], payloadOf(cow("dense"))), "dense");
  });
});
