/**
 * Owns dist/: src compiled to JavaScript and declarations, and oclif.manifest.json while a package is being packed.
 * Must run on an old node and without dependencies until it calls the compiler, since set-up calls it.
 *
 *   node scripts/build.mjs [--if-stale | --clean | --manifest | --no-manifest]
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const manifest = join(root, "oclif.manifest.json");
const fresh = join(root, "dist.new");
/** Says when the compiler started to read. */
const STAMP = ".built";
const inputs = ["src", "package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json"];

/** The environment in which `node` and the tools are the ones this project pins. */
function pinnedEnvironment() {
  const path = [join(root, "node_modules", ".bin"), process.env.PATH].filter(Boolean).join(delimiter);
  return { ...process.env, PATH: path };
}

/** The latest change below `path`; a folder's own time counts too, so that a deleted file is noticed. */
function newestChangeMs(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  const below = readdirSync(path).map((name) => newestChangeMs(join(path, name)));
  return Math.max(stat.mtimeMs, ...below);
}

export function isStale() {
  const stamp = join(dist, STAMP);
  if (!existsSync(stamp)) return true;
  const builtMs = statSync(stamp).mtimeMs;
  return inputs.some((name) => newestChangeMs(join(root, name)) > builtMs);
}

/** Compiles src into a new dist; one that doesn't compile leaves the old dist alone. The compiler tells why. */
export function build() {
  // The time is taken before the compiler reads: a file saved while it runs makes the result stale, as it should.
  const started = new Date();
  rmSync(fresh, { recursive: true, force: true });
  const done = spawnSync("tsc", ["-p", "tsconfig.build.json", "--outDir", fresh], {
    cwd: root,
    env: pinnedEnvironment(),
    // stdout belongs to whoever asked for set-up
    stdio: ["ignore", 2, 2],
  });
  if (done.status !== 0) {
    if (done.error) process.stderr.write(`build: cannot run tsc: ${done.error.message}\n`);
    rmSync(fresh, { recursive: true, force: true });
    return false;
  }
  writeFileSync(join(fresh, STAMP), "");
  utimesSync(join(fresh, STAMP), started, started);
  rmSync(dist, { recursive: true, force: true });
  renameSync(fresh, dist);
  return true;
}

/** The command table that spares a published cowtool importing every command. In a checkout it would go stale. */
async function writeManifest() {
  const { Plugin } = await import("@oclif/core");
  const plugin = new Plugin({
    root,
    type: "core",
    ignoreManifest: true,
    errorOnManifestCreate: true,
    respectNoCacheDefault: true,
  });
  await plugin.load();
  writeFileSync(manifest, `${JSON.stringify(plugin.manifest)}\n`);
}

async function main([mode]) {
  if (mode === "--clean") return rmSync(dist, { recursive: true, force: true });
  rmSync(manifest, { force: true });
  if (mode === "--no-manifest") return;
  if (mode === "--if-stale" && !isStale()) return;
  if (!build()) process.exitCode = 1;
  else if (mode === "--manifest") await writeManifest();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main(process.argv.slice(2));
