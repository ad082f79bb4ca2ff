#!/usr/bin/env node
/*
 * Owns the start of the published program: which node runs it, and the fast ways out. Must parse on any node that knows
 * modules (so: nothing newer than `import()`), and must leave everything else to dist/program/main.js.
 *
 * A closed pipe (`cowtool info x | head -1`) ends quietly: the rest of the output is dropped, and the exit status stays
 * that of the work itself, not 13 as with oclif's stock script, and not 141.
 */
const OLDEST = [22, 15];
const argv = process.argv.slice(2);

function isNewEnough() {
  const version = process.versions.node.split(".").map(Number);
  return version[0] > OLDEST[0] || (version[0] === OLDEST[0] && version[1] >= OLDEST[1]);
}

/** A stream that fails otherwise is told of by src/cli/terminal.ts; it must not end the work that goes on. */
function ignoreClosedPipe(error) {
  if (error.code !== "EPIPE") process.exitCode = 8;
}

/** What nobody caught is a bug in cowtool: 70, never 1, which would mean "differs". */
function die(error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`cowtool: error: internal error: ${message} (a bug in cowtool)\n`);
  if (process.env.DEBUG) process.stderr.write(`${error instanceof Error ? error.stack : ""}\n`);
  process.exit(70);
}

/** Is it a folder that only this user and root can write to? */
function isTrusted(folder) {
  const { uid, mode } = fs.statSync(folder);
  return (uid === process.geteuid() || uid === 0) && (mode & 0o022) === 0;
}

/**
 * Compiled modules are kept in the user's own cache folder. What is read from there runs as this user: a folder that
 * another user could have filled is not used, such as node's default below /tmp, or a user's home for root under sudo.
 */
function useCompileCache() {
  if (process.env.NODE_COMPILE_CACHE || process.env.NODE_DISABLE_COMPILE_CACHE) return;
  const cache = process.env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache");
  const own = path.join(cache, "cowtool");
  const folders = [own, fs.existsSync(cache) ? cache : path.dirname(cache)].filter((each) => fs.existsSync(each));
  if (path.isAbsolute(cache) && folders.length > 0 && folders.every(isTrusted))
    module.enableCompileCache(path.join(own, "compile"));
}

if (!isNewEnough()) {
  process.stderr.write(
    `cowtool: error: node ${OLDEST.join(".")} or newer is needed, this is ${process.versions.node}\n`,
  );
  process.exit(16);
}

// Not imported: an import copies all exports of a built-in module, which takes longer than all the rest of this file.
const [fs, module, os, path] = ["fs", "module", "os", "path"].map((name) => process.getBuiltinModule(`node:${name}`));
const root = path.join(import.meta.dirname, "..");

// pack and unpack compress in libuv's threads, of which there are four unless told so before the first is used.
process.env.UV_THREADPOOL_SIZE ||= String(Math.max(4, os.availableParallelism()));
process.on("uncaughtException", die);
process.stdout.on("error", ignoreClosedPipe);
process.stderr.on("error", ignoreClosedPipe);

if (argv.length === 1 && (argv[0] === "--version" || argv[0] === "-V")) {
  // The same line as oclif's, without loading oclif.
  const { name, version } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
  process.stdout.write(`${name}/${version} ${process.platform}-${process.arch} node-${process.version}\n`);
} else {
  try {
    useCompileCache();
  } catch {
    // Without a home there is no cache: slower by some milliseconds, nothing else.
  }
  const { main } = module.createRequire(import.meta.url)("../dist/program/main.js");
  main({ argv, root, source: "dist/program" }).catch(die);
}
