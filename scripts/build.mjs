/**
 * Owns dist/: the library compiled to JavaScript and declarations, and the program, bundled with the packages that it
 * uses by bundle.mjs. Must run on an old node and without dependencies until it calls the compiler, since set-up calls it.
 *
 *   node scripts/build.mjs [--if-stale | --clean]
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const fresh = join(root, "dist.new");
/** Says when the compiler started to read. */
const STAMP = ".built";
const inputs = [
  "src",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "tsconfig.build.json",
  "scripts/bundle.mjs",
];

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

/** Builds a new dist; where src doesn't compile, the old dist stays. The compiler tells why. */
export function build() {
  // The time is taken before the compiler reads: a file saved while it runs makes the result stale, as it should.
  const started = new Date();
  rmSync(fresh, { recursive: true, force: true });
  const steps = [
    ["tsc", "-p", "tsconfig.build.json", "--outDir", join(fresh, "lib")],
    ["node", join(root, "scripts", "bundle.mjs"), join(fresh, "program")],
  ];
  for (const [program, ...args] of steps) {
    // stdout belongs to whoever asked for set-up
    const done = spawnSync(program, args, { cwd: root, env: pinnedEnvironment(), stdio: ["ignore", 2, 2] });
    if (done.status === 0) continue;
    if (done.error) process.stderr.write(`build: cannot run ${program}: ${done.error.message}\n`);
    rmSync(fresh, { recursive: true, force: true });
    return false;
  }
  writeFileSync(join(fresh, STAMP), "");
  utimesSync(join(fresh, STAMP), started, started);
  rmSync(dist, { recursive: true, force: true });
  renameSync(fresh, dist);
  return true;
}

function main([mode]) {
  if (mode === "--clean") return rmSync(dist, { recursive: true, force: true });
  if (mode === "--if-stale" && !isStale()) return;
  if (!build()) process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(process.argv.slice(2));
