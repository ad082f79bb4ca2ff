/**
 * Owns the picture: for each workload a bar from 1 to cowtool's speed relative to the best peer of the same round, on a
 * logarithmic axis. A plain SVG that suits light and dark pages, made from the JSON alone.
 *
 *   node bench/plot.mjs RESULTS.json [docs/bench.svg]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { median, mediansOf, ratios } from "./measure.mjs";
import { ROOT } from "./programs.mjs";
import { GROUPS } from "./workloads.mjs";

const [WIDTH, LEFT, RIGHT, TOP] = [900, 350, 70, 78];
const [ROW, BAR, GROUP_GAP] = [21, 13, 27];
const TICKS = [0.1, 0.2, 0.33, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16];
const MARGIN = 1.12;

const STYLE = `
  .page { fill: #ffffff; } text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; } .note, .tick { fill: #57606a; } .tick { text-anchor: middle; }
  .name, .group { text-anchor: end; } .group { font-weight: 600; }
  .grid { stroke: #d8dee4; } .one { stroke: #24292f; stroke-width: 1.5; } .spread { stroke: #24292f; opacity: 0.55; }
  .ahead { fill: #2a78d6; } .behind { fill: #d9772b; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } text { fill: #e6edf3; } .note, .tick { fill: #9198a1; }
    .grid { stroke: #30363d; } .one, .spread { stroke: #e6edf3; }
    .ahead { fill: #4c94e8; } .behind { fill: #e08a43; }
  }`;

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const round = (value) => Math.round(value * 10) / 10;

/** Each workload that has a peer to compare with: its median ratio, and the least and greatest of all rounds. */
function barsOf(data) {
  const peers = data.servers.filter(({ kind }) => kind === "peer").map(({ name }) => name);
  return data.online.flatMap(({ title, group, metric, against, results }) => {
    const list = ratios(results, "cowtool", against ? [against] : peers, metric);
    if (list.length === 0) return [];
    return [{ title, group, value: median(list), least: Math.min(...list), most: Math.max(...list) }];
  });
}

function scaleOf(bars) {
  const low = Math.min(0.75, ...bars.map(({ least }) => least)) / MARGIN;
  const high = Math.max(1.5, ...bars.map(({ most }) => most)) * MARGIN;
  const width = WIDTH - LEFT - RIGHT;
  const x = (value) => round(LEFT + (width * Math.log(value / low)) / Math.log(high / low));
  return { x, ticks: TICKS.filter((tick) => tick >= low && tick <= high) };
}

function drawBar({ title, value, least, most }, x, y) {
  const [from, to] = value >= 1 ? [x(1), x(value)] : [x(value), x(1)];
  const middle = y + BAR / 2;
  const kind = value >= 1 ? "ahead" : "behind";
  return [
    `<text class="name" x="${LEFT - 12}" y="${y + 11}">${escaped(title)}</text>`,
    `<rect class="${kind}" x="${from}" y="${y}" width="${round(Math.max(1, to - from))}" height="${BAR}" rx="2"/>`,
    `<line class="spread" x1="${x(least)}" x2="${x(most)}" y1="${middle}" y2="${middle}"/>`,
    `<text class="value" x="${round(Math.max(x(most), x(1)) + 6)}" y="${y + 11}">${value.toFixed(2)}×</text>`,
  ];
}

/** @returns the picture as text */
export function draw(data) {
  const bars = barsOf(data);
  const { x, ticks } = scaleOf(bars);
  const rows = [];
  let y = TOP;
  for (const group of GROUPS) {
    const members = bars.filter((bar) => bar.group === group);
    if (members.length === 0) continue;
    rows.push(`<text class="group" x="${LEFT - 12}" y="${y + 11}">${escaped(group)}</text>`);
    y += ROW;
    for (const bar of members) {
      rows.push(...drawBar(bar, x, y));
      y += ROW;
    }
    y += GROUP_GAP - ROW;
  }
  const height = y + 14;
  const grid = ticks.flatMap((tick) => [
    `<line class="${tick === 1 ? "one" : "grid"}" x1="${x(tick)}" x2="${x(tick)}" y1="${TOP - 8}" y2="${y}"/>`,
    `<text class="tick" x="${x(tick)}" y="${TOP - 14}">${tick}×</text>`,
  ]);
  const note = `1× is the best peer of the same round; ratios: ${mediansOf(data.online)}, with their ranges; ${data.machine.cores} cores; ${data.date.slice(0, 10)}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>Speed of cowtool serve relative to the best peer</title><style>${STYLE}\n</style>`,
    `<rect class="page" width="${WIDTH}" height="${height}" rx="6"/>`,
    '<text class="title" x="16" y="26">cowtool serve, relative to the best peer</text>',
    `<text class="note" x="16" y="44">${escaped(note)}</text>`,
    ...grid.filter((line) => !line.includes('"one"')),
    ...rows,
    ...grid.filter((line) => line.includes('"one"')),
    "</svg>\n",
  ].join("\n");
}

if (process.argv[1] === import.meta.filename) {
  const [from, to = join(ROOT, "docs/bench.svg")] = process.argv.slice(2);
  if (from === undefined) {
    console.error("usage: node bench/plot.mjs RESULTS.json [FILE.svg]");
    process.exit(16);
  }
  writeFileSync(to, draw(JSON.parse(readFileSync(from, "utf8"))));
}
