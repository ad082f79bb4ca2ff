/**
 * Owns timing whole processes: wall time and peak memory of each run, medians over rounds.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

function peakKib(pid) {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Runs a command to its end. @returns milliseconds, peak KiB (sampled), exit status, the last of what it printed */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    let output = "";
    let peak = 0;
    const keep = (chunk) => {
      output = (output + chunk).slice(-2000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const timer = setInterval(() => {
      peak = Math.max(peak, peakKib(child.pid));
    }, 5);
    child.on("error", reject);
    child.on("close", (status) => {
      clearInterval(timer);
      resolve({ ms: performance.now() - start, peak, status, output });
    });
  });
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
