/**
 * Owns how the results of disks with a history read: pauses of checkpoints, forks, rollbacks, deep chains, many exports.
 */
import { median, percentile } from "./measure.mjs";
import { table } from "./table.mjs";

const ms = (value) => (Number.isFinite(value) ? value.toFixed(value < 10 ? 2 : 1) : "–");
const number = (value) => (Number.isFinite(value) ? value.toFixed(0) : "–");
const good = (samples) => (samples ?? []).filter(Boolean);

/** @param isMet undefined where nothing is asked for */
const aim = (text, isMet) => (isMet === undefined ? text : `${text} ${isMet ? "✓" : "✗"}`);

const TITLES = { cowtool: "cowtool", qsd: "qemu-storage-daemon" };

function checkpointSection({ checkpoint }) {
  if (!checkpoint?.length) return "";
  const rows = checkpoint.flatMap(({ title, results }) =>
    Object.entries(results).map(([name, samples]) => {
      const calls = good(samples).flatMap((sample) => sample.calls);
      const of = (key, share) =>
        percentile(
          calls.map((call) => call[key]),
          share,
        );
      const [p50, p99] = [of("pause_ms", 0.5), of("pause_ms", 0.99)];
      const isOurs = name === "cowtool" && calls.length > 0;
      return [
        title,
        TITLES[name],
        number(calls.length),
        number(median(good(samples).map(({ iops }) => iops))),
        `${ms(p50)}${isOurs ? ` (${aim("≤ 3", p50 <= 3)})` : ""}`,
        `${ms(p99)}${isOurs ? ` (${aim("≤ 10", p99 <= 10)})` : ""}`,
        `${ms(of("quiet_ms", 0.5))} / ${ms(of("quiet_ms", 0.99))}`,
        `${ms(of("said_ms", 0.5))} / ${ms(of("said_ms", 0.99))}`,
        ms(of("call_ms", 0.5)),
      ];
    }),
  );
  const head = ["image", "server", "checkpoints", "writes/s", "pause p50 ms", "p99"];
  return `### Checkpoints under 4 KiB random writes at QD64

A pause is the longest time without any reply, from the sending of the verb until 100 ms after its answer, by the client's
clock; "quiet" is the same without a checkpoint: on a busy machine it is not much less. "said" is what the server reports, the
time that its threads stood still. qemu-storage-daemon is asked by QMP's blockdev-snapshot-sync.

${table([...head, "quiet p50 / p99", "said p50 / p99", "answer p50 ms"], rows)}
`;
}

function timesSection(rows, title, isMet, text) {
  if (!rows?.length) return "";
  const lines = rows.flatMap((row) =>
    Object.entries(row.results).map(([name, samples]) => {
      const times = good(samples).flatMap((sample) => sample.times);
      const shares = [0.5, 0.99].map((share) => percentile(times, share));
      const verdict = name === "cowtool" && times.length > 0 ? aim(text, isMet(shares[1])) : "";
      return [row.title, TITLES[name], number(times.length), ...shares.map(ms), verdict];
    }),
  );
  return `### ${title}\n\n${table(["", "server", "times", "p50 ms", "p99 ms", "aim of p99"], lines)}\n`;
}

function depthSection({ depth }) {
  if (!depth?.length) return "";
  const rows = depth.flatMap(({ title, depth: deep, kinds, results }) =>
    kinds.flatMap(({ id, title: kind }) =>
      ["q16", "q64"].map((key) => {
        const of = (what) => [1, deep].map((count) => results[id][count].map((sample) => sample?.[`${key}_${what}`]));
        const [one, many] = of("iops");
        const cpu = of("cpu_us").map((list) => ms(median(list)));
        const list = one.map((value, i) => many[i] / value).filter(Number.isFinite);
        const ratio = median(list);
        const range = list.length > 1 ? ` (${Math.min(...list).toFixed(2)}–${Math.max(...list).toFixed(2)})` : "";
        const verdict = id === "cowtool" && list.length > 0 ? aim("≥ 0.9×", ratio >= 0.9) : "";
        const shown = list.length > 0 ? `${ratio.toFixed(2)}×${range}` : "–";
        return [
          title,
          kind,
          key.toUpperCase().replace("Q", "QD"),
          number(median(one)),
          number(median(many)),
          shown,
          verdict,
          cpu.join(" / "),
        ];
      }),
    ),
  );
  const head = [
    "",
    "server",
    "",
    "reads/s, depth 1",
    `depth ${depth[0].depth}`,
    "depth / 1 (range)",
    "aim",
    "processor µs a read, depth 1 / deep",
  ];
  return `### Random reads of 4 KiB from a deep chain

512 MiB, of which each layer has a sixteenth at places of its own.

${table(head, rows)}
`;
}

function manySection({ many }) {
  if (!many) return "";
  const rows = many.servers.map(({ name, title }) => {
    const of = (key) => median(good(many.results[name]).map((sample) => sample[key]));
    const isOurs = name === "cowtool" && Number.isFinite(of("ready_ms"));
    const [ready, each] = [of("ready_ms"), of("kib_each")];
    return [
      title,
      `${number(ready)}${isOurs ? ` (${aim("≤ 2000", ready <= 2000)})` : ""}`,
      number(of("ready_cpu_ms")),
      `${number(each)}${isOurs ? ` (${aim("≤ 410", each <= 410)})` : ""}`,
      number(of("used_kib_each")),
      number(of("stop_ms")),
    ];
  });
  const head = ["server", "ready ms", "processor ms", "own KiB each, idle", "written to", "end ms"];
  return `### ${many.count} exports over one base in one process\n\n${table(head, rows)}\n`;
}

export function chainSections(data) {
  const parts = [
    depthSection(data),
    checkpointSection(data),
    timesSection(data.fork, "Forks, until the new export has answered a read", (p99) => p99 <= 15, "≤ 15"),
    timesSection(data.rollback, "Rollbacks, until the export has answered a read", (p99) => p99 <= 20, "≤ 20"),
    manySection(data),
  ].filter(Boolean);
  return parts.length === 0 ? "" : `## Disks with a history\n\n${parts.join("\n")}`;
}
