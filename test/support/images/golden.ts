/**
 * Owns what the manifest tells of the golden images of the original cowloop, with types. A checkout without them has none:
 * `hasGolden` is false, and nothing is compared with the original.
 */
import type { CowAbi } from "../../../src/lib/index.ts";
import { goldenImage, goldenJson, hasGoldenFolder } from "./golden-folder.ts";

const FOLDER = "cowloop";

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

export const hasGolden = hasGoldenFolder(FOLDER);

const manifest: Manifest = hasGolden
  ? (goldenJson(FOLDER, "manifest.json") as Manifest)
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

/** The path of an unpacked image, by its name in the archive. Tests never write to it. */
export function goldenPath(name: string): string {
  return goldenImage(FOLDER, name);
}

/** `["0", "2-4"]` → block numbers. */
export function blocksOf(ranges: readonly string[]): number[] {
  return ranges.flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
