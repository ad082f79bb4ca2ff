/**
 * Owns the question what a deep chain costs: random reads over one layer and over many, for cowtool and for qcow2 in
 * qemu-nbd. Each layer has the same share of the image, at places of its own, so that reads come to all of them.
 */
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { random } from "../test/support/random.ts";
import { fillCowfile, makeImage } from "./inputs.mjs";
import { must, rotated } from "./measure.mjs";
import { has, skip } from "./programs.mjs";
import { load, settle } from "./rounds.mjs";
import { cowtoolCommand, launch, serveStack } from "./servers.mjs";

const MIB = 2 ** 20;
const DEPTH = 32;
const WARM_UP_BYTES = 4096;
/** The whole image once in two halves of the chain. */
const SHARE = 16;

/** Places of pieces of the image, the first MiB left out. */
function placesOf(layer, size, bytes) {
  const next = random(layer);
  const places = new Set();
  while (places.size < size / bytes / SHARE) places.add(MIB + Math.floor(next() * ((size - MIB) / bytes)) * bytes);
  return [...places].sort((a, b) => a - b);
}

async function cowtool(...args) {
  const [command, ...rest] = cowtoolCommand(...args);
  await must(command, rest);
}

async function makeCowfiles(dir, base, { size, bytes }) {
  const empty = join(dir, "empty.cow");
  await cowtool("create", "--identity", "none", base, empty);
  const chain = [base];
  for (let layer = 1; layer <= DEPTH; layer++) {
    const file = join(dir, `${layer}.cow`);
    copyFileSync(empty, file);
    fillCowfile(file, Buffer.alloc(bytes, layer), placesOf(layer, size, bytes));
    chain.push(file);
  }
  return chain;
}

async function makeQcow2(dir, base, { size, bytes }) {
  const chain = [base];
  for (let layer = 1; layer <= DEPTH; layer++) {
    const file = join(dir, `${layer}.qcow2`);
    const format = layer === 1 ? "raw" : "qcow2";
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-b", chain.at(-1), "-F", format, file]);
    const writes = placesOf(layer, size, bytes).flatMap((place) => ["-c", `write -q -P ${layer} ${place} ${bytes}`]);
    await must("qemu-io", ["-t", "unsafe", "-f", "qcow2", ...writes, file]);
    chain.push(file);
  }
  return chain;
}

const KINDS = [
  {
    id: "qemu",
    title: "qemu-nbd, qcow2",
    needs: ["qemu-nbd", "qemu-img", "qemu-io"],
    make: makeQcow2,
    command: (chain, listen) => ["qemu-nbd", "-t", "-f", "qcow2", "--shared=16", "-k", listen.unix, chain.at(-1)],
  },
  {
    id: "cowtool",
    title: "cowtool",
    needs: [],
    make: makeCowfiles,
    command: (chain, listen) => serveStack(chain, { listen }),
  },
];

async function measure(context, dir, kind, chain, { seconds, size }) {
  const listen = { unix: join(dir, "s") };
  rmSync(listen.unix, { force: true });
  const started = await launch(kind.command(chain, listen), { listen, log: join(context.work, "depth.log") });
  try {
    const step = (depth) => `randread --depth ${depth} --seconds ${seconds}`;
    // The first pass fetches and maps each page.
    const first = `read --bytes ${WARM_UP_BYTES} --depth 16 --operations ${size / WARM_UP_BYTES}`;
    const steps = [first, `${step(64)} --seed 9`, step(16), step(64)];
    const [, , q16, q64] = await load(context, { ...started, exportName: "" }, steps);
    const cpu = { q16_cpu_us: q16.server_cpu_us, q64_cpu_us: q64.server_cpu_us };
    return { q16_iops: q16.iops, q64_iops: q64.iops, ...cpu, rss_kib: q64.rss_kib };
  } finally {
    await started.stop();
  }
}

function cases({ smoke }) {
  const size = (smoke ? 8 : 512) * MIB;
  return [
    { id: "depth-64k", title: "layers written in 64 KiB pieces", size, bytes: 65536, kinds: ["qemu", "cowtool"] },
    { id: "depth-4k", title: "layers written in 4 KiB pieces", size, bytes: 4096, kinds: ["cowtool"] },
  ];
}

/** @returns a row for each case: by kind, for depth 1 and the full depth, a sample a round */
export async function runDepth(context, { rounds, seconds, smoke }) {
  for (const { title, needs } of KINDS) if (!has(...needs)) skip(`${title}: no ${needs.join(" or ")}`);
  const rows = [];
  for (const row of cases({ smoke })) {
    const dir = join(context.work, "depth");
    mkdirSync(dir, { recursive: true });
    const base = join(dir, "base.img");
    makeImage(base, { sizeBytes: row.size, runs: row.size / MIB / 2, runBytes: MIB, seed: 3 });
    const kinds = KINDS.filter(({ id, needs }) => row.kinds.includes(id) && has(...needs));
    const chains = new Map();
    for (const kind of kinds) chains.set(kind.id, await kind.make(dir, base, row));
    await settle(context);
    const points = kinds.flatMap((kind) => [1, DEPTH].map((depth) => ({ kind, depth })));
    const results = Object.fromEntries(kinds.map(({ id }) => [id, { 1: [], [DEPTH]: [] }]));
    for (let round = 0; round < rounds; round++) {
      for (const { kind, depth } of rotated(points, round)) {
        const chain = chains.get(kind.id).slice(0, 1 + depth);
        const sample = await measure(context, dir, kind, chain, { seconds, size: row.size }).catch((error) => {
          context.fail(`${row.id}, ${kind.id} ${depth}: ${error.message}`);
          return null;
        });
        results[kind.id][depth].push(sample);
      }
      context.say(`round ${round + 1}/${rounds}: ${row.id}`);
    }
    rmSync(dir, { recursive: true, force: true });
    rows.push({
      id: row.id,
      title: row.title,
      depth: DEPTH,
      kinds: kinds.map(({ id, title }) => ({ id, title })),
      results,
    });
  }
  return rows;
}
