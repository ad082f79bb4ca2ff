/**
 * Owns the question how soon a server is back: from the start of the process to its greeting and to the first read, for
 * a new cowfile, after a kill -9, and after an end in order.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeBase, makeSparse } from "./inputs.mjs";
import { must } from "./measure.mjs";
import { load, settle } from "./rounds.mjs";
import { cowtoolCommand, launch, serveStack } from "./servers.mjs";

const GIB = 2 ** 30;
const MIB = 2 ** 20;

function cases({ smoke }) {
  if (smoke) {
    const small = { size: 64 * MIB, write: "randwrite --depth 16 --operations 100" };
    return [{ id: "image", title: "1 GiB image", make: makeBase, ...small }];
  }
  return [
    {
      id: "image",
      title: "1 GiB image, 200 MiB written in 4 KiB pieces",
      size: GIB,
      make: makeBase,
      write: "randwrite --depth 16 --operations 51200",
    },
    {
      id: "sparse",
      title: "1 TiB sparse, 10 GiB written in 256 KiB pieces",
      size: 1024 * GIB,
      make: makeSparse,
      write: "randwrite --bytes 262144 --depth 16 --operations 40960",
    },
  ];
}

async function open(context, dir, stack) {
  const listen = { unix: join(dir, "s") };
  rmSync(listen.unix, { force: true });
  const start = performance.now();
  const server = await launch(serveStack(stack, { listen }), { listen, log: join(context.work, "reopen.log") });
  const greeted = performance.now() - start;
  await load(context, { ...server, exportName: "" }, ["randread --operations 1"]);
  return { server: { ...server, exportName: "" }, ms: greeted, first_read_ms: performance.now() - start };
}

async function measure(context, dir, { size, make, write }) {
  const stack = [join(dir, "base.img"), join(dir, "c.cow")];
  make(stack[0], size);
  const [command, ...args] = cowtoolCommand("create", ...stack);
  await must(command, args);
  const fresh = await open(context, dir, stack);
  let [written] = [];
  try {
    [written] = await load(context, fresh.server, [write]);
  } finally {
    await fresh.server.kill();
  }
  const killed = await open(context, dir, stack);
  await killed.server.stop();
  const ended = await open(context, dir, stack);
  await ended.server.stop();
  return {
    written_bytes: Math.round(written.mbps * written.seconds * 1e6),
    fresh_ms: fresh.ms,
    killed_ms: killed.ms,
    killed_first_read_ms: killed.first_read_ms,
    ended_ms: ended.ms,
  };
}

/** @returns a row for each case, with a sample a round */
export async function runReopen(context, { rounds, smoke }) {
  const rows = cases({ smoke }).map((row) => ({ ...row, results: [] }));
  const dir = join(context.work, "reopen");
  for (let round = 0; round < rounds; round++) {
    for (const row of rows) {
      rmSync(dir, { recursive: true, force: true });
      mkdirSync(dir);
      await settle(context);
      try {
        row.results.push(await measure(context, dir, row));
      } catch (error) {
        row.results.push(null);
        context.fail(`reopen, ${row.id}: ${error.message}`);
      }
      rmSync(dir, { recursive: true, force: true });
      context.say(`round ${round + 1}/${rounds}: reopen, ${row.id}`);
    }
  }
  return rows.map(({ id, title, results }) => ({ id, title, results }));
}
