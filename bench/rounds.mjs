/**
 * Owns the interleaving: round by round, phase by phase, one server after another, in an order that turns each round.
 * Servers never run side by side, and each phase of each begins with a fresh overlay and a clean disk.
 */
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { memoryKib, must, ownMemoryKib, rotated, run } from "./measure.mjs";
import { has, skip } from "./programs.mjs";
import { startBaseServer, startServer } from "./servers.mjs";
import { rowsOf } from "./workloads.mjs";

const CALL_LIMIT_MS = 300_000;

/** Runs the load generator. @returns one sample a step; undefined for those that failed */
export async function load(context, server, steps, { connections = 1, single = false } = {}) {
  const where = server.listen.unix ? ["--unix", server.listen.unix] : ["--tcp", `127.0.0.1:${server.listen.port}`];
  const named = server.exportName ? ["--export", server.exportName] : [];
  const args = [...where, ...named, "--connections", String(connections), "--pid", String(server.pid)];
  if (single) args.push("--single");
  const words = steps.map((step) => step.replaceAll("{base}", context.base).split(" "));
  args.push(...words.flatMap((step, i) => (i === 0 ? step : ["/", ...step])));
  const { stdout, status, output } = await run(context.programs.load, args, { keep: 1e6, limitMs: CALL_LIMIT_MS });
  const samples = stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  if (status !== 0) throw new Error(`load ${args.join(" ")}: exit ${status}\n${output}`);
  return samples;
}

const SCHEMES = { plain: "nbd+unix", tls: "nbds+unix" };

async function copyOut(context, server, args) {
  const user = context.keys ? `${context.user}@` : "";
  const keys = context.keys ? `&tls-psk-file=${context.keys}` : "";
  const scheme = context.keys ? SCHEMES.tls : SCHEMES.plain;
  const uri = `${scheme}://${user}/${server.exportName}?socket=${server.listen.unix}${keys}`;
  const { ms } = await must("nbdcopy", [...args, uri, "null:"], { limitMs: CALL_LIMIT_MS });
  const bytes = statSync(context.base).size;
  const memory = { rss_kib: ownMemoryKib(server.pid), peak_kib: memoryKib(server.pid) };
  return [{ seconds: ms / 1e3, mbps: bytes / ms / 1e3, ...memory }];
}

function callServer(context, server, call) {
  if (call.nbdcopy) return copyOut(context, server, call.nbdcopy);
  return load(
    context,
    server,
    call.rows.map(({ step }) => step),
    call,
  );
}

/** What of a sample goes into the results. */
function kept(sample) {
  if (!sample) return null;
  const { mode, operations, failed, wrong, client_cpu_us, ...rest } = sample;
  return rest;
}

/** Has the whole base in the page cache. */
const warm = ({ base }) => must("sh", ["-c", 'cat "$0" >/dev/null', base]);

/** Nothing that others have written is still on its way to the disk. */
export async function settle({ work, smoke }) {
  if (!smoke) await must("sync", ["-f", work]);
}

/**
 * Does `work` over the base, or over an export of it, which is served anew each time: nbdkit 1.32 ends when its client
 * leaves with requests under way.
 */
async function withBase(context, isRemote, work) {
  if (!isRemote) return await work({ file: context.base });
  const remote = await startBaseServer({ work: context.work, file: context.base });
  try {
    return await work({ socket: remote.socket });
  } finally {
    await remote.stop();
  }
}

async function runPhase(context, phase, server, base, record) {
  await settle(context);
  const keys = phase.tls ? context.keys : undefined;
  const started = await startServer(server, { ...context, base, keys, tcp: phase.tcp, bare: context.programs.bare });
  try {
    for (const call of phase.calls.filter(({ without }) => !without?.includes(server.name))) {
      const samples = await callServer({ ...context, keys }, started, call).catch((error) => {
        context.fail(`${phase.id}, ${server.name}: ${error.message}`);
        return [];
      });
      call.rows.forEach((row, i) => {
        record(row.id, kept(samples[i]));
      });
    }
  } finally {
    await started.stop();
  }
}

/** A key for whoever has this file, in a directory of its own, as qemu-nbd wants it. */
export function writeKeys(dir, user) {
  const file = join(dir, "keys.psk");
  writeFileSync(file, `${user}:${"5a".repeat(32)}\n`, { mode: 0o600 });
  return file;
}

function lacksProgram(phase) {
  if (phase.can === "copy" && !has("nbdcopy")) return "nbdcopy";
  if (phase.tls && !has("nbdcopy")) return "nbdcopy";
  return phase.remote && !has("nbdkit") ? "nbdkit" : undefined;
}

/** Runs all rounds. `save` is called with the rows after each, so that an interrupted run has something to show. */
export async function runRounds(context, { phases, servers, rounds, save }) {
  const runnable = phases.filter((phase) => {
    const program = lacksProgram(phase);
    if (program) skip(`phase ${phase.id}: no ${program}`);
    return program === undefined;
  });
  const rows = rowsOf(runnable);
  const byId = new Map(rows.map((row) => [row.id, row]));
  for (let round = 0; round < rounds; round++) {
    await warm(context);
    for (const [i, phase] of runnable.entries()) {
      const able = servers.filter(({ can }) => phase.can === undefined || can.includes(phase.can));
      for (const server of rotated(able, round + i)) {
        const record = (id, sample) => {
          const { results } = byId.get(id);
          results[server.name] ??= Array(round).fill(null);
          results[server.name].push(sample);
        };
        const work = (base) => runPhase(context, phase, server, base, record);
        await withBase(context, phase.remote, work).catch((error) =>
          context.fail(`${phase.id}, ${server.name}: ${error.message}`),
        );
      }
      if (phase.isCold) await warm(context);
      context.say(`round ${round + 1}/${rounds}: ${phase.id}`);
    }
    for (const { results } of rows)
      for (const samples of Object.values(results)) while (samples.length <= round) samples.push(null);
    save(rows);
  }
  return rows;
}
