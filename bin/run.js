#!/usr/bin/env node
/*
 * Owns the start of the published program: which node runs it, and the fast ways out. Must parse on any node that knows
 * modules (so: nothing newer than `import()`), and must leave everything else to dist/cli/main.js.
 *
 * A closed pipe (`cowtool info x | head -1`) ends quietly: the rest of the output is dropped, and the exit status stays
 * that of the work itself, not 13 as with oclif's stock script, and not 141.
 */
import fs from "node:fs";
import module from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const OLDEST = [22, 15];
const root = fileURLToPath(new URL("..", import.meta.url));
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

/**
 * Compiled modules are kept in the user's own cache folder. Node's default, below /tmp, is one that another user could
 * have filled before us.
 */
function useCompileCache() {
  if (process.env.NODE_COMPILE_CACHE || process.env.NODE_DISABLE_COMPILE_CACHE) return;
  const home = process.env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache");
  if (path.isAbsolute(home)) module.enableCompileCache(path.join(home, "cowtool", "compile"));
}

if (!isNewEnough()) {
  process.stderr.write(
    `cowtool: error: node ${OLDEST.join(".")} or newer is needed, this is ${process.versions.node}\n`,
  );
  process.exit(16);
}

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
  import("../dist/cli/main.js").then(({ main }) => main({ argv, root, source: "dist" })).catch(die);
}
