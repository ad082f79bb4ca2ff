/**
 * Incremental backups by other people's programs, of a disk whose server is killed now and then: nbdcopy makes a full one of a
 * checkpoint, qemu-img with qemu-io and the modules of virtnbdbackup copy what changed from one checkpoint to the next, nbdinfo
 * says what that is. Each backup restores byte for byte, no changed block is left out, and no block is marked without a write.
 *
 * COWTOOL_BACKUPS=50 has fifty of them made.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { connect } from "../../src/lib/index.ts";
import { DiskModel } from "../support/clients/history.ts";
import { cowtool, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { pause } from "../support/command/real-process.ts";
import { RawSession } from "../support/nbd/raw-session.ts";
import { SEED } from "../support/sample.ts";
import { scratchDirectory } from "../support/scratch.ts";

const KIB = 1024;
const SIZE = 8 * MIB;
const COUNT = Number(process.env["COWTOOL_BACKUPS"] ?? 2);
const SINCE = "qemu:dirty-bitmap:since-";

const misses = missesClients(
  "no incremental backups are made",
  ...["nbdcopy", "nbdinfo", "qemu-img", "qemu-io", "virtnbdbackup"],
);

const at = scratchDirectory();
const socket = at("s");
let served: Served | undefined;

afterAll(() => served?.stop("SIGKILL"));

async function start(): Promise<RawSession> {
  served = await startServe(["--export", `vm=stack:${at("vm.stack")}`, "--socket", socket, "--control", at("control")]);
  return RawSession.open(socket, "structured", { name: "vm" });
}

/** The server ends, in order or not, and its disk is served again; then it is as it was answered. */
async function restart(session: RawSession, signal: NodeJS.Signals): Promise<RawSession> {
  session.client.leave();
  await served?.stop(signal);
  return start();
}

/** Makes a checkpoint of the disk while clients use it. */
async function checkpoint(name: string): Promise<void> {
  const control = await connect({ server: at("control") });
  await control.checkpoint({ names: ["vm"], as: name });
}

/** The same, but the server is killed meanwhile: then it is there, or is made anew. */
async function checkpointKilled(session: RawSession, name: string, afterMs: number): Promise<RawSession> {
  const made = checkpoint(name).catch(() => undefined);
  await pause(afterMs);
  session.client.leave();
  await served?.stop("SIGKILL");
  await made;
  const next = await start();
  const { checkpoints } = await (await connect({ server: at("control") })).show("vm");
  if (!checkpoints.some((each) => each.name === name)) await checkpoint(name);
  return next;
}

/** The same without a server, which was killed. */
async function checkpointOffline(session: RawSession, name: string): Promise<RawSession> {
  session.client.leave();
  await served?.stop("SIGKILL");
  await cowtool("checkpoint", at("vm.stack"), "--as", name);
  return start();
}

type Extents = readonly { readonly offset: number; readonly length: number; readonly type: number }[];
type Mapped = readonly { readonly start: number; readonly length: number; readonly data: boolean }[];

function uriOf(name: string): string {
  return `nbd+unix:///${name}?socket=${socket}`;
}

/** The places that nbdinfo, qemu-img and virtnbdbackup see marked, the same by all; the last one updates an image. */
async function backUp(name: string, context: string, image: string): Promise<(readonly [number, number])[]> {
  const seen = JSON.parse(await client("nbdinfo", "--json", `--map=${context}`, uriOf(name))) as Extents;
  const dirty = seen.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length] as const);
  const options = `driver=nbd,export=${name},server.type=unix,server.path=${socket},x-dirty-bitmap=${context}`;
  const mapped = JSON.parse(await client("qemu-img", "map", "--output=json", "--image-opts", options)) as Mapped;
  expect(mapped.filter(({ data }) => !data).map(({ start, length }) => [start, length])).toEqual(dirty);
  const script = new URL("incremental_backup.py", import.meta.url).pathname;
  expect(JSON.parse(await client("/usr/bin/python3", script, socket, name, context, image))).toEqual(dirty);
  return [...dirty];
}

/** A qcow2 image of what changed, over that of the backup before: by copy-on-read, as QEMU's manual has it. */
async function keepChanges(name: string, dirty: readonly (readonly [number, number])[], before: string, file: string) {
  await client("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uriOf(name), file);
  const reads = dirty.flatMap(([offset, length]) => ["-c", `read ${offset} ${length}`]);
  if (reads.length > 0) await client("qemu-io", "-C", "-f", "qcow2", ...reads, file);
  const format = before.endsWith(".qcow2") ? "qcow2" : "raw";
  await client("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", format, "-b", before, file);
}

test.skipIf(misses)(
  `${COUNT} incremental backups, with kills in between, restore byte for byte`,
  async () => {
    makeBase(at("base.img"), SIZE / 2, SIZE);
    await cowtool("create", "--stack", at("vm.stack"), at("base.img"), at("1.cow"));
    const model = new DiskModel(readFileSync(at("base.img")), SEED);
    let session = await start();
    await model.change(session, 5);
    await checkpoint("cp0");
    const [full, image] = [at("full.img"), at("patched.img")];
    await client("nbdcopy", uriOf("vm@cp0"), full);
    expect(readFileSync(full).equals(model.bytes)).toBe(true);
    writeFileSync(image, model.bytes);
    let last = full;
    let before = Buffer.from(model.bytes);
    model.touched.clear();
    for (let n = 1; n <= COUNT; n++) {
      await model.change(session, 4);
      if (n % 2 === 1) session = await restart(session, "SIGKILL");
      await model.change(session, 4);
      const [touched, after] = [new Set(model.touched), Buffer.from(model.bytes)];
      if (n % 4 === 1) session = await checkpointKilled(session, `cp${n}`, 5 + model.below(40));
      else if (n % 4 === 2) session = await checkpointOffline(session, `cp${n}`);
      else await checkpoint(`cp${n}`);
      model.touched.clear();
      // The disk goes on while its checkpoint is copied.
      await model.change(session, 3);
      if (n % 3 === 2) session = await restart(session, "SIGKILL");
      const dirty = await backUp(`vm@cp${n}`, `${SINCE}cp${n - 1}`, image);
      const marked = new Set<number>();
      for (const [offset, length] of dirty)
        for (let block = Math.floor(offset / KIB); block * KIB < offset + length; block++) marked.add(block);
      for (let block = 0; block < SIZE / KIB; block++) {
        const [from, end] = [block * KIB, (block + 1) * KIB];
        const hasChanged = !before.subarray(from, end).equals(after.subarray(from, end));
        if (hasChanged || !touched.has(block))
          expect([block, marked.has(block)], `at checkpoint ${n}`).toEqual([block, hasChanged]);
      }
      expect(readFileSync(image).equals(after), `the image after backup ${n}`).toBe(true);
      const next = at(`inc${n}.qcow2`);
      await keepChanges(`vm@cp${n}`, dirty, last, next);
      last = next;
      before = after;
      if (n === COUNT || n % 10 === 1) {
        await client("qemu-img", "convert", "-f", "qcow2", "-O", "raw", next, at("restored.img"));
        expect(readFileSync(at("restored.img")).equals(after), `restored from backup ${n}`).toBe(true);
      }
    }
    await client("qemu-img", "convert", "-f", "raw", "-O", "raw", uriOf("vm@cp0"), at("old.img"));
    expect(readFileSync(at("old.img")).equals(readFileSync(full))).toBe(true);
    await session.goodbye();
    expect(await served?.stop()).toMatchObject({ status: 0 });
  },
  60_000 + COUNT * 10_000,
);
