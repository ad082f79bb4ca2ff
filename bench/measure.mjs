/**
 * Owns timing whole processes, and the statistics of all benchmarks: medians over rounds, ratios within a round.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** What a line of /proc/PID/status says in KiB: VmHWM is the peak. 0 when it has ended. */
export function memoryKib(pid, key = "VmHWM") {
  try {
    return Number(new RegExp(`${key}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Memory of a process's own; the pages of files that it has mapped belong to the page cache. */
export function ownMemoryKib(pid) {
  return memoryKib(pid, "RssAnon") + memoryKib(pid, "RssShmem");
}

/** Runs a command to its end. @returns milliseconds, peak KiB (sampled), exit status, what it printed (the last of it) */
export function run(command, args, { keep = 2000, limitMs = 600_000, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    let [output, stdout, peak] = ["", "", 0];
    child.stdout.on("data", (chunk) => {
      stdout = (stdout + chunk).slice(-keep);
      output = (output + chunk).slice(-keep);
    });
    child.stderr.on("data", (chunk) => {
      output = (output + chunk).slice(-keep);
    });
    const timer = setInterval(() => {
      peak = Math.max(peak, memoryKib(child.pid));
    }, 5);
    const limit = setTimeout(() => child.kill("SIGKILL"), limitMs);
    const finish = () => {
      clearInterval(timer);
      clearTimeout(limit);
    };
    child.on("error", (error) => {
      finish();
      reject(error);
    });
    child.on("close", (status) => {
      finish();
      resolve({ ms: performance.now() - start, peak, status, output, stdout });
    });
  });
}

/** Runs a command that has to succeed. */
export async function must(command, args, options) {
  const result = await run(command, args, options);
  if (result.status !== 0) throw new Error(`${command} ${args.join(" ")}: exit ${result.status}\n${result.output}`);
  return result;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The median of what is a number; undefined when nothing is. */
export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 || sorted.length === 0 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The value that a share of all are not above; undefined when there is none. */
export function percentile(values, share) {
  const sorted = values.filter(Number.isFinite).toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/** The list beginning with another one of its members each round, so that nobody always runs after the same neighbour. */
export function rotated(list, round) {
  const first = list.length === 0 ? 0 : round % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}

/** A sample's figure, or undefined where that round failed. */
const figure = (sample, metric) => {
  const value = sample?.[metric];
  return value > 0 ? value : undefined;
};

/** `medians of 5 rounds`, as many as the rows have: a run that was repeated in part has more of some. */
export function mediansOf(rows) {
  const counts = rows.flatMap(({ results }) => Object.values(results).map((list) => list.filter(Boolean).length));
  const [least, most] = [Math.min(...counts.filter((count) => count > 0)), Math.max(...counts)];
  if (most <= 1) return "one round";
  return `medians of ${least === most ? most : `${least} to ${most}`} rounds`;
}

/**
 * Per round, `name`'s figure divided by the best of `others` in that same round; rounds in which either is missing are
 * left out. `lowest` says that less is better, and the best is the least.
 */
export function ratios(results, name, others, metric, lowest = false) {
  const rounds = results[name]?.length ?? 0;
  const list = [];
  for (let round = 0; round < rounds; round++) {
    const own = figure(results[name][round], metric);
    const theirs = others.map((other) => figure(results[other]?.[round], metric)).filter(Number.isFinite);
    if (own === undefined || theirs.length === 0) continue;
    list.push(own / (lowest ? Math.min(...theirs) : Math.max(...theirs)));
  }
  return list;
}
