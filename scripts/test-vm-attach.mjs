/**
 * Owns `npm run test:vm-attach`: `cowtool attach` and `detach` on a real kernel, in a small virtual machine. fio writes to the
 * device and verifies what it wrote while the server, which runs outside, is killed with SIGKILL and started again. Then:
 * a mounted device is not detached, an orphan is named and taken over, and what the guest wrote is in the cowfile.
 *
 *   node scripts/test-vm-attach.mjs
 *
 * The machine is made by ../shared/tools/vm/lib.sh, as for scripts/test-vm.mjs. Exit status: 0 passed, or skipped, which it
 * says; 1 something failed.
 */
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const machine = join(root, "..", "shared", "tools", "vm", "lib.sh");
const program = join(root, "bin", "run.js");
const KILLS = Number(process.env.COWTOOL_KILLS ?? 5);
const SECONDS_A_KILL = 8;
const SIZE = "64M";
const GUEST_SECONDS = 600;

const GUEST = `
fail() { echo "FAIL $*" >&3; cat /tmp/attach.err >&3; dmesg | tail -5 >&3; sync; echo o > /proc/sysrq-trigger; sleep 30; }
ok() { echo "ok $*" >&3; }
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
i=0; until [ "$(cat /sys/class/net/eth0/operstate)" = up ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done
mkdir -p /opt /run; mount -t ext4 -o ro,noload /dev/vda /opt || fail "no disk with the program"
export LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH HOME=/tmp URI=nbd://10.0.2.2:$PORT
cowtool() { /opt/bin/node /opt/cowtool/bin/run.js "$@" 3>&-; }
attached() { [ -e /sys/block/nbd0/pid ]; }
attach() {
  : > /tmp/attach.out; (exec /opt/bin/node /opt/cowtool/bin/run.js attach $URI /dev/nbd0 > /tmp/attach.out 2>> /tmp/attach.err 3>&-) & pid=$!
  i=0; until grep -q nbd0 /tmp/attach.out; do sleep 0.2; i=$((i+1)); [ $i -lt 600 ] || fail "not attached"; done
}
attach
ok "attached: $(cat /tmp/attach.out), $(blockdev --getsize64 /dev/nbd0) bytes, backend $(cat /sys/block/nbd0/backend)"
if [ -n "$DEBUG" ]; then (while sleep 4; do
  echo "DEBUG inflight $(cat /sys/block/nbd0/inflight) pid $(cat /sys/block/nbd0/pid 2>&1) io_timeout $(cat /sys/block/nbd0/queue/io_timeout) $(tail -2 /tmp/attach.err | tr '\\n' ' ')" >&3
  dmesg -c | grep -i nbd | grep -v stuck | tail -6 >&3; ps | grep -c bin.node >&3; done) & fi
echo FIO >&3
/opt/bin/fio --name=a --filename=/dev/nbd0 --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --size=48M \\
  --time_based --runtime=$RUNTIME --verify=crc32c --verify_backlog=256 --verify_fatal=1 --output-format=json --output=/tmp/fio 3>&-
rc=$?; echo FIO-END >&3
[ $rc = 0 ] || fail "fio: $rc $(tail -3 /tmp/fio)"
max=$(grep -A3 '"clat_ns"' /tmp/fio | grep '"max"' | tr -dc '0-9\\n' | sort -n | tail -1)
ok "fio: errors $(grep -c '"error" : [1-9]' /tmp/fio), longest request $((max/1000000)) ms, $(grep -m2 total_ios /tmp/fio | tr -dc '0-9 \\n' | tr '\\n' ' ')requests"
grep reconnected /tmp/attach.err | sed 's/.*: reconnected/reconnected/' | while read l; do ok "$l"; done
echo 'I/O errors in dmesg:' $(dmesg | grep -c 'I/O error') >&3
mkfs.ext4 -q -F /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt || fail "mkfs, mount"
cowtool detach /dev/nbd0 > /tmp/d 2>&1 && fail "a mounted device was detached"
grep -q 'is mounted at /mnt' /tmp/d && attached || fail "detach says: $(cat /tmp/d)"
ok "refused: $(head -1 /tmp/d)"
kill -9 $pid; wait $pid 2>/dev/null
cowtool attach --list > /tmp/l 2>&1; grep -q 'is an orphan' /tmp/l || fail "no orphan: $(cat /tmp/l)"
ok "orphan: $(grep orphan /tmp/l | tail -1)"
attach; ok "taken over by another attach"
head -c 3000000 /dev/urandom > /mnt/f; sum=$(sha256sum < /mnt/f); sync
kill -TERM $pid; wait $pid; grep -q 'stays attached' /tmp/attach.err && attached || fail "a mounted device was detached by SIGTERM"
umount /mnt || fail umount
echo "SUM $sum" >&3
cowtool detach --orphans > /tmp/d 2>&1 || fail "detach: $(cat /tmp/d)"
attached && fail "still attached"
ok "detached: $(cat /tmp/d)"
attach; cowtool detach $URI > /tmp/d 2>&1 || fail "detach by URI: $(cat /tmp/d)"
wait $pid && ok "attach ended with its device" || fail "attach ended with $?"
ls /run/cowtool | grep -q nbd && fail "a note is left"
echo "RESULT OK" >&3
`;

function say(text) {
  process.stdout.write(`${text}\n`);
}

function bash(script, ...args) {
  return spawnSync("bash", ["-c", script, "bash", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/** A disk with node, fio, their libraries, and cowtool as it is installed. */
function makeDisk(directory) {
  const at = (name) => join(directory, "disk", name);
  for (const name of ["bin", "lib", "cowtool/node_modules/@koromix"]) mkdirSync(at(name), { recursive: true });
  const fio = bash("command -v fio").stdout.trim();
  for (const file of [process.execPath, fio]) {
    copyFileSync(file, at(`bin/${basename(file)}`));
    for (const [library] of bash('ldd "$1"', file).stdout.matchAll(/\/[^ )]+/g))
      copyFileSync(library, at(`lib/${basename(library)}`));
  }
  for (const name of ["bin", "dist", "package.json", "node_modules/koffi", "node_modules/@koromix"])
    cpSync(join(root, name), at(`cowtool/${name}`), { recursive: true, dereference: true });
  const { status } = bash('mkfs.ext4 -q -F -d "$1" "$2" 400M', at(""), join(directory, "disk.img"));
  if (status !== 0) throw new Error("mkfs.ext4 failed");
}

/** Starts a server on a port, 0 for any; resolves when it is ready. */
function serve(argv) {
  const child = spawn(process.execPath, [program, "serve", "--json", ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  return new Promise((resolve, reject) => {
    let text = "";
    child.once("close", (status) => reject(new Error(`the server ended with ${status}: ${text}`)));
    child.stdout.on("data", (chunk) => {
      text += chunk;
      if (text.trimEnd().endsWith("}")) resolve({ child, uri: JSON.parse(text).uri });
    });
  });
}

function ended(child) {
  return new Promise((resolve) => (child.exitCode === null ? child.once("close", resolve) : resolve()));
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main() {
  if (!existsSync(machine)) return say("SKIPPED: there is no ../shared/tools/vm");
  if (bash("command -v fio").status !== 0) return say("SKIPPED: fio is missing");
  if (bash('. "$1" >&2 && vm_build >&2', machine).status !== 0)
    return say("SKIPPED: the virtual machine can't be made");
  const directory = mkdtempSync(join(tmpdir(), "cowtool-vm-attach-"));
  const at = (name) => join(directory, name);
  let server;
  try {
    makeDisk(directory);
    bash('truncate -s "$2" "$1"', at("base.img"), SIZE);
    spawnSync(process.execPath, [program, "create", at("base.img"), at("vm.cow")]);
    const files = [at("base.img"), at("vm.cow")];
    server = await serve([...files, "--listen", "127.0.0.1:0"]);
    const port = new URL(server.uri.replace("nbd:", "http:")).port;
    writeFileSync(
      at("run.sh"),
      `PORT=${port}\nDEBUG=${process.env.DEBUG ?? ""}\nRUNTIME=${(KILLS + 1) * SECONDS_A_KILL}\n${GUEST}`,
    );
    writeFileSync(at("res"), "");
    const network = "-netdev user,id=n0 -device virtio-net-pci,netdev=n0,romfile=";
    const drive = `-drive if=virtio,format=raw,readonly=on,file=${at("disk.img")}`;
    const guest = spawn(
      "bash",
      [
        "-c",
        `. "$1"; VM_MEM=1024 vm_run ${GUEST_SECONDS} "$2" "$3" "$4" ${drive} ${network}`,
        "bash",
        machine,
        at("run.sh"),
        at("res"),
        at("log"),
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    const over = ended(guest);
    const said = () => readFileSync(at("res"), "utf8");
    while (!/^FIO$/m.test(said()) && guest.exitCode === null) await pause(100);
    const starts = [];
    for (let kill = 0; kill < KILLS && !/^FIO-END$/m.test(said()) && guest.exitCode === null; kill++) {
      await pause(SECONDS_A_KILL * 1000);
      const start = performance.now();
      server.child.removeAllListeners("close");
      server.child.kill("SIGKILL");
      await ended(server.child);
      server = await serve([...files, "--listen", `127.0.0.1:${port}`]);
      starts.push(Math.round(performance.now() - start));
    }
    await over;
    const lines = said().split("\n");
    for (const line of lines) if (/^(ok|FAIL|I\/O|SUM)/.test(line) || process.env.DEBUG) say(`  ${line}`);
    say(`  the server was killed ${starts.length} times, and answered again after ${starts.join(", ")} ms`);
    server.child.removeAllListeners("close");
    server.child.kill("SIGTERM");
    await ended(server.child);
    const check = spawnSync(process.execPath, [program, "check", files[1], "--rdofile", files[0]], {
      encoding: "utf8",
    });
    const isRight = /^RESULT OK/m.test(said()) && starts.length === KILLS && check.status === 0;
    say(
      isRight
        ? "passed: attach and detach on a real kernel"
        : `FAILED: ${check.stdout}${readFileSync(at("log"), "utf8").slice(-2000)}`,
    );
    if (!isRight) process.exitCode = 1;
  } finally {
    server?.child.removeAllListeners("close");
    server?.child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
}

await main();
