/**
 * Owns what the servers are asked to do, as a table: phases, each of which begins with a fresh overlay; calls of the load
 * generator, each with connections of its own; rows, of which each is a step of a call and a line of the report.
 *
 * `aim` is the least ratio to the best peer of the same round that we want to see, `limitAim` the least ratio to the bare
 * server. `against` names the one peer that counts, where the others do less than the row asks for.
 */

const QUARTER_MIB = 262144;
const SEQUENTIAL = `--bytes ${QUARTER_MIB} --depth 16`;

export const GROUPS = ["read", "write", "sequential", "cold", "flush", "tcp", "nbd:// base", "tls"];

/** The number of operations or bytes, less in a smoke run, and never so few that nothing happens. */
const scaled = (scale) => (number, least) => Math.max(least, Math.round(number * scale));

function randomWrites(id, title, connections, depth, operations, aims) {
  const step = `randwrite --depth ${depth} --operations ${operations}`;
  return {
    id,
    calls: [
      {
        connections,
        rows: [
          { id: `${id}-first`, title: `4 KiB random write ${title}, allocating`, group: "write", step, aim: aims[0] },
          {
            id: `${id}-again`,
            title: `4 KiB random write ${title}, again`,
            group: "write",
            step,
            aim: aims[1],
            limitAim: 0.7,
          },
        ],
      },
    ],
  };
}

function randomReads(prefix, name, group, seconds, depths) {
  return depths.map(([depth, aim, more]) => ({
    rows: [
      {
        id: `${prefix}-q${depth}`,
        title: `4 KiB random read ${name}QD${depth}`,
        group,
        step: `randread --depth ${depth} --seconds ${seconds}`,
        aim,
        ...more,
      },
    ],
  }));
}

function sequentialRead(id, title, group, seconds, more) {
  const step = `read ${SEQUENTIAL} --seconds ${seconds}`;
  return { rows: [{ id, title, group, step, metric: "mbps", ...more }] };
}

/** nbdcopy into nothing; each row is a run of it. It asks whom prefers 64 KiB, as nbdkit's cow filter does, for no less. */
const copies = (prefix, name, group, aims) =>
  [
    ["", "nbdcopy out", []],
    ["-4k", "nbdcopy out by 4 KiB requests", ["--request-size=4096", "--requests=64", "--connections=1"]],
  ].map(([suffix, title, args], i) => ({
    nbdcopy: args,
    without: args.length > 0 ? ["nbdkit"] : [],
    rows: [{ id: `${prefix}${suffix}`, title: `${title}${name}`, group, metric: "mbps", aim: aims[i] }],
  }));

function readPhase(t) {
  return {
    id: "read",
    calls: [
      ...randomReads("read", "", "read", t, [
        [1, 1.3, { limitAim: 0.8 }],
        [16, 1.5, { limitAim: 0.8 }],
        [64, 2, { limitAim: 0.8 }],
      ]),
      {
        connections: 4,
        rows: [
          {
            id: "read-q64x4",
            title: "4 KiB random read QD64 × 4 connections",
            group: "read",
            step: `randread --depth 64 --seconds ${t}`,
            aim: 2,
            limitAim: 0.8,
          },
        ],
      },
      {
        single: true,
        rows: [
          {
            id: "read-q64-single",
            title: "4 KiB random read QD64, each request sent by itself",
            group: "read",
            step: `randread --depth 64 --seconds ${t}`,
          },
        ],
      },
      sequentialRead("read-seq", "256 KiB sequential read, base", "sequential", t, { aim: 1.1, limitAim: 0.8 }),
    ],
  };
}

/** One connection for all of it, since nbd-server forgets what was written when its client leaves. */
function overlayPhase(t, length, operations) {
  const within = `--length ${length}`;
  const write = `write ${SEQUENTIAL} --operations ${operations} ${within}`;
  const [group, metric] = ["sequential", "mbps"];
  return {
    id: "overlay",
    calls: [
      {
        rows: [
          {
            id: "write-seq-first",
            title: "256 KiB sequential write, allocating",
            group,
            metric,
            step: write,
            aim: 1.1,
          },
          {
            id: "write-seq-again",
            title: "256 KiB sequential write, again",
            group,
            metric,
            step: write,
            aim: 1.2,
            limitAim: 0.7,
          },
          {
            id: "overlay-seq",
            title: "256 KiB sequential read, overlay",
            group,
            metric,
            step: `read ${SEQUENTIAL} --seconds ${t} ${within}`,
            aim: 1.05,
            limitAim: 0.8,
          },
          {
            id: "overlay-q16",
            title: "4 KiB random read QD16, overlay",
            group: "read",
            step: `randread --depth 16 --seconds ${t} ${within}`,
            aim: 1.5,
            limitAim: 0.8,
          },
          {
            id: "mix-q16",
            title: "4 KiB random 70/30 QD16, overlay",
            group: "write",
            step: `mix --writes 30 --depth 16 --seconds ${t} ${within}`,
            aim: 1.05,
          },
        ],
      },
    ],
  };
}

function coldPhase(count) {
  const read = (depth, operations, seed) => `randread --depth ${depth} --operations ${operations} --seed ${seed}`;
  const rows = [
    { id: "cold-q1", title: "4 KiB random read QD1, cold", step: read(1, count(1000, 50), 5), aim: 1 },
    { id: "cold-q16", title: "4 KiB random read QD16, cold", step: read(16, count(6000, 50), 7), aim: 1 },
    { id: "cold-q64", title: "4 KiB random read QD64, cold", step: read(64, count(6000, 50), 9), aim: 1 },
    {
      id: "cold-seq",
      title: "256 KiB sequential read, cold",
      step: `read ${SEQUENTIAL} --operations ${count(4096, 50)}`,
      metric: "mbps",
    },
  ];
  return {
    id: "cold",
    isCold: true,
    calls: rows.map((row) => ({ rows: [{ ...row, group: "cold", step: `${row.step} --evict {base}` }] })),
  };
}

/** All phases. `seconds` is for steps that have no number of operations, `scale` makes those smaller. */
export function phases({ seconds: t, scale = 1 }) {
  const count = scaled(scale);
  const length = count(512, 4) << 20;
  return [
    readPhase(t),
    randomWrites("write-q1", "QD1", 1, 1, count(6000, 50), [1.1, 1.4]),
    randomWrites("write-q16", "QD16", 1, 16, count(20000, 50), [1.3, 1.6]),
    randomWrites("write-q64", "QD64", 1, 64, count(20000, 50), [1.3, 2]),
    randomWrites("write-q64x4", "QD64 × 4 connections", 4, 64, count(40000, 50), [1, 1.5]),
    overlayPhase(t, length, length / QUARTER_MIB),
    coldPhase(count),
    {
      id: "flush",
      calls: [
        {
          rows: [
            {
              id: "flush-q1",
              title: "4 KiB random write and flush QD1",
              group: "flush",
              step: `writeflush --operations ${count(400, 20)}`,
              aim: 1.7,
              against: "qemu",
            },
          ],
        },
      ],
    },
    { id: "copy", can: "copy", calls: copies("copy", "", "sequential", [1]) },
    {
      id: "tcp",
      can: "tcp",
      tcp: true,
      calls: [
        ...randomReads("tcp", "over TCP ", "tcp", t, [[1], [64, 2, { limitAim: 0.8 }]]),
        sequentialRead("tcp-seq", "256 KiB sequential read over TCP", "tcp", t, { aim: 1, limitAim: 0.8 }),
        {
          rows: [
            {
              id: "tcp-write-q16",
              title: "4 KiB random write over TCP QD16, allocating",
              group: "tcp",
              step: `randwrite --depth 16 --operations ${count(20000, 50)}`,
            },
          ],
        },
      ],
    },
    {
      id: "remote",
      can: "remote",
      remote: true,
      calls: [
        ...randomReads("remote", "over nbd:// base ", "nbd:// base", t, [[1], [16], [64]]),
        sequentialRead("remote-seq", "256 KiB sequential read over nbd:// base", "nbd:// base", t, {}),
      ],
    },
    { id: "tls", can: "tls", tls: true, calls: copies("tls", ", TLS", "tls", []) },
  ];
}

export const PHASE_IDS = phases({ seconds: 1 }).map(({ id }) => id);

/** The rows of phases, in the order of the report, without what only the load generator needs. */
export function rowsOf(list) {
  return list.flatMap(({ id: phase, calls }) =>
    calls.flatMap(({ rows }) =>
      rows.map(({ id, title, group, metric = "iops", aim, limitAim, against, step }) => ({
        ...{ id, phase, title, group, metric, step: step ?? "nbdcopy" },
        ...{ aim, limit_aim: limitAim, against, results: {} },
      })),
    ),
  );
}
