/**
 * Owns the golden images of the formats related to cowfiles: unpacks a case once into the temporary directory, and reads its
 * manifest. A checkout without ../shared has none: `hasRelatives` is false, and one line says so.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, zstdDecompressSync } from "node:zlib";

const FOLDER = fileURLToPath(new URL("../../../shared/golden", import.meta.url));
/** `zstd --long=27` */
const WINDOW_LOG = 27;

export const hasRelatives = existsSync(join(FOLDER, "dmcow"));
// biome-ignore lint/suspicious/noConsole: a skip that nobody sees would pass for a proof.
if (!hasRelatives) console.warn(`SKIPPED: no golden images at ${FOLDER}: dm-cow and snap are compared with nothing`);

export type Relative = "dmcow" | "snap";

export interface GoldenFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** What all manifests have. */
export interface RelativeManifest {
  readonly case: string;
  readonly files: Readonly<Record<string, GoldenFile>>;
}

/** The cases of a format, by name. */
export function relativeCases(format: Relative): readonly string[] {
  return hasRelatives ? readdirSync(join(FOLDER, format)).sort() : [];
}

export function relativeManifest<Manifest extends RelativeManifest>(format: Relative, name: string): Manifest {
  return JSON.parse(readFileSync(join(FOLDER, format, name, "manifest.json"), "utf8")) as Manifest;
}

/** The folder with the images of a case. Tests never write to what is in it. */
export function relativeImages(format: Relative, name: string): string {
  const archive = join(FOLDER, format, name, "images.tar.zst");
  const { size, mtimeMs } = statSync(archive);
  const parent = join(tmpdir(), "cowtool-relatives");
  mkdirSync(parent, { recursive: true });
  const final = join(parent, `${format}-${name}-${size}-${Math.trunc(mtimeMs)}`);
  if (existsSync(final)) return final;
  const temporary = mkdtempSync(`${final}.`);
  const input = zstdDecompressSync(readFileSync(archive), { params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG } });
  const { status, stderr, error } = spawnSync("tar", ["-xSf", "-", "-C", temporary], { input });
  if (status !== 0) throw new Error(`cannot unpack ${archive}: ${error?.message ?? stderr.toString()}`);
  try {
    renameSync(temporary, final);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(final)) throw error;
  }
  return final;
}

export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
