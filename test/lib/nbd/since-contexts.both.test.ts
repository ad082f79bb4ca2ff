/**
 * Proves the contexts `qemu:dirty-bitmap:since-CHECKPOINT` against a running server: which there are, and that they mark what
 * any layer above the checkpoint has allocated, with the writes of this moment, however the stack is served.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { nodeStorage } from "../../../src/lib/index.ts";
import { ExportMeter } from "../../../src/lib/nbd/meter/export-meter.ts";
import { ServedExport } from "../../../src/lib/nbd/server/served-export.ts";
import type { CheckpointLevel } from "../../../src/lib/stack/live/checkpoint-level.ts";
import type { StatusKind } from "../../../src/lib/stack/live/image.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { DISK_BYTES, KIB, type MadeDisk, makeDisk } from "../../support/images/checkpoints.ts";
import { listContexts } from "../../support/nbd/handshake-client.ts";
import { RawClient } from "../../support/nbd/raw-client.ts";
import { CMD, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { startServing } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();
const SINCE = "qemu:dirty-bitmap:since-";
let disk: MadeDisk;

/** Blocks of a KiB that each layer has: 0–9, 10–19, 15–24 and 40–41. */
beforeAll(async () => {
  disk = await makeDisk(at, "vm", [
    { writes: [{ offset: 0, length: 10 * KIB, seed: 2 }], checkpoint: "mon" },
    { writes: [{ offset: 10 * KIB, length: 10 * KIB, seed: 3 }] },
    { writes: [{ offset: 15 * KIB, length: 10 * KIB, seed: 4 }], checkpoint: "wed:2" },
    { writes: [{ offset: 40 * KIB + 100, length: KIB, seed: 5 }] },
  ]);
});

/** The blocks of a KiB that an answer marks. */
function blocksOf(runs: readonly (readonly [number, number])[] | undefined): number[] {
  const blocks: number[] = [];
  let offset = 0;
  for (const [length, flags] of runs ?? []) {
    for (let at = offset; flags === 1 && at < offset + length; at += KIB) blocks.push(at / KIB);
    offset += length;
  }
  expect(offset).toBe(DISK_BYTES);
  return blocks;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

describe.each(["read-only", "ephemeral", "writable"] as const)("served %s", (access) => {
  test("changes since each checkpoint are marked, also those of now", async () => {
    const server = await startServing(at, [{ name: "", stack: disk.stack }], {
      readOnly: access === "read-only",
      ephemeral: access === "ephemeral",
    });
    const contexts = [`${SINCE}mon`, `${SINCE}wed:2`, `${SINCE}wed`, "qemu:dirty-bitmap:cowtool"];
    const session = await RawSession.open(server.socket, "extended", { contexts });
    expect([...session.terms.contexts.values()].sort()).toEqual([contexts[3], contexts[0], contexts[1]]);
    const ask = { type: CMD.BLOCK_STATUS, offset: 0, length: DISK_BYTES };
    const before = succeed(await session.ask(ask)).extents;
    expect(blocksOf(before.get(`${SINCE}mon`))).toEqual([...range(10, 25), 40, 41]);
    expect(blocksOf(before.get(`${SINCE}wed:2`))).toEqual([40, 41]);
    if (access !== "read-only") {
      await session.write(60 * KIB - 1, noise(2, 9));
      const now = succeed(await session.ask(ask)).extents;
      expect(blocksOf(now.get(`${SINCE}mon`))).toEqual([...range(10, 25), 40, 41, 59, 60]);
      expect(blocksOf(now.get(`${SINCE}wed:2`))).toEqual([40, 41, 59, 60]);
    }
    await session.goodbye();
    await server.stop();
  });
});

test("they are listed by name and by what their names begin with", async () => {
  const server = await startServing(at, [{ name: "vm", stack: disk.stack }], { readOnly: true });
  const client = await RawClient.connect(server.socket);
  await client.greeting();
  await client.send(Buffer.of(0, 0, 0, 3));
  const listed = async (...queries: readonly string[]): Promise<string[]> => {
    await client.send(listContexts("vm", ...queries));
    const names: string[] = [];
    for (;;) {
      const { type, data } = await client.optionReply();
      if (type !== 4) return names;
      names.push(data.toString("utf8", 4));
    }
  };
  const both = [`${SINCE}mon`, `${SINCE}wed:2`];
  expect((await listed()).slice(3)).toEqual(both);
  expect((await listed("qemu:")).slice(2)).toEqual(both);
  expect((await listed("qemu:dirty-bitmap:")).slice(1)).toEqual(both);
  expect(await listed(`${SINCE}mon`)).toEqual([`${SINCE}mon`]);
  expect(await listed(SINCE)).toEqual([]);
  client.leave();
  await server.stop();
});

test("one whose checkpoint went away is an error, never clean, also where another has its name by then", async () => {
  const stack = await ServedStack.open(nodeStorage, disk.stack, { access: "read-only" });
  const served = new ServedExport("vm", stack, 0, new ExportMeter());
  const { image } = served;
  const marked = (kind: StatusKind): number => {
    let bytes = 0;
    image.status(kind, 0, DISK_BYTES, (length, flags) => {
      bytes += length * flags;
      return true;
    });
    return bytes;
  };
  const become = (checkpoints: readonly CheckpointLevel[]): void => {
    stack.switchTo({ ...stack.parts, checkpoints });
    served.reach();
  };
  const names = (): string[] => served.facts.contexts.slice(3).map(({ name }) => name);
  const [monday, wednesday] = stack.checkpoints;
  const kind = served.facts.contexts.find(({ name }) => name === `${SINCE}wed:2`)?.kind;
  if (!monday || !wednesday || !kind) throw new Error("the disk has other checkpoints");
  const before = marked(kind);
  expect(before).toBeGreaterThan(0);

  become([monday]);
  expect(names()).toEqual([`${SINCE}mon`]);
  expect(() => marked(kind)).toThrow(/no longer there/);
  become([monday, { ...wednesday, time: "2026-11-30T12:00:00.000Z" }]);
  expect(names()).toEqual([`${SINCE}mon`, `${SINCE}wed:2`]);
  expect(() => marked(kind)).toThrow(/no longer there/);
  // The layers of the same checkpoint may have another place.
  become([{ ...wednesday, level: 1 }]);
  expect(marked(kind)).toBeGreaterThan(before);
  stack.close();
});
