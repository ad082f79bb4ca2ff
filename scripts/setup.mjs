/**
 * Owns everything a fresh clone needs before the tests or the demo can run. Must itself run on nothing but an old node
 * and npm, must say what it cannot do, and must cost next to nothing when all is there.
 *
 *   node scripts/setup.mjs             packages, runtime, dist, test clients
 *   node scripts/setup.mjs --browser   the same with a browser, for the tests of the page
 *   node scripts/setup.mjs --prepare   runtime and dist only: what npm runs at the end of `npm ci`
 *
 * The scripts in package.json call it inline, not as a `pre…` script, because npm skips those when `ignore-scripts` is
 * set; what follows it starts through `env` or a `#!/usr/bin/env node` line, because the shell remembers the old node.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, isStale } from "./build.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const modules = join(root, "node_modules");
const OLDEST_NODE = [22, 15];

/** Debian packages that tests and demo use as independent witnesses, each with a program (or file) that shows it is there. */
const CLIENTS = [
  { package: "e2fsprogs", program: "debugfs", use: "demo, end-to-end tests on ext4" },
  { package: "qemu-utils", program: "qemu-img", use: "comparison with another implementation" },
  { package: "zstd", program: "zstd", use: "unpacking the golden images" },
  { package: "mandoc", program: "mandoc", use: "checking the man pages" },
  { package: "groff-base", program: "groff", use: "checking the man pages" },
  { package: "zsh", program: "zsh", use: "trying the completions" },
  { package: "fish", program: "fish", use: "trying the completions" },
  { package: "nbdkit", program: "nbdkit", use: "trying the NBD client, benchmarks" },
  { package: "qemu-system-common", program: "qemu-storage-daemon", use: "benchmarks" },
  { package: "nbd-server", program: "nbd-server", use: "benchmarks" },
  { package: "gcc", program: "gcc", use: "benchmarks" },
  { package: "libc6-dev", program: "stdio.h", file: "/usr/include/stdio.h", use: "benchmarks" },
  { package: "pigz", program: "pigz", use: "benchmarks" },
  { package: "libnbd-bin", program: "nbdinfo", use: "trying the NBD server" },
  { package: "nbd-client", program: "nbd-client", use: "trying the NBD server" },
  { package: "nbdfuse", program: "nbdfuse", use: "trying the NBD server" },
  {
    package: "python3-libnbd",
    program: "nbd.py",
    file: "/usr/lib/python3/dist-packages/nbd.py",
    use: "trying the NBD server with odd requests",
  },
  { package: "virtnbdbackup", program: "virtnbdbackup", use: "incremental backups from the NBD server" },
  { package: "fio", program: "fio", use: "verified load on the NBD server" },
  { package: "gnutls-bin", program: "certtool", use: "trying NBD over TLS" },
];

/** Large, and for `npm run test:browser` only. */
const BROWSER = [
  { package: "chromium", program: "chromium", use: "trying the page" },
  {
    package: "fonts-dejavu-core",
    program: "DejaVu",
    file: "/usr/share/fonts/truetype/dejavu",
    use: "pictures of the page",
  },
];

class SetupError extends Error {}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/** Runs a program with its output on stderr; true when it ended well. */
function run(program, args, { cwd = root, env = process.env } = {}) {
  return spawnSync(program, args, { cwd, env, stdio: ["ignore", 2, 2] }).status === 0;
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

/** Whether node_modules holds what package-lock.json names. npm writes its own record there when an install is done. */
function packagesMatchLock() {
  const wanted = readJson(join(root, "package-lock.json"))?.packages ?? {};
  const present = readJson(join(modules, ".package-lock.json"))?.packages;
  if (!present) return false;
  return Object.entries(wanted).every(
    ([path, entry]) => path === "" || entry.optional || present[path]?.version === entry.version,
  );
}

function ensurePackages() {
  if (packagesMatchLock()) return;
  say("installing packages (npm ci)");
  // COWTOOL_SETUP keeps the `prepare` script, which npm ci runs, from doing our next steps.
  const env = { ...process.env, COWTOOL_SETUP: "1" };
  // An outer `npm run` hands its own settings down; a `--prefix` or `--omit` among them is not meant for this install.
  delete env.npm_config_prefix;
  delete env.npm_config_omit;
  const flags = ["--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  if (run("npm", ["ci", ...flags], { env })) return;
  // npm ci refuses altogether when a registry mirror lacks optional packages of other platforms; npm install does not,
  // and still takes the versions of the lock.
  say("npm ci failed, trying npm install with the same lock");
  if (!run("npm", ["install", "--no-save", ...flags], { env })) {
    throw new SetupError("the packages could not be installed: see npm's messages above");
  }
}

/** The version a node program says it is, as numbers, or undefined when it doesn't run. */
function nodeVersion(program, env = process.env) {
  const told = spawnSync(program, ["-p", "process.versions.node"], { encoding: "utf8", env });
  return told.status === 0 ? told.stdout.trim().split(".").map(Number) : undefined;
}

function isNewEnough(version) {
  if (!version) return false;
  const [major, minor] = version;
  return major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
}

/**
 * The `node` package brings its program by an install script, which npm may have blocked. Then the program is missing
 * and we run that script ourselves, in the package's folder as npm would have.
 */
function ensureRuntime() {
  const pinned = join(modules, ".bin", "node");
  if (isNewEnough(nodeVersion(pinned))) return;
  say("the pinned node is missing (was its install script blocked?), running that script by hand");
  const packageFolder = join(modules, "node");
  const env = { ...process.env, npm_config_ignore_scripts: "true", npm_config_loglevel: "error" };
  delete env.npm_config_prefix;
  if (existsSync(packageFolder)) run(process.execPath, ["installArchSpecificPackage.js"], { cwd: packageFolder, env });
  // npm links only programs that were there when it finished.
  if (!existsSync(pinned) && existsSync(join(packageFolder, "bin", "node"))) {
    mkdirSync(join(modules, ".bin"), { recursive: true });
    rmSync(pinned, { force: true });
    symlinkSync(join("..", "node", "bin", "node"), pinned);
  }
  if (isNewEnough(nodeVersion(pinned))) return;
  const own = nodeVersion("node");
  if (isNewEnough(own)) {
    say(`going on with your own node ${own.join(".")} instead of the pinned one`);
    return;
  }
  throw new SetupError(
    `no node >= ${OLDEST_NODE.join(".")} could be had: install one, or allow the install script of the package "node"`,
  );
}

function ensureDist() {
  if (!isStale()) return;
  say("compiling src to dist");
  if (!build()) throw new SetupError("src does not compile: see the messages above");
}

function isInstalled(program) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => existsSync(join(folder, program)));
}

function isThere({ program, file }) {
  return file === undefined ? isInstalled(program) : existsSync(file);
}

/** Test clients are a help, not a need: where one can't be had, its tests skip and we say so. */
function ensureClients(clients) {
  const missing = () => clients.filter((client) => !isThere(client));
  const wanted = missing().map((client) => client.package);
  if (wanted.length === 0) return;
  const mayInstall = process.getuid?.() === 0 && isInstalled("apt-get");
  if (mayInstall) {
    say(`installing Debian packages: ${wanted.join(" ")}`);
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const install = (names) => run("apt-get", ["install", "-qq", "-y", "--no-install-recommends", ...names], { env });
    if (!install(wanted) && run("apt-get", ["update", "-qq"], { env }) && !install(wanted)) {
      // One name that this release does not know keeps all from being installed.
      for (const name of wanted) install([name]);
    }
  }
  const why = mayInstall ? "it could not be installed" : "only root can install it: apt-get install";
  for (const client of missing()) say(`SKIPPED: no ${client.program} (${why} ${client.package}): ${client.use}`);
}

try {
  const isPrepare = process.argv.includes("--prepare");
  if (isPrepare && (process.env.COWTOOL_SETUP || !existsSync(join(modules, "typescript")))) process.exit(0);
  if (!isPrepare) ensurePackages();
  ensureRuntime();
  ensureDist();
  if (!isPrepare) ensureClients(process.argv.includes("--browser") ? [...CLIENTS, ...BROWSER] : CLIENTS);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
