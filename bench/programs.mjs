/**
 * Owns what the benchmarks find on the machine: programs of others, the two C programs of ours, and what the machine is.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./measure.mjs";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));

const missing = new Set();

/** Says once, loudly, that something is left out. */
export function skip(what) {
  if (missing.has(what)) return;
  missing.add(what);
  console.error(`SKIPPED: ${what}`);
}

export const skipped = () => [...missing];

/** Where a program is; system programs are found although they may not be on a user's PATH. */
export function find(program) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

export function has(...programs) {
  return programs.every((program) => find(program) !== undefined);
}

/** Compiles load.c and bare.c into `dir`. @returns their paths; undefined without a compiler */
export async function compile(dir) {
  const built = {};
  for (const name of ["load", "bare"]) {
    built[name] = join(dir, `program-${name}`);
    const args = ["-O2", "-Wall", "-o", built[name], join(ROOT, "bench", `${name}.c`)];
    const result = has("gcc") ? await run("gcc", args) : { status: 127, output: "no gcc" };
    if (result.status !== 0) {
      skip(`everything that is served: the load generator cannot be compiled: ${result.output.trim()}`);
      return undefined;
    }
  }
  return built;
}

function firstLine(command, ...args) {
  const { stdout, stderr } = spawnSync(command, args, { encoding: "utf8", env: { ...process.env, LC_ALL: "C" } });
  return (
    `${stdout ?? ""}${stderr ?? ""}`
      .split("\n")
      .find((line) => line.trim() !== "")
      ?.trim() ?? ""
  );
}

const VERSIONS = {
  "qemu-nbd": ["--version"],
  "qemu-storage-daemon": ["--version"],
  nbdkit: ["--version"],
  "nbd-server": ["-V"],
  nbdcopy: ["--version"],
  gcc: ["--version"],
  zstd: ["--version"],
  pigz: ["--version"],
  cp: ["--version"],
  cmp: ["--version"],
};

function commit() {
  const { status, stdout } = spawnSync("git", ["-C", ROOT, "describe", "--always", "--dirty"], { encoding: "utf8" });
  return status === 0 ? ` (${stdout.trim()})` : "";
}

/** Every program that takes part, and what it says its version is. */
export function versions() {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const own = { cowtool: `${version}${commit()}`, node: process.version };
  const others = Object.entries(VERSIONS)
    .filter(([program]) => has(program))
    .map(([program, args]) => [
      program,
      firstLine(find(program), ...args)
        .replace(/^\S*\/|^\*+|\*+$/g, "")
        .trim(),
    ]);
  return { ...own, ...Object.fromEntries(others) };
}

/** The machine, and the file system that `dir` is on. */
export function machine(dir) {
  const [cpu] = cpus();
  const system = firstLine("sh", "-c", '. /etc/os-release && echo "$PRETTY_NAME"');
  return {
    cpu: cpu?.model.trim() ?? "unknown",
    cores: cpus().length,
    memory_bytes: totalmem(),
    kernel: `${type()} ${release()}`,
    system,
    filesystem: firstLine("findmnt", "-n", "-o", "FSTYPE", "-T", dir),
  };
}
