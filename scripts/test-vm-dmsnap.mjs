/**
 * Owns the trial of dm-snapshot stores with a real kernel, in a small virtual machine: stores that we wrote and extended
 * are loaded, extended and merged there, and the kernel's view and status numbers have to be ours. The machine and what it
 * does are ../shared/tools/vm-dmsnap-check.sh.
 *
 * One more: LVM makes a physical volume with a thick snapshot there, and what is in it has to be read here as it is there.
 *
 *   node scripts/test-vm-dmsnap.mjs [CHUNK SECTORS | lvm]...     only these trials
 *
 * Exit status: 0 all passed, or skipped, which it says; 1 something did not.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readZeroFilled } from "../src/lib/bytes/byte-source.ts";
import { nodeStorage } from "../src/lib/device/node-storage.ts";
import { describeStore } from "../src/lib/formats/dm-snapshot/describe.ts";
import { dmSnapshotFormat } from "../src/lib/formats/dm-snapshot/index.ts";
import { createStore } from "../src/lib/formats/dm-snapshot/writer.ts";
import { lvmFormat } from "../src/lib/formats/lvm/index.ts";
import { mergeStore } from "../src/lib/operations/merge/store.ts";
import { assembleImage } from "../src/lib/stack/live/assemble.ts";
import { LiveStore } from "../src/lib/stack/live/live-store.ts";
import { Overlay } from "../src/lib/stack/overlay.ts";
import { writeStore } from "../test/support/images/write-store.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const tool = join(root, "..", "shared", "tools", "vm-dmsnap-check.sh");
const MACHINE = "qemu-system-x86_64";
const TRIALS = ["1", "2", "8", "64", "2048", "lvm"];
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
    const image = assembleImage({
      name: cowPath,
      base: origin,
      layers: [],
      top: new LiveStore(cow, { below: origin, mayGrow: true }),
    });
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
  const { exceptions, storeBytes } = await writeStore(target.device, content, { chunkSectors });
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

/** What the guest does with an empty disk of 24 MiB; the second and the third one take copies. */
const LVM_SCRIPT = `
mkdir -p /etc/lvm /run/lock/lvm
cat > /etc/lvm/lvm.conf <<'C'
devices { scan = "/dev" use_devicesfile = 0 obtain_device_list_from_udev = 0 external_device_info_source = "none" filter = [ "a|/dev/vda|", "r|.*|" ] }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
global { use_lvmpolld = 0 }
C
L() { lvm "$@" 3>&- > /tmp/o 2>&1 || { echo "FAILED lvm $*: $(tail -1 /tmp/o)" >&3; }; }
S() { stamp scatter "$@" 3>&- > /tmp/o 2>&1; }
L pvcreate -ff -y /dev/vda
L vgcreate -s 256k vg /dev/vda
L lvcreate -y -Wn -Zn -n other -L 1M vg
L lvcreate -y -Wn -Zn -n base -L 8M vg
L lvcreate -y -Wn -Zn --alloc anywhere -i 2 -I 64k -n striped -l 4 vg
L lvextend -y -l +3 vg/other
S /dev/mapper/vg-base ORIGIN 5 400 8 2048 part
S /dev/mapper/vg-other OTHER 5 300 8 400 part
S /dev/mapper/vg-striped STRIPED 5 100 8 256 part
L lvcreate -y -s -c 8k -n snap -L 4M vg/base
S /dev/mapper/vg-snap SNAP 6 60 8 2048 part
S /dev/mapper/vg-base LATER 7 60 8 2048 part
sync
for v in base other striped snap; do echo "SHA vg/$v $(sha256sum < /dev/mapper/vg-$v)" >&3; done
echo "SHA cow $(sha256sum < /dev/mapper/vg-snap-cow)" >&3
echo "STATUS $(dmsetup status vg-snap 2>&1 3>&-)" >&3
L vgchange -an vg
dd if=/dev/vda of=/dev/vdb bs=1M conv=fsync 2>/dev/null
L vgchange -ay vg
exec 8</dev/mapper/vg-base
L lvconvert --merge vg/snap
sync; dd if=/dev/vda of=/dev/vdc bs=1M conv=fsync 2>/dev/null
exec 8<&-
`;

/** A physical volume that LVM made: every logical volume, the snapshot, and its store are read as the guest read them. */
async function madeByLvm(at) {
  const [script, result, log] = ["guest.sh", "result", "log"].map(at);
  const disks = ["pv", "snap", "merge"].map(at);
  writeFileSync(script, LVM_SCRIPT);
  for (const disk of disks) {
    writeFileSync(disk, "");
    truncateSync(disk, 24 * MIB);
  }
  const drives = disks.flatMap((disk) => ["-drive", `file=${disk},format=raw,if=virtio`]);
  const run = '. "$0" && vm_build && shift && vm_run 200 "$@"';
  const child = spawn("bash", ["-c", run, join(tool, "..", "vm", "lib.sh"), "-", script, result, log, ...drives]);
  const status = await new Promise((resolve) => {
    child.once("close", resolve);
  });
  const said = readFileSync(result, "utf8");
  if (status !== 0 || said.includes("FAILED")) throw new Failure(`the guest ended with ${status}: ${said}`);
  const sums = [...said.matchAll(/^SHA (\S+) ([0-9a-f]{64})/gm)];
  if (sums.length !== 5) throw new Failure(`the guest told ${sums.length} sums: ${said}`);
  const [pv, merging] = [nodeStorage.open(at("snap")), nodeStorage.open(at("merge"))];
  for (const [, name, sum] of sums) {
    const settings = new Map(
      name === "cow"
        ? [
            ["lv", "vg/snap"],
            ["cow", ""],
          ]
        : [["lv", name]],
    );
    for (const source of [pv, merging]) {
      const image = lvmFormat.openImage(source, { allowDirty: false, settings });
      const ours = createHash("sha256").update(contentOf(image)).digest("hex");
      requireSame(`${name} of ${source.name}`, sum, ours);
    }
  }
  const { facts } = await lvmFormat.describe(pv, {});
  const kernel = / snapshot (.*)$/m.exec(said)?.[1];
  requireSame("status of the snapshot", kernel, facts.snapshots[0].kernel_status);
  const later = (await lvmFormat.describe(merging, {})).facts;
  if (!later.snapshots[0].merging || facts.snapshots[0].merging) throw new Failure("the pending merge is not seen");
  pv.close();
  merging.close();
  say(
    `        lvm: 4 logical volumes, 2 of two segments or stripes, snapshot ${kernel} and its store: same bytes; pending merge seen`,
  );
}

async function attempt(trial, directory) {
  const at = (name) => join(directory, name);
  if (trial === "lvm") return madeByLvm(at);
  await writtenByUs(Number(trial), at);
  await createdByUs(Number(trial), at);
}

async function inTurn(trials, directory) {
  const waiting = [...trials];
  let failures = 0;
  const worker = async () => {
    for (let trial = waiting.shift(); trial !== undefined; trial = waiting.shift()) {
      const start = performance.now();
      const own = mkdtempSync(join(directory, `${trial}-`));
      const name = trial === "lvm" ? "LVM's physical volume" : `chunks of ${trial} sectors`;
      try {
        await attempt(trial, own);
        say(`passed: ${name} (${Math.round((performance.now() - start) / 1000)} s)`);
      } catch (error) {
        failures++;
        say(`FAILED: ${name}: ${error instanceof Failure ? error.message : error.stack}`);
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
  const trials = TRIALS.filter((trial) => wanted.length === 0 || wanted.includes(trial));
  if (!existsSync(tool)) return skip("there is no ../shared/tools/vm-dmsnap-check.sh");
  // As root the tool installs what it misses; else it can't, and there is no machine.
  if (buildMachine().status !== 0 || spawnSync(MACHINE, ["--version"]).status !== 0)
    return skip("the virtual machine can't be made (qemu-system-x86 and a Debian kernel are needed, see above)");
  const directory = mkdtempSync(join(tmpdir(), "cowtool-vm-dmsnap-"));
  try {
    const failures = await inTurn(trials, directory);
    say(`${trials.length - failures} of ${trials.length} passed`);
    if (failures > 0 || trials.length === 0) process.exitCode = 1;
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
