/**
 * Owns the question what more of everything costs: larger images, more connections, more layers, more extents. Only
 * cowtool is asked; each figure is compared with that of the smallest case.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeSparse, markBlocks } from "./inputs.mjs";
import { must, run } from "./measure.mjs";
import { load, settle } from "./rounds.mjs";
import { cowtoolCommand, launch, serveStack } from "./servers.mjs";

const GIB = 2 ** 30;
const REGION_BYTES = 256 << 20;

async function cowtool(...args) {
  const [command, ...rest] = cowtoolCommand(...args);
  return await must(command, rest);
}

/** Asks the same for a while first: only cowtool is measured here, and not how fast its code gets warm. */
async function warmLoad(context, server, steps, { seconds, ...more }) {
  const warmUp = `randread --depth 16 --seconds ${seconds} --seed 99`;
  return (await load(context, server, [warmUp, ...steps], more)).slice(1);
}

/** Serves a stack, runs `work` with it, ends it in order. */
async function withServer(context, dir, stack, work) {
  const listen = { unix: join(dir, "s") };
  rmSync(listen.unix, { force: true });
  const started = await launch(serveStack(stack, { listen }), { listen, log: join(context.work, "growth.log") });
  const server = { ...started, exportName: "" };
  try {
    return await work(server);
  } finally {
    await started.stop();
  }
}

const memory = ({ rss_kib }) => ({ "memory KiB": rss_kib });

/** Throughput constant; memory constant and a bit per KiB of the image, as far as its bitmap is touched. */
async function measureSize(context, dir, size, { seconds, count }) {
  const [base, cowfile] = [join(dir, "base.img"), join(dir, "c.cow")];
  makeSparse(base, size);
  await cowtool("create", "-f", base, cowfile);
  return withServer(context, dir, [base, cowfile], async (server) => {
    const steps = [
      `randread --depth 16 --seconds ${seconds}`,
      `randwrite --depth 16 --operations ${count}`,
      `randread --depth 16 --seconds ${seconds} --seed 2`,
    ];
    const [read, write, again] = await warmLoad(context, server, steps, { seconds });
    return { "read iops": read.iops, "write iops": write.iops, "read again iops": again.iops, ...memory(again) };
  });
}

/** Throughput constant; memory constant and a pool of bounded size. */
async function measureConnections(context, dir, connections, { seconds, count }) {
  const cowfile = join(dir, "c.cow");
  await cowtool("create", "-f", context.base, cowfile);
  return withServer(context, dir, [context.base, cowfile], async (server) => {
    const steps = [`randread --depth 4 --seconds ${seconds}`, `randwrite --depth 4 --operations ${count}`];
    const [read, write] = await warmLoad(context, server, steps, { seconds, connections });
    return { "read iops": read.iops, "write iops": write.iops, ...memory(write) };
  });
}

/** Throughput constant; memory linear in the layers, by a bitmap each. */
async function measureLayers(context, dir, layers, { seconds, count }) {
  const base = join(dir, "base.img");
  const stack = [base];
  makeSparse(base, GIB);
  for (let i = 0; i < layers; i++) {
    const layer = join(dir, `${i}.cow`);
    await cowtool("create", "-f", stack.join(","), layer);
    stack.push(layer);
    await withServer(context, dir, stack, (server) =>
      load(context, server, [
        `randwrite --depth 16 --operations ${Math.ceil(count / 4)} --seed ${i + 1} --length ${REGION_BYTES}`,
      ]),
    );
  }
  return withServer(context, dir, stack, async (server) => {
    const step = `randread --depth 16 --seconds ${seconds} --length ${REGION_BYTES}`;
    const [read] = await warmLoad(context, server, [step], { seconds });
    return { "read iops": read.iops, "cpu µs": read.server_cpu_us, ...memory(read) };
  });
}

/** Serving: both constant. Listing them: time linear in the extents, memory constant. */
async function measureExtents(context, dir, extents, { seconds, size }) {
  const [base, cowfile] = [join(dir, "base.img"), join(dir, "c.cow")];
  makeSparse(base, size);
  await cowtool("create", "-f", base, cowfile);
  markBlocks(cowfile, extents);
  const [command, ...args] = cowtoolCommand("info", "--map", cowfile);
  const listed = await run(command, args);
  const served = await withServer(context, dir, [base, cowfile], async (server) => {
    const [read] = await warmLoad(context, server, [`randread --depth 16 --seconds ${seconds}`], { seconds });
    return { "read iops": read.iops, "cpu µs": read.server_cpu_us, ...memory(read) };
  });
  return { ...served, "info --map ms": listed.ms, "info --map peak KiB": listed.peak };
}

/** `points` of a smoke run are few and small. */
function series({ smoke }) {
  const one = smoke ? 1 << 26 : GIB;
  return [
    {
      id: "size",
      title: "size of the image (sparse), 1 GiB and more",
      unit: "bytes",
      points: smoke ? [one] : [GIB, 16 * GIB, 128 * GIB, 1024 * GIB],
      expects: "throughput constant; memory constant, and the touched pages of the bitmap (1 bit a KiB)",
      measure: measureSize,
    },
    {
      id: "connections",
      title: "connections, QD4 each",
      unit: "connections",
      points: smoke ? [4] : [1, 4, 16, 64],
      expects: "throughput of all together constant; memory constant, and a bounded pool",
      measure: measureConnections,
    },
    {
      id: "layers",
      title: "layers of the stack",
      unit: "layers",
      points: smoke ? [2] : [1, 2, 4, 8, 16],
      expects: "throughput constant; memory linear, by a bitmap a layer",
      measure: measureLayers,
    },
    {
      id: "extents",
      title: "allocated extents of a 32 GiB image",
      unit: "extents",
      points: smoke ? [1000] : [1e3, 1e4, 1e5, 1e6, 1e7],
      expects: "throughput and memory of the server constant; `info --map` linear in time, constant in memory",
      measure: measureExtents,
    },
  ];
}

/** @returns a row for each series, with a list of samples for each of its points */
export async function runGrowth(context, { rounds, seconds, smoke }) {
  const rows = series({ smoke }).map((row) => ({ ...row, results: row.points.map(() => []) }));
  const options = { seconds, count: smoke ? 50 : 20000, size: smoke ? 1 << 26 : 32 * GIB };
  for (let round = 0; round < rounds; round++) {
    for (const { id, points, measure, results } of rows) {
      for (const [i, point] of points.entries()) {
        const dir = join(context.work, "growth");
        rmSync(dir, { recursive: true, force: true });
        mkdirSync(dir);
        await settle(context);
        try {
          results[i].push(await measure(context, dir, point, options));
        } catch (error) {
          results[i].push(null);
          context.fail(`growth, ${id} ${point}: ${error.message}`);
        }
        rmSync(dir, { recursive: true, force: true });
        context.say(`round ${round + 1}/${rounds}: growth, ${id} ${point}`);
      }
    }
  }
  return rows.map(({ measure, ...row }) => row);
}
