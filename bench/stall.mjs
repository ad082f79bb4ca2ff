/**
 * Owns the question whether a slow disk stalls others: how long a reader of hot data waits alone, and while another
 * connection reads from a slow part of the same export. The hot data lies in the overlay; the base is behind a delay,
 * once as an export of another server (nbd:// base), once as a file of a file system that is slow (nbdfuse).
 */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { pause, rotated } from "./measure.mjs";
import { has, skip } from "./programs.mjs";
import { load, settle } from "./rounds.mjs";
import { launch, startBaseServer, startServer } from "./servers.mjs";

const DELAY = "20ms";

const KINDS = [
  { id: "stall-nbd", title: "slow nbd:// base", needs: ["nbdkit"] },
  { id: "stall-file", title: "slow file (FUSE)", needs: ["nbdkit", "nbdfuse"], file: "/dev/fuse" },
];

/** A file below a mount point, each read of which takes DELAY. */
async function mountSlow(context, socket, size) {
  const dir = join(context.work, "slow");
  mkdirSync(dir, { recursive: true });
  const file = join(dir, "slow.img");
  const isThere = () => Promise.resolve(statSync(file, { throwIfNoEntry: false })?.size === size);
  const command = ["nbdfuse", "-r", file, `nbd+unix:///?socket=${socket}`];
  const mounted = await launch(command, { log: join(context.work, "nbdfuse.log"), ready: isThere });
  return { file, stop: mounted.stop };
}

async function readHot(context, server, hotBytes, seconds) {
  const [sample] = await load(context, server, [`randread --depth 1 --seconds ${seconds} --length ${hotBytes}`]);
  return sample;
}

async function measure(context, server, { seconds, size }) {
  const hotBytes = size / 16;
  await load(context, server, [
    `write --bytes 262144 --depth 4 --operations ${hotBytes / 262144} --length ${hotBytes}`,
  ]);
  await readHot(context, server, hotBytes, seconds); // or it is the first one that waits for cold code
  const alone = await readHot(context, server, hotBytes, seconds);
  const slow = load(context, server, [`randread --depth 4 --seconds ${seconds * 1.5 + 0.5} --offset ${size / 2}`]);
  slow.catch(() => undefined); // told of below
  await pause(200);
  const beside = await readHot(context, server, hotBytes, seconds);
  const [neighbour] = await slow;
  return {
    alone_p50_us: alone.p50_us,
    alone_p99_us: alone.p99_us,
    beside_p50_us: beside.p50_us,
    beside_p99_us: beside.p99_us,
    beside_max_us: beside.max_us,
    slow_iops: neighbour.iops,
  };
}

/** Does `work` over the slow base, which is served anew each time. */
async function withSlow(context, kind, size, work) {
  const delayed = { name: "slow", filters: ["delay"], settings: [`delay-read=${DELAY}`] };
  const below = await startBaseServer({ work: context.work, file: context.base, ...delayed });
  let mounted;
  try {
    if (kind.id === "stall-file") mounted = await mountSlow(context, below.socket, size);
    return await work(mounted ? { file: mounted.file } : { socket: below.socket });
  } finally {
    await mounted?.stop();
    await below.stop();
  }
}

async function runServer(context, server, base, options) {
  await settle(context);
  const started = await startServer(server, { ...context, base, keys: undefined });
  try {
    return await measure(context, started, options);
  } finally {
    await started.stop();
  }
}

async function runKind(context, kind, { servers, rounds, seconds }) {
  const size = statSync(context.base).size;
  const results = {};
  for (let round = 0; round < rounds; round++) {
    for (const server of rotated(servers, round)) {
      results[server.name] ??= [];
      const work = (base) => runServer(context, server, base, { seconds, size });
      const sample = await withSlow(context, kind, size, work).catch((error) => {
        context.fail(`${kind.id}, ${server.name}: ${error.message}`);
        return null;
      });
      results[server.name].push(sample);
    }
    context.say(`round ${round + 1}/${rounds}: ${kind.id}`);
  }
  return { id: kind.id, title: kind.title, delay: DELAY, results };
}

/** @returns a row for each kind of slow base that can be had here, with samples per server and round */
export async function runStall(context, options) {
  const rows = [];
  const servers = options.servers.filter(({ can }) => can.includes("slow"));
  for (const kind of KINDS) {
    if (!has(...kind.needs)) {
      skip(`${kind.id}: no ${kind.needs.filter((program) => !has(program)).join(", ")}`);
      continue;
    }
    // A container may lack it.
    if (kind.file && !existsSync(kind.file)) {
      skip(`${kind.id}: no ${kind.file}`);
      continue;
    }
    rows.push(await runKind(context, kind, { ...options, servers }));
  }
  return rows;
}
