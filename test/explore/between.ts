/**
 * Owns what happens to a cowfile between two sessions: nothing, or somebody else gets hold of it.
 */

import type { SparseBytes } from "../../src/lib/index.ts";
import type { Random } from "./disk.ts";
import { RawCowfile } from "./foreign.ts";
import { Violation } from "./violation.ts";
import { pick, readRaw, sign, type World, whole } from "./world.ts";

export interface Aftermath {
  /** What the image reads as from now on. */
  readonly bytes: Buffer;
  /** The driver left it dirty: it has to be searched. */
  readonly needsSearch: boolean;
  readonly story: string;
}

/** The original tools and the driver at work on a cowfile, all of which is durable afterwards. Changes `content`. */
export function byOriginals(content: SparseBytes, world: World, next: Random, takeNumber: () => number): Aftermath {
  let raw = new RawCowfile(content);
  const story: string[] = [];
  if (raw.isDirty) {
    const way = pick(next, ["cowrepair", "autorecover"] as const);
    story.push(way);
    if (way === "cowrepair" || !raw.autorecover()) raw.cowrepair();
  }
  if (!raw.opensInDriver) throw new Violation(`after ${story.join()}: the driver does not open it`);
  if (next() < 0.6) {
    raw.sync();
    story.push("driver");
    for (let writes = whole(next, 0, 12); writes > 0; writes--) driverWrites(raw, world, next, takeNumber());
    if (next() < 0.4) raw.sync();
    else {
      story.push("crash");
      raw = new RawCowfile(content);
    }
  }
  const needsSearch = raw.isDirty;
  if (!needsSearch) return { bytes: readRaw(raw, world), needsSearch, story: story.join() };
  const searched = new RawCowfile(content.clone());
  searched.cowrepair();
  return { bytes: readRaw(searched, world), needsSearch, story: story.join() };
}

function driverWrites(raw: RawCowfile, { windows }: World, next: Random, number: number): void {
  const { fromSector, count } = pick(next, windows);
  const block = Math.floor(whole(next, fromSector, fromSector + count) / 2);
  const bytes = new Uint8Array(1024);
  if (next() < 0.8) sign(bytes, number, block * 1024);
  if (next() < 0.15) raw.sync();
  else raw.write(block, bytes);
}
