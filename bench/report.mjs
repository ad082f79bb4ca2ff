/**
 * Owns how results read: RESULTS.md, what is printed, and the table in the project's README. Works from the JSON alone.
 *
 *   node bench/report.mjs [--out RESULTS.md] [--readme] [--file README.md] [--svg FILE] RESULTS.json...
 *
 * Of several files, each adds what the ones before lack and replaces what they have.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chainSections } from "./chain-report.mjs";
import { median, mediansOf, ratios } from "./measure.mjs";
import { draw } from "./plot.mjs";
import { ROOT } from "./programs.mjs";
import { table } from "./table.mjs";

const BEGIN = "<!-- bench:begin -->";
const END = "<!-- bench:end -->";

const number = (value, digits = 0) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
const times = (value) => (Number.isFinite(value) ? `${value.toFixed(2)}×` : "–");
const mib = (kib) => (Number.isFinite(kib) ? (kib / 1024).toFixed(0) : "–");
const range = (list) => (list.length > 1 ? ` (${Math.min(...list).toFixed(2)}–${Math.max(...list).toFixed(2)})` : "");

const middle = (samples, key) => median((samples ?? []).filter(Boolean).map((sample) => sample[key]));

const peersOf = (data, row) =>
  row.against ? [row.against] : data.servers.filter(({ kind }) => kind === "peer").map(({ name }) => name);

/** Per-round ratios of cowtool to the best peer of that round. */
const toPeers = (data, row) => ratios(row.results, "cowtool", peersOf(data, row), row.metric);
const toLimit = (row) => ratios(row.results, "cowtool", ["bare"], row.metric);

function judged(value, aim) {
  if (aim === undefined) return "";
  const shown = `≥ ${aim}×`;
  if (!Number.isFinite(value)) return shown;
  return value >= aim ? `${shown} ✓` : `${shown} ✗`;
}

function mainTable(data) {
  const servers = data.servers.filter(({ kind }) => kind !== "limit");
  const head = ["workload", ...servers.map(({ title }) => title), "× best peer (range)", "aim", "× bare C", "aim"];
  return table(
    head,
    data.online.map((row) => {
      const [peers, limit] = [toPeers(data, row), toLimit(row)];
      const unit = row.metric === "mbps" ? " MB/s" : "";
      const versus = row.against ? ` (of ${row.against})` : "";
      return [
        row.title,
        ...servers.map(({ name }) => {
          const value = middle(row.results[name], row.metric);
          return Number.isFinite(value) ? `${number(value)}${unit}` : "–";
        }),
        `${times(median(peers))}${range(peers)}${versus}`,
        judged(median(peers), row.aim),
        times(median(limit)),
        judged(median(limit), row.limit_aim),
      ];
    }),
  );
}

/** One figure of all servers, for the rows that have it. */
function figureTable(data, key, show, more = []) {
  const rows = data.online.filter(({ results }) => Object.values(results).some((list) => middle(list, key) > 0));
  return table(
    ["workload", ...data.servers.map(({ title }) => title), ...more.map(({ title }) => title)],
    rows.map((row) => [
      row.title,
      ...data.servers.map(({ name }) => show(middle(row.results[name], key))),
      ...more.map(({ cell }) => cell(row)),
    ]),
  );
}

const CPU_RATIO = (data) => ({
  title: "cowtool / least of the peers",
  cell: (row) => {
    const list = ratios(row.results, "cowtool", peersOf(data, row), "server_cpu_us", true);
    const verdict =
      row.id !== "read-q64" || list.length === 0 ? "" : median(list) <= 0.5 ? " (≤ 0.5× ✓)" : " (≤ 0.5× ✗)";
    return `${times(median(list))}${verdict}`;
  },
});

function stallSection({ stall, servers }) {
  if (!stall?.length) return "";
  const title = (name) => servers.find((server) => server.name === name)?.title ?? name;
  const rows = stall.flatMap((row) =>
    Object.entries(row.results).map(([name, samples]) => {
      const good = samples.filter(Boolean);
      const list = good.map((sample) => sample.beside_p99_us / sample.alone_p99_us);
      const verdict = name === "cowtool" && list.length > 0 ? (median(list) <= 2 ? " (≤ 2× ✓)" : " (≤ 2× ✗)") : "";
      return [
        row.title,
        title(name),
        ...["alone_p50_us", "beside_p50_us", "alone_p99_us", "beside_p99_us"].map((key) => number(middle(good, key))),
        `${times(median(list))}${range(list)}${verdict}`,
        number(middle(good, "slow_iops")),
      ];
    }),
  );
  const head = [
    "base",
    "server",
    "p50 alone µs",
    "beside",
    "p99 alone µs",
    "beside",
    "p99 beside / alone",
    "slow reads/s",
  ];
  return `## A slow disk and its neighbours

A reader of 4 KiB at QD1 of what lies in the overlay, alone and while another connection reads at QD4 from a base each
read of which takes ${stall[0].delay}.

${table(head, rows)}
`;
}

const UNITS = [
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
];

function pointName(unit, point) {
  if (unit !== "bytes") return `${point}`;
  const [size, name] = UNITS.find(([bytes]) => point >= bytes) ?? [1, "B"];
  return `${point / size} ${name}`;
}

function growthSection({ growth }) {
  if (!growth?.length) return "";
  const parts = growth.map(({ title, unit, points, expects, results }) => {
    const keys = Object.keys(results.flat().find(Boolean) ?? {});
    const values = points.map((_, i) => keys.map((key) => middle(results[i], key)));
    const shown = (value, first) => `${number(value, value < 100 ? 1 : 0)} (${times(value / first)})`;
    const rows = points.map((point, i) => [
      pointName(unit, point),
      ...keys.map((_, k) => shown(values[i][k], values[0][k])),
    ]);
    return `### ${title}\n\nExpected: ${expects}. In brackets: relative to the first row.\n\n${table([unit, ...keys], rows)}\n`;
  });
  return `## As the work grows\n\n${parts.join("\n")}`;
}

function reopenSection({ reopen }) {
  if (!reopen?.length) return "";
  const keys = ["fresh_ms", "killed_ms", "killed_first_read_ms", "ended_ms"];
  const head = ["image", "new cowfile", "after kill -9", "to the first read", "after an end in order"];
  const rows = reopen.map(({ title, results }) => [title, ...keys.map((key) => number(middle(results, key)))]);
  return `## Back again

Milliseconds from the start of the process until it answers, start of Node included.

${table(head, rows)}
`;
}

function offlineSection({ offline }) {
  if (!offline?.length) return "";
  const start = middle(offline[0].rows.find(({ name }) => name === "cowtool --version")?.results.cowtool, "ms") ?? 0;
  const parts = offline.map(({ name, rows }) => {
    const hasOriginal = rows.some(({ original }) => original);
    const head = [
      "job",
      "cowtool ms (range)",
      "peak MiB",
      "tool",
      "its ms",
      "its speed = 1",
      "without the start of cowtool",
    ];
    const lines = rows.map(({ name: job, tool, original, results }) => {
      const ours = results.cowtool.filter(Boolean).map(({ ms }) => ms);
      const theirs = middle(results.tool, "ms");
      const fastest = ours.length > 0 ? `${number(Math.min(...ours))}–${number(Math.max(...ours))}` : "–";
      const net = Math.max(1, median(ours) - start);
      return [
        job,
        `${number(median(ours))} (${fastest})`,
        mib(middle(results.cowtool, "peak_kib")),
        Number.isFinite(theirs) ? (tool ?? "") : "",
        Number.isFinite(theirs) ? number(theirs) : "",
        Number.isFinite(theirs) ? times(theirs / median(ours)) : "",
        Number.isFinite(theirs) ? times(theirs / net) : "",
        ...(hasOriginal ? [original ?? ""] : []),
      ];
    });
    return `### ${name}\n\n${table([...head, ...(hasOriginal ? ["original"] : [])], lines)}\n`;
  });
  return `## Offline

Whole processes, start of Node (${number(start)} ms for \`cowtool --version\`) included; everything that is written is on
the disk at the end, for the tools by a \`sync\` of their file. zstd and pigz get the payload without gaps.

${parts.join("\n")}`;
}

function machineSection(data) {
  const { machine, programs, options } = data;
  const rows = [
    ["machine", `${machine.cpu}, ${machine.cores} cores, ${(machine.memory_bytes / 2 ** 30).toFixed(0)} GiB`],
    ["system", `${machine.system}, ${machine.kernel}, files on ${machine.filesystem}`],
    ["date", data.date.slice(0, 10)],
    ["rounds", `${options.rounds}, ${options.seconds} s a step that has no number of operations`],
    ...Object.entries(programs).map(([name, version]) => [name, version]),
  ];
  return table(["", ""], rows);
}

const METHOD = `Servers run one at a time, by turns, in an order that turns each round; each phase of each begins with a fresh
overlay over the same base of 2 GiB (stripes of 4 MiB, random bytes and holes by turns, from a fixed seed), after a sync,
and its files are removed before they go to disk by themselves. The page cache is hot unless a row says cold. Cells are
medians over the rounds; "× best peer" is the median over the rounds of cowtool's figure divided by that of the best peer
of the same round. The load generator is a C program of one thread, which sends in one call what one wake-up made
possible. "bare C" reads and writes files without any bitmap and gives back nothing that was written: about the least a
server can do with one thread a client. nbd-server keeps what was written for a connection only, so that its rows "again"
over four connections are not quite that; nbdkit's cow filter does not sync on a flush. bench/README.md has the rest.`;

export function fullReport(data) {
  const skipped = (data.skipped ?? []).map((what) => `- SKIPPED: ${what}`).join("\n");
  const serving = data.online
    ? `## Serving

Operations a second unless a unit is given.

${mainTable(data)}

### Processor time of the server, µs an operation

${figureTable(data, "server_cpu_us", (value) => number(value, 1), [CPU_RATIO(data)])}

### p99, µs

${figureTable(data, "p99_us", (value) => number(value))}

### Memory of the server's own (RssAnon + RssShmem), MiB

${figureTable(data, "rss_kib", mib)}
`
    : "";
  const parts = [
    `# What was measured\n\n${machineSection(data)}\n\n${METHOD}\n${skipped ? `\n${skipped}\n` : ""}`,
    ...[serving, stallSection(data), growthSection(data), chainSections(data), reopenSection(data)],
    offlineSection(data),
  ];
  return parts.filter(Boolean).join("\n");
}

/** One row a kind of work, as the README has room for. */
const README_ROWS = [
  "4 KiB random read QD1",
  "4 KiB random read QD64",
  "256 KiB sequential read, base",
  "4 KiB random write QD16, allocating",
  "4 KiB random write QD16, again",
  "4 KiB random write and flush QD1",
];

/** The short table: what the best peer reaches, what cowtool does. */
export function readmeTable(data) {
  const { machine } = data;
  const rows = (data.online ?? [])
    .filter(({ title }) => README_ROWS.includes(title))
    .map((row) => {
      const peers = data.servers.filter(({ name }) => peersOf(data, row).includes(name));
      const medians = peers.map(({ name, title }) => ({ title, value: middle(row.results[name], row.metric) ?? 0 }));
      const best = medians.sort((a, b) => b.value - a.value)[0];
      const unit = row.metric === "mbps" ? " MB/s" : "";
      const show = (value) => (value > 0 ? `${number(value)}${unit}` : "–");
      return [
        row.title,
        best?.value > 0 ? `${show(best.value)} (${best.title})` : "–",
        show(middle(row.results.cowtool, row.metric)),
        times(median(toPeers(data, row))),
        times(median(toLimit(row))),
      ];
    });
  return `![cowtool's speed relative to the best peer of each round](docs/bench.svg)

Operations a second, ${mediansOf(data.online ?? [])} by turns on ${machine.cores} cores (${machine.cpu}), ${data.date.slice(0, 10)};
"× best" is the median of the ratios to the best peer of each round, "× bare C" that to a server in C without a bitmap.
[bench/RESULTS.md](bench/RESULTS.md) has all figures and the method.

${table(["workload", "best peer", "cowtool", "× best", "× bare C"], rows)}`;
}

/** Puts `text` between the markers of a document. */
export function insert(document, text) {
  const [from, to] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (from === -1 || to < from) throw new Error(`the document lacks ${BEGIN} … ${END}`);
  return `${document.slice(0, from + BEGIN.length)}\n\n${text}\n\n${document.slice(to)}`;
}

function merged(runs) {
  const all = Object.assign({}, ...runs);
  const online = new Map(runs.flatMap((run) => run.online ?? []).map((row) => [row.id, row]));
  const servers = new Map(runs.flatMap((run) => run.servers ?? []).map((server) => [server.name, server]));
  return {
    ...all,
    ...(online.size > 0 ? { online: [...online.values()] } : {}),
    servers: [...servers.values()],
    skipped: [...new Set(runs.flatMap((run) => run.skipped ?? []))],
  };
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: "string" },
      readme: { type: "boolean", default: false },
      file: { type: "string", default: join(ROOT, "README.md") },
      svg: { type: "string" },
    },
  });
  const data = merged(positionals.map((name) => JSON.parse(readFileSync(name, "utf8"))));
  const report = fullReport(data);
  if (values.out) writeFileSync(values.out, report);
  if (values.svg) writeFileSync(values.svg, draw(data));
  if (values.readme) writeFileSync(values.file, insert(readFileSync(values.file, "utf8"), readmeTable(data)));
  if (!values.out && !values.readme && !values.svg) console.log(report);
}
