/**
 * Owns small sound samples of every format for the shared contract: files in memory, the part that names them, and what they
 * show over their base.
 */

import { convert, MemoryDevice, MemoryStorage, SparseBytes } from "../../../src/lib/index.ts";
import {
  EXTENT_SECTORS,
  groupText,
  PE_START,
  putMetadata,
  snapshotText,
  stripedText,
  volumeText,
} from "./lvm-volume.ts";
import { appliedTo, type LayerKind, makeLayer } from "./mixed-stacks.ts";
import { writeStore } from "./write-store.ts";

const SECTOR = 512;
const BASE_SECTORS = 160;
const EXTENT = EXTENT_SECTORS * SECTOR;

export interface FormatSample {
  readonly formatId: string;
  readonly title: string;
  readonly storage: MemoryStorage;
  /** The stack that the layer is over: `base`. */
  readonly base: string;
  /** The layer, as one writes it. */
  readonly part: string;
  /** What the stack shows. */
  readonly view: Uint8Array;
  /** The files that make up the part: what is damaged. */
  readonly files: readonly string[];
  /** The part as an image by itself, and what that shows. */
  readonly image?: { readonly part: string; readonly view: Uint8Array };
}

/** Runs, single sectors, the first and the last; zeros as well. */
const SECTORS: readonly (readonly [number, number])[] = [
  [0, 9],
  [7, 0],
  ...Array.from({ length: 12 }, (_, i) => [20 + i, 100 + i] as const),
  [63, 1],
  [64, 2],
  [BASE_SECTORS - 1, 255],
];

function baseImage(sectors: number): Uint8Array {
  return Uint8Array.from({ length: sectors * SECTOR }, (_, i) => (i * 13 + (i >> 9) * 7) % 253);
}

async function ofKind(kind: LayerKind, sectors: typeof SECTORS, title: string): Promise<FormatSample> {
  const storage = new MemoryStorage();
  const below = baseImage(BASE_SECTORS);
  storage.put("base", below);
  const plan = { kind, sectors };
  const part = await makeLayer(storage, "layer", plan, { text: "base", below });
  const view = appliedTo(below, plan);
  const files = storage.paths().filter((path) => path.startsWith("layer") && !path.endsWith(".image"));
  const sample = { formatId: kind, title: `${kind}, ${title}`, storage, base: "base", part, view, files };
  if (kind !== "dm-cow") return sample;
  storage.put("nothing", below);
  return { ...sample, image: { part, view } };
}

async function ofQcow2(): Promise<FormatSample> {
  const storage = new MemoryStorage();
  const below = baseImage(BASE_SECTORS);
  const view = appliedTo(below, { kind: "cowfile", sectors: SECTORS });
  storage.put("base", below);
  storage.put("changed", view);
  await convert("changed", "layer", { to: "qcow2", base: "base", clusterBytes: 4096 }, { storage });
  await convert("changed", "whole", { to: "qcow2", clusterBytes: 4096 }, { storage });
  const image = { part: "qcow2:whole", view };
  return {
    formatId: "qcow2",
    title: "qcow2",
    storage,
    base: "base",
    part: "qcow2:layer",
    view,
    files: ["layer", "whole"],
    image,
  };
}

/** A physical volume with an origin in two pieces, and a store with a snapshot of it. */
async function ofLvm(): Promise<FormatSample> {
  const storage = new MemoryStorage();
  const below = baseImage(6 * EXTENT_SECTORS);
  const view = appliedTo(below, { kind: "dm-snapshot", sectors: SECTORS });
  const pv = Buffer.alloc(PE_START * SECTOR + 40 * EXTENT);
  const text = [
    volumeText("base", [stripedText(0, 4, [["pv0", 10]]), stripedText(4, 2, [["pv0", 2]])]),
    volumeText("snap", [stripedText(0, 8, [["pv0", 22]])]),
    volumeText("snapshot0", [snapshotText(6, "base", "snap")]),
  ];
  putMetadata(pv, groupText(text.join("")));
  const at = (extent: number): number => PE_START * SECTOR + extent * EXTENT;
  pv.set(below.subarray(0, 4 * EXTENT), at(10));
  pv.set(below.subarray(4 * EXTENT), at(2));
  const store = new SparseBytes();
  const extents = [...new Set(SECTORS.map(([sector]) => sector >> 3))].sort((a, b) => a - b);
  await writeStore(
    new MemoryDevice("store", store),
    {
      sizeBytes: view.length,
      extents: () => extents.map((chunk) => ({ offset: chunk * 4096, length: 4096 })),
      read: (target, offset) => target.set(view.subarray(offset, offset + target.length)),
    },
    { chunkSectors: 8 },
  );
  pv.set(store.toBytes(), at(22));
  storage.put("base", below);
  storage.put("layer", pv);
  const part = "lvm:lv=vg/snap;layer";
  return { formatId: "lvm", title: "lvm", storage, base: "base", part, view, files: ["layer"], image: { part, view } };
}

export async function formatSamples(): Promise<readonly FormatSample[]> {
  return [
    await ofKind("cowfile", SECTORS, "some blocks"),
    await ofKind("cowfile", [], "empty"),
    await ofKind("dm-snapshot", SECTORS, "some chunks"),
    await ofKind("dm-snapshot", [], "empty"),
    await ofKind("dm-cow", SECTORS, "some sectors"),
    await ofKind("dm-cow", [], "empty"),
    await ofKind("snap", SECTORS, "some blocks"),
    await ofKind("snap", [], "empty"),
    await ofQcow2(),
    await ofLvm(),
  ];
}
