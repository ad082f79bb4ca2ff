/**
 * Owns the golden images beside the checkout, one archive a folder: unpacks each once into the temporary directory. Where
 * there are none, there are no cases, and one line says so.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, zstdDecompressSync } from "node:zlib";

const ROOT = fileURLToPath(new URL("../../../../shared/golden", import.meta.url));
/** `zstd --long=27` */
const WINDOW_LOG = 27;

/** The folders within `name`, or none where there are no golden images. */
export function goldenCases(name: string): readonly string[] {
  const folder = join(ROOT, name);
  if (existsSync(folder))
    return readdirSync(folder)
      .filter((each) => statSync(join(folder, each)).isDirectory())
      .sort();
  // biome-ignore lint/suspicious/noConsole: a skip that nobody sees would pass for a proof.
  console.warn(`SKIPPED: no golden images at ${folder}`);
  return [];
}

/** Is there such a folder with images? Says so if not. */
export function hasGoldenFolder(name: string): boolean {
  if (existsSync(join(ROOT, name, "images.tar.zst"))) return true;
  // biome-ignore lint/suspicious/noConsole: a skip that nobody sees would pass for a proof.
  console.warn(`SKIPPED: no golden images at ${join(ROOT, name)}`);
  return false;
}

/** A JSON file of that folder. */
export function goldenJson(name: string, file: string): unknown {
  return JSON.parse(readFileSync(join(ROOT, name, file), "utf8"));
}

const unpacked = new Map<string, string>();

/** The folder with the images of that folder's archive. Tests never write to what is in it. */
export function goldenImages(name: string): string {
  let folder = unpacked.get(name);
  if (folder === undefined) {
    folder = unpack(name);
    unpacked.set(name, folder);
  }
  return folder;
}

/** The path of an image of that folder. Tests never write to it. */
export function goldenImage(name: string, file: string): string {
  return join(goldenImages(name), file);
}

/** Unpacks beside the final folder and renames: of workers that do so at once, the first one's result stays. */
function unpack(name: string): string {
  const archive = join(ROOT, name, "images.tar.zst");
  const { size, mtimeMs } = statSync(archive);
  const final = join(tmpdir(), `cowtool-golden-${name.replaceAll("/", "-")}-${size}-${Math.trunc(mtimeMs)}`);
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
