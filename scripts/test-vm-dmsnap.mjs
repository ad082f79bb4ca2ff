/**
 * Owns the trial of dm-snapshot stores with a real kernel, in a small virtual machine: stores that we wrote and extended
 * are loaded, extended and merged there, and the kernel's view and status numbers have to be ours. The machine and what it
 * does are ../shared/tools/vm-dmsnap-check.sh.
 *
 *   node scripts/test-vm-dmsnap.mjs [CHUNK SECTORS]...     only these chunk sizes
 *
 * Exit status: 0 all passed, or skipped, which it says; 1 something did not.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readZeroFilled } from "../src/lib/bytes/byte-source.ts";
import { nodeStorage } from "../src/lib/device/node-storage.ts";
import { describeStore } from "../src/lib/formats/dm-snapshot/describe.ts";
import { dmSnapshotFormat } from "../src/lib/formats/dm-snapshot/index.ts";
import { createStore, writeStore } from "../src/lib/formats/dm-snapshot/write-store.ts";
import { mergeStore } from "../src/lib/operations/merge/store.ts";
import { levelsOf } from "../src/lib/overlay/live/plain-image.ts";
import { DmSnapshotLiveImage } from "../src/lib/overlay/live/store-image.ts";
import { Overlay } from "../src/lib/overlay/overlay.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const tool = join(root, "..", "shared", "tools", "vm-dmsnap-check.sh");
const MACHINE = "qemu-system-x86_64";
const CHUNK_SECTORS = [1, 2, 8, 64, 2048];
const MIB = 1 << 20;
/** Machines at a time; each keeps a processor busy. */
const AT_A_TIME = 2;
/** Chunks that the kernel writes in a store that it extends. */
const KERNEL_WRITES = "60";

class Failure extends Error {}

function say(text) {
  process.stdout.write(`${text}\n`);
}

function skip(why) {
  say(`SKIPPED: dm-snapshot stores are not tried with a real kernel: ${why}`);
}

/** Seeded random numbers, so that a failure can be had again. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function noise(length, seed) {
  const next = random(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(next() * 2 ** 32, at);
  return bytes;
}

/** Asks the kernel; what it said, by key. */
function askKernel(origin, cow, out, env) {
  const child = spawn("bash", [tool, origin, cow, out, "P"], { env: { ...process.env, ...env } });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      text += chunk;
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject).once("close", (status) => {
      const said = (key) => new RegExp(`^${key} \\d+ \\d+ snapshot(?:-merge)? (.*)$`, "m").exec(text)?.[1];
      if (status === 0) resolve({ status: said("STATUS"), afterWrite: said("STATUS\\.W"), merged: said("STATUS\\.M") });
      else reject(new Failure(`the kernel did not take the store (${status}): ${text}`));
    });
  });
}

function contentOf(source) {
  const bytes = Buffer.alloc(source.sizeBytes);
  readZeroFilled(source, bytes, 0);
  return bytes;
}

/** Our view of a pair, our status numbers, and whether check finds nothing wrong. */
async function ours(originPath, cowPath) {
  const [origin, cow] = [nodeStorage.open(originPath), nodeStorage.open(cowPath)];
  try {
    const layer = dmSnapshotFormat.openLayer(cow, { below: origin, allowDirty: false });
    const { facts } = await describeStore(cow, { below: origin });
    const { worst } = await dmSnapshotFormat.check(cow, { below: origin });
    if (worst.fixable + worst.unfixable > 0) throw new Failure(`${cowPath}: check finds something wrong`);
    return { view: contentOf(new Overlay("view", origin, [layer])), status: facts.kernel_status };
  } finally {
    cow.close();
    origin.close();
  }
}

function requireSame(what, kernel, our) {
  const same = Buffer.isBuffer(kernel) ? kernel.equals(our) : kernel === our;
  if (same) return;
  throw new Failure(
    Buffer.isBuffer(kernel) ? `${what}: the bytes differ` : `${what}: the kernel says ${kernel}, cowtool ${our}`,
  );
}

/** Writes here and there through a served image, partial chunks too. */
function extend(originPath, cowPath, seed, writes) {
  const [origin, cow] = [nodeStorage.open(originPath), nodeStorage.open(cowPath, { writable: true })];
  try {
    const image = new DmSnapshotLiveImage({ cow, below: origin, levelsBelow: levelsOf(origin, []), mayGrow: true });
    const next = random(seed);
    for (let i = 0; i < writes; i++) {
      const length = 512 * (1 + Math.floor(next() ** 3 * 200));
      const at = 512 * Math.floor((next() * (image.sizeBytes - length)) / 512);
      image.write(noise(length, seed * 1000 + i), at);
      if (i % 7 === 0) image.commit();
    }
    image.write(noise(512, seed), image.sizeBytes - 512);
    image.flush();
    return image.exceptions;
  } finally {
    cow.close();
    origin.close();
  }
}

/** A store of ours, written whole, is loaded; then the kernel extends it, then we do, then the kernel merges it. */
async function writtenByUs(chunkSectors, at) {
  const [origin, cow, out, kept] = ["origin", "cow", "out", "kept"].map(at);
  const chunkBytes = chunkSectors * 512;
  const size = Math.max(12 * MIB, 24 * chunkBytes) + 1536;
  writeFileSync(origin, noise(size, chunkSectors));
  const next = random(chunkSectors);
  const changed = noise(size, chunkSectors + 1);
  const parts = [];
  for (let start = 0; start < size; ) {
    const length = 512 * (1 + Math.floor(next() ** 4 * 900));
    parts.push({ offset: start, length: Math.min(length, size - start) });
    start += length + 512 * Math.floor(next() * (chunkSectors === 1 ? 200 : 4 * chunkSectors));
  }
  const image = Buffer.from(readFileSync(origin));
  for (const { offset, length } of parts) image.set(changed.subarray(offset, offset + length), offset);
  const target = nodeStorage.create(cow);
  const content = {
    sizeBytes: size,
    extents: () => parts,
    read: (to, offset) => to.set(image.subarray(offset, offset + to.length)),
  };
  const { exceptions, storeBytes } = await writeStore(target.device, content, { chunkSectors }, {});
  target.commit({ replace: true });
  target.device.close();
  const first = await ours(origin, cow);
  requireSame("what we wrote", image, first.view);
  const loaded = await askKernel(origin, cow, out, {});
  requireSame("status of a store that we wrote", loaded.status, first.status);
  requireSame("view of a store that we wrote", readFileSync(out), image);
  say(
    `        ${chunkSectors}: written by us, ${exceptions} exceptions in ${storeBytes} bytes: ${loaded.status}, same view`,
  );
  // The smallest store has no room; as a file it grows when we extend it.
  extend(origin, cow, chunkSectors, 10);
  const grown = Buffer.concat([readFileSync(cow), Buffer.alloc(64 * Math.max(chunkBytes, 4096))]);
  writeFileSync(cow, grown);
  const second = await ours(origin, cow);
  const extended = await askKernel(origin, cow, out, { WRITE: KERNEL_WRITES, KEEPCOW: kept });
  requireSame("status of a store that we extended", extended.status, second.status);
  const third = await ours(origin, kept);
  requireSame("status of a store that the kernel extended", extended.afterWrite, third.status);
  requireSame("view of a store that the kernel extended", readFileSync(out), third.view);
  const count = extend(origin, kept, chunkSectors + 5, 25);
  const fourth = await ours(origin, kept);
  const merged = await askKernel(origin, kept, out, { MERGE: "1" });
  requireSame("the origin that the kernel merged", readFileSync(out), fourth.view);
  const [store, base] = [nodeStorage.open(kept, { writable: true }), nodeStorage.open(origin, { writable: true })];
  await mergeStore(store, base, {});
  store.close();
  base.close();
  requireSame("the origin that we merged", readFileSync(out), readFileSync(origin));
  say(
    `        ${chunkSectors}: extended by us, by the kernel, by us to ${count} exceptions, merged by both: ${merged.merged}, same bytes`,
  );
}

/** A store that we made empty takes what the kernel writes, up to and over the end of an area. */
async function createdByUs(chunkSectors, at) {
  const [origin, cow, out, kept] = ["origin0", "cow0", "out0", "kept0"].map(at);
  writeFileSync(origin, noise(Math.max(12 * MIB, 24 * chunkSectors * 512), chunkSectors + 9));
  // What was there before must not matter.
  writeFileSync(cow, noise(Math.max(2 * MIB, 96 * chunkSectors * 512), chunkSectors + 10));
  const device = nodeStorage.open(cow, { writable: true });
  createStore(device, { chunkSectors });
  device.close();
  extend(origin, cow, chunkSectors, 12);
  const mine = await ours(origin, cow);
  const said = await askKernel(origin, cow, out, { WRITE: KERNEL_WRITES, KEEPCOW: kept });
  requireSame("status of a store that we made", said.status, mine.status);
  const after = await ours(origin, kept);
  requireSame("view of a store that we made and the kernel wrote", readFileSync(out), after.view);
  requireSame("status of a store that we made and the kernel wrote", said.afterWrite, after.status);
  say(
    `        ${chunkSectors}: made by us over garbage, written by the kernel: ${said.status}, then ${said.afterWrite}, same view`,
  );
}

async function attempt(chunkSectors, directory) {
  const at = (name) => join(directory, name);
  await writtenByUs(chunkSectors, at);
  await createdByUs(chunkSectors, at);
}

async function inTurn(sizes, directory) {
  const waiting = [...sizes];
  let failures = 0;
  const worker = async () => {
    for (let chunkSectors = waiting.shift(); chunkSectors !== undefined; chunkSectors = waiting.shift()) {
      const start = performance.now();
      const own = mkdtempSync(join(directory, `${chunkSectors}-`));
      try {
        await attempt(chunkSectors, own);
        say(`passed: chunks of ${chunkSectors} sectors (${Math.round((performance.now() - start) / 1000)} s)`);
      } catch (error) {
        failures++;
        say(`FAILED: chunks of ${chunkSectors} sectors: ${error instanceof Failure ? error.message : error.stack}`);
      }
      rmSync(own, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  return failures;
}

/** The machine's kernel and what is in it, made once; two trials must not make it at the same time. */
function buildMachine() {
  const script = '. "$1" && vm_build';
  return spawnSync("bash", ["-c", script, "bash", join(tool, "..", "vm", "lib.sh")], { stdio: ["ignore", 2, 2] });
}

async function main(wanted) {
  const sizes = CHUNK_SECTORS.filter((size) => wanted.length === 0 || wanted.includes(String(size)));
  if (!existsSync(tool)) return skip("there is no ../shared/tools/vm-dmsnap-check.sh");
  // As root the tool installs what it misses; else it can't, and there is no machine.
  if (buildMachine().status !== 0 || spawnSync(MACHINE, ["--version"]).status !== 0)
    return skip("the virtual machine can't be made (qemu-system-x86 and a Debian kernel are needed, see above)");
  const directory = mkdtempSync(join(tmpdir(), "cowtool-vm-dmsnap-"));
  try {
    const failures = await inTurn(sizes, directory);
    say(`${sizes.length - failures} of ${sizes.length} chunk sizes passed`);
    if (failures > 0 || sizes.length === 0) process.exitCode = 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
])
  process.once(signal, () => process.exit(status));
await main(process.argv.slice(2));
