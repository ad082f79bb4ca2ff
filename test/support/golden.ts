/**
 * Owns the golden images of the original cowloop: unpacks them once into the temporary directory, and types what the
 * manifest tells of them. A checkout without ../shared has none: `hasGolden` is false, and one line says so.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, zstdDecompressSync } from "node:zlib";
import type { CowAbi } from "../../src/lib/index.ts";

const FOLDER = fileURLToPath(new URL("../../../shared/golden/cowloop", import.meta.url));
const ARCHIVE = join(FOLDER, "images.tar.zst");
/** `zstd --long=27` */
const WINDOW_LOG = 27;

export interface GoldenHeader {
  readonly version: number;
  readonly flags: number;
  readonly mapunit: number;
  readonly mapsize: number;
  readonly doffset: number;
  readonly rdoblocks: number;
  /** Hex, as stored: sign-extended on 64-bit machines. */
  readonly rdofingerprint: string;
  readonly cowused: number;
  readonly sizeof: number;
}

interface MergeOutcome {
  readonly rdo_size_after: number;
  readonly rdo_sha256_after: string;
}

interface AnyCase {
  readonly id: string;
  readonly abi: CowAbi;
  readonly rdo: string;
  readonly scenario: string;
  readonly file: string;
  readonly size: number;
  readonly sha256: string;
  readonly header: GoldenHeader;
  /** The id of the case that was packed or unpacked. */
  readonly of?: string;
}

/** An unpacked cowfile, with what the original tools made of it. */
export interface OpenCase extends AnyCase {
  readonly kind: "clean" | "dirty" | "unpacked-from-plain" | "unpacked-from-gzip";
  readonly header_hex?: string;
  readonly bits_on_disk: number;
  /** `7`, `10-12`; absent for unpacked ones. */
  readonly set_blocks_on_disk?: readonly string[];
  readonly ondisk_bitmap_view_sha256: string;
  readonly cowrepair_fv: { readonly stdout: string };
  readonly after_repair: {
    readonly sha256: string;
    readonly size: number;
    readonly bits: number;
    readonly view_sha256: string;
  };
  readonly cowmerge_Y_after_repair: MergeOutcome;
}

export interface PackedCase extends AnyCase {
  readonly kind: "packed-plain" | "packed-gzip";
}

export interface GoldenSize {
  readonly rdosize: number;
  readonly numblocks: number;
  readonly abi: CowAbi;
  readonly fresh_cowfile_size: number;
  readonly header_hex: string;
  readonly header: GoldenHeader;
}

interface Manifest {
  readonly cases: readonly (OpenCase | PackedCase)[];
  readonly extras: readonly { readonly file: string; readonly sha256: string }[];
  readonly rdofiles: Readonly<
    Record<string, { readonly file: string; readonly numblocks: number; readonly sha256: string }>
  >;
  readonly sizes: readonly GoldenSize[];
}

export const hasGolden = existsSync(ARCHIVE);
// biome-ignore lint/suspicious/noConsole: a skip that nobody sees would pass for a proof.
if (!hasGolden) console.warn(`SKIPPED: no golden images at ${FOLDER}: nothing is compared with the original cowloop`);

const manifest: Manifest = hasGolden
  ? (JSON.parse(readFileSync(join(FOLDER, "manifest.json"), "utf8")) as Manifest)
  : { cases: [], extras: [], rdofiles: {}, sizes: [] };

function isPacked(each: OpenCase | PackedCase): each is PackedCase {
  return each.kind === "packed-plain" || each.kind === "packed-gzip";
}

export const packedCases = manifest.cases.filter(isPacked);
export const openCases = manifest.cases.filter((each): each is OpenCase => !isPacked(each));
export const goldenSizes = manifest.sizes;
export const goldenExtras = manifest.extras;

export function openCase(id: string): OpenCase {
  const found = openCases.find((each) => each.id === id);
  if (!found) throw new Error(`the manifest has no case ${id}`);
  return found;
}

/** What the manifest tells of an rdofile. */
export function rdoFacts(name: string): Manifest["rdofiles"][string] {
  const facts = manifest.rdofiles[name];
  if (!facts) throw new Error(`the manifest has no rdofile ${name}`);
  return facts;
}

/** The path of an rdofile. Tests never write to it. */
export function rdoPath(name: string): string {
  return goldenPath(rdoFacts(name).file);
}

let unpacked: string | undefined;

/** The path of an unpacked image, by its name in the archive. Tests never write to it. */
export function goldenPath(name: string): string {
  unpacked ??= unpack();
  return join(unpacked, name);
}

/** Unpacks beside the final folder and renames: of workers that do so at once, the first one's result stays. */
function unpack(): string {
  const { size, mtimeMs } = statSync(ARCHIVE);
  const final = join(tmpdir(), `cowtool-golden-${size}-${Math.trunc(mtimeMs)}`);
  if (existsSync(final)) return final;
  const temporary = mkdtempSync(`${final}.`);
  const input = zstdDecompressSync(readFileSync(ARCHIVE), {
    params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG },
  });
  const { status, stderr, error } = spawnSync("tar", ["-xSf", "-", "-C", temporary], { input });
  if (status !== 0) throw new Error(`cannot unpack ${ARCHIVE}: ${error?.message ?? stderr.toString()}`);
  try {
    renameSync(temporary, final);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(final)) throw error;
  }
  return final;
}

/** `["0", "2-4"]` → block numbers. */
export function blocksOf(ranges: readonly string[]): number[] {
  return ranges.flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
