/**
 * Owns the questions what a checkpoint, a fork and a rollback cost: the pause that a client under way sees, the time until a
 * fork answers, the time until an export is back at a checkpoint.
 *
 * A pause is the longest time without any reply from the moment that the verb is sent until some time after its answer, as
 * the client's own clock has it. `quiet` is the same between checkpoints, for as long: what the machine does by itself.
 */
import { join } from "node:path";
import { CHAIN_SERVERS, withChain } from "./chain-servers.mjs";
import { visit } from "./control.mjs";
import { makeSparse } from "./inputs.mjs";
import { pause, rotated } from "./measure.mjs";
import { has, skip } from "./programs.mjs";
import { load, settle } from "./rounds.mjs";

const GIB = 2 ** 30;
/** Between two checkpoints; the second half is the quiet one. */
const EVERY_MS = 400;
/** Threads that a server starts ahead of need, and the first requests of a new client, are no part of a pause. */
const BEFORE_MS = 1500;
/** How long after the answer a pause counts: work in the background may stop clients, too. */
const AFTER_US = 100_000;

const nowUs = () => Number(process.hrtime.bigint() / 1000n);

function able() {
  for (const { title, needs } of CHAIN_SERVERS) if (!has(...needs)) skip(`${title}: no ${needs.join(" or ")}`);
  return CHAIN_SERVERS.filter(({ needs }) => has(...needs));
}

/** The longest gap that overlaps a time, in ms. */
function longest(gaps, from, to) {
  const within = gaps.filter(([start, length]) => start < to && start + length > from).map(([, length]) => length);
  return Math.max(0, ...within) / 1e3;
}

async function measurePauses(context, server, { count, everyMs }) {
  const seconds = (count * everyMs * 1.6 + BEFORE_MS) / 1e3 + 1.5;
  await pause(BEFORE_MS / 2);
  let isLoading = true;
  const loading = load(context, server, [`randwrite --depth 64 --seconds ${seconds} --gaps 500`]).finally(() => {
    isLoading = false;
  });
  loading.catch(() => undefined); // told of below
  const calls = [];
  await pause(BEFORE_MS);
  for (let i = 0; i < count && isLoading; i++) {
    const from = nowUs();
    const { pause_ms } = await server.checkpoint(`c${i}`);
    calls.push({ from, to: nowUs(), pause_ms });
    await pause(everyMs);
  }
  const [{ gaps, iops }] = await loading;
  const shown = calls.map(({ from, to, pause_ms }) => {
    const length = to - from + AFTER_US;
    return {
      call_ms: (to - from) / 1e3,
      pause_ms: longest(gaps, from, from + length),
      quiet_ms: longest(gaps, to + AFTER_US, Math.min(to + AFTER_US + length, to + everyMs * 1e3)),
      said_ms: pause_ms,
    };
  });
  return { iops, calls: shown };
}

function sizes({ smoke }) {
  if (smoke) return [{ id: "checkpoint", title: "64 MiB", size: 2 ** 26, count: 1, everyMs: 50 }];
  return [
    { id: "checkpoint-1g", title: "1 GiB", size: GIB, count: 20, everyMs: EVERY_MS },
    { id: "checkpoint-1t", title: "1 TiB", size: 1024 * GIB, count: 20, everyMs: EVERY_MS },
  ];
}

/** Has each server do `measure` once a round. @returns rows with a sample a round */
async function turns(context, rounds, rows, measure) {
  const servers = able();
  const results = rows.map(({ id, title }) => ({ id, title, results: {} }));
  for (let round = 0; round < rounds; round++) {
    for (const [i, row] of rows.entries()) {
      for (const server of rotated(
        servers.filter(({ name }) => !row.only || row.only === name),
        round + i,
      )) {
        const base = join(context.work, "chain-base.img");
        makeSparse(base, row.size);
        await settle(context);
        const sample = await withChain(context, server, base, (started) => measure(context, started, row)).catch(
          (error) => {
            context.fail(`${row.id}, ${server.name}: ${error.message}`);
            return null;
          },
        );
        results[i].results[server.name] ??= [];
        results[i].results[server.name].push(sample);
      }
      context.say(`round ${round + 1}/${rounds}: ${row.id}`);
    }
  }
  return results;
}

export const runCheckpoint = (context, { rounds, smoke }) => turns(context, rounds, sizes({ smoke }), measurePauses);

async function measureForks(_context, server, { count, of }) {
  const times = [];
  await visit(server.listen.unix, server.exportName, { write: true });
  if (of) await server.checkpoint(of);
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await server.fork(`f${i}`, of);
    await visit(server.listen.unix, `f${i}`);
    times.push(performance.now() - start);
  }
  return { times };
}

export const runFork = (context, { rounds, smoke }) => {
  const same = { size: smoke ? 2 ** 26 : GIB, count: smoke ? 2 : 100 };
  return turns(
    context,
    rounds,
    [
      { id: "fork-cp", title: "fork of a checkpoint", of: "then", ...same },
      { id: "fork", title: "fork of a running disk, with a checkpoint", only: "cowtool", ...same },
    ],
    measureForks,
  );
};

/** Back to ever earlier checkpoints; what is left goes to a stack file of its own. */
async function measureRollbacks(_context, server, { count, steps }) {
  for (let i = 0; i < count; i++) {
    await server.checkpoint(`c${i}`);
    if (i % 10 === 0) await visit(server.listen.unix, server.exportName, { write: true });
  }
  const times = [];
  for (let step = 1; step <= steps; step++) {
    const at = count - Math.floor((step * count) / (steps + 1));
    const start = performance.now();
    await server.rollback(`c${at}`, join(server.dir, `kept${step}.stack`));
    await visit(server.listen.unix, server.exportName);
    times.push(performance.now() - start);
  }
  return { times };
}

export const runRollback = (context, { rounds, smoke }) => {
  const count = smoke ? 3 : 1000;
  const title = `back to one of ${count} checkpoints`;
  const row = { id: "rollback", title, size: smoke ? 2 ** 26 : GIB, count, steps: smoke ? 1 : 20, only: "cowtool" };
  return turns(context, rounds, [row], measureRollbacks);
};
