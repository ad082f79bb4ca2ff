/**
 * Owns the metrics of a server in Prometheus' text format. The figures are read when they are asked for: nothing is counted
 * twice. docs/operate.md lists them.
 */
import type { ExportEntry } from "../nbd/server/live-export.ts";
import { checkpointsOf } from "./chain-document.ts";
import type { Control } from "./control.ts";
import { type StatsDocument, statsDocument } from "./documents.ts";
import type { CheckpointsMade } from "./history.ts";
import { collectDefaultMetrics, Registry } from "./vendor.ts";

interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  /** Where it differs from the metric's: `…_bucket` and the like. */
  readonly metricName?: string;
}

type Kind = "counter" | "gauge" | "histogram";

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: Kind;
  readonly samplesOf: (
    stats: StatsDocument,
    entry: ExportEntry,
    made: CheckpointsMade | undefined,
  ) => readonly Sample[];
}

/** One sample for each export. */
function simple(name: string, help: string, type: Kind, of: (stats: StatsDocument) => number): Metric {
  const samplesOf = (stats: StatsDocument): readonly Sample[] => [{ value: of(stats), labels: { export: stats.name } }];
  return { name, help, type, samplesOf };
}

/** One for each kind of request. */
function byKind(name: string, help: string, of: (stats: StatsDocument) => Readonly<Record<string, number>>): Metric {
  const samplesOf = (stats: StatsDocument): readonly Sample[] =>
    Object.entries(of(stats)).map(([kind, value]) => ({ value, labels: { export: stats.name, kind } }));
  return { name, help, type: "counter", samplesOf };
}

const LATENCY = "cowtool_export_latency_seconds";

const METRICS: readonly Metric[] = [
  byKind("cowtool_export_requests_total", "Requests that were answered without an error.", (stats) => ({
    read: stats.reads,
    write: stats.writes,
    write_zeroes: stats.zeroes,
    trim: stats.trims,
    flush: stats.flushes,
  })),
  byKind("cowtool_export_bytes_total", "Bytes that were read and written.", (stats) => ({
    read: stats.bytes_read,
    write: stats.bytes_written,
  })),
  simple("cowtool_export_errors_total", "Requests that were answered with an error.", "counter", (s) => s.errors),
  {
    name: "cowtool_export_level_reads_total",
    help: "Requests that read from a file of the stack: level 0 is the base, 1 the lowest layer.",
    type: "counter",
    samplesOf: ({ name, base_reads, layer_reads }) =>
      [base_reads, ...layer_reads].map((value, level) => ({ value, labels: { export: name, level } })),
  },
  simple("cowtool_export_connections", "Clients that use it now.", "gauge", (s) => s.connections),
  simple(
    "cowtool_export_blocks_allocated",
    "Blocks that its top layer has allocated.",
    "gauge",
    (s) => s.blocks_allocated,
  ),
  simple(
    "cowtool_export_unflushed_bytes",
    "Bytes written since a flush covered them.",
    "gauge",
    (s) => s.unflushed_bytes,
  ),
  {
    name: "cowtool_export_depth",
    help: "Layers of its stack, the written one among them.",
    type: "gauge",
    samplesOf: (_stats, { name, spec }) => [{ value: spec?.layers.length ?? 0, labels: { export: name } }],
  },
  {
    name: "cowtool_export_checkpoints",
    help: "Checkpoints in its stack.",
    type: "gauge",
    samplesOf: (_stats, entry) => [{ value: checkpointsOf(entry).length, labels: { export: entry.name } }],
  },
  {
    name: "cowtool_export_checkpoints_total",
    help: "Checkpoints that it got since it was added.",
    type: "counter",
    samplesOf: (_stats, { name }, made) => [{ value: made?.total ?? 0, labels: { export: name } }],
  },
  {
    name: "cowtool_export_checkpoint_pause_seconds",
    help: "How long requests waited for the last one.",
    type: "gauge",
    samplesOf: (_stats, { name }, made) => (made ? [{ value: made.pauseMs / 1000, labels: { export: name } }] : []),
  },
  {
    name: "cowtool_export_open",
    help: "1 while clients can use it, else 0.",
    type: "gauge",
    samplesOf: (_stats, { name, state }) => [{ value: state === "open" ? 1 : 0, labels: { export: name, state } }],
  },
  { name: LATENCY, help: "From a request's arrival to its reply.", type: "histogram", samplesOf: latencySamples },
];

/** An export that has answered nothing yet has none. */
function latencySamples(_stats: StatsDocument, { name, meter }: ExportEntry): readonly Sample[] {
  return Object.entries(meter.latencies()).flatMap(([kind, { buckets, count, sumSeconds }]) => {
    if (count === 0) return [];
    const labels = { export: name, kind };
    const upTo = buckets.map((bucket) => ({
      value: bucket.count,
      labels: { ...labels, le: bucket.upToSeconds },
      metricName: `${LATENCY}_bucket`,
    }));
    return [
      ...upTo,
      { value: count, labels: { ...labels, le: "+Inf" }, metricName: `${LATENCY}_bucket` },
      { value: sumSeconds, labels, metricName: `${LATENCY}_sum` },
      { value: count, labels, metricName: `${LATENCY}_count` },
    ];
  });
}

export class Metrics {
  readonly #control: Control;
  readonly #registry = new Registry();
  /** While they are asked for: counters are summed up once for all metrics. */
  readonly #seen = new Map<ExportEntry, StatsDocument>();

  constructor(control: Control) {
    this.#control = control;
    collectDefaultMetrics({ register: this.#registry, prefix: "cowtool_" });
    for (const { samplesOf, ...facts } of METRICS) {
      const get = async () => ({ ...facts, aggregator: "sum", values: this.#values(samplesOf) });
      // All that the registry asks of a metric is to be told its samples.
      const metric = { ...facts, get } as unknown as Parameters<Registry["registerMetric"]>[0];
      this.#registry.registerMetric(metric);
    }
  }

  /** All metrics of the server, and those of its process. */
  async text(): Promise<string> {
    try {
      return await this.#registry.metrics();
    } finally {
      this.#seen.clear();
    }
  }

  #values(samplesOf: Metric["samplesOf"]): Sample[] {
    return this.#control.entries.flatMap((entry) => {
      const stats = this.#seen.get(entry) ?? statsDocument(entry);
      this.#seen.set(entry, stats);
      return samplesOf(stats, entry, this.#control.history.madeOf(entry));
    });
  }
}
