/**
 * Owns the last trial of `npm run test:vm`: ext4 on a real kernel's NBD client, in a small virtual machine, with checkpoints under it.
 * The guest writes files and has the host make checkpoints, one with the file system frozen (fsfreeze) and one in the middle of
 * writing. Both then mount with what was durable by then, the second one over an ephemeral layer into which the journal is
 * replayed; forks of both and the disk after a rollback are clean to e2fsck and hold the same files.
 *
 *   node scripts/test-vm-checkpoint.mjs
 *
 * The machine is made by ../shared/tools/vm/lib.sh, as for scripts/test-vm.mjs. The guest asks the host for what it needs, in
 * a line each. Exit status: 0 passed, or skipped, which it says; 1 something failed.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const machine = join(root, "..", "shared", "tools", "vm", "lib.sh");
const program = join(root, "bin", "run.js");
const SIZE_BYTES = 48 << 20;
const GUEST_SECONDS = Number(process.env.COWTOOL_GUEST_SECONDS ?? 900);

const GUEST = `
fail() { echo "FAIL $*" >&3; dmesg | tail -5 >&3; sync; echo o > /proc/sysrq-trigger; sleep 30; }
ok() { echo "ok $*" >&3; }
ask() { echo "$1" | nc 10.0.2.2 $HOST > /tmp/answer 2>/tmp/e 3>&-; grep -q '^ok' /tmp/answer || fail "the host could not: $1 $(cat /tmp/e)"; }
files() { mkdir /mnt/$1; for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/mnt/$1/f$i bs=1000 count=$((i*70)) 2>/dev/null; done; }
sums() { (cd $1 && find $2 -type f | sort | xargs sha256sum); }
same() { cmp $1 $2 || fail "$3: other files"; ok "$3: all hashes are equal"; }
attach() {
  nbd-client 10.0.2.2 $1 $2 -N "$3" > /tmp/c 2>&1 3>&- || fail "nbd-client of $3: $(cat /tmp/c)"
  i=0; until [ "$(blockdev --getsize64 $2)" -gt 0 ] || [ $i = 100 ]; do sleep 0.1; i=$((i+1)); done
  [ "$(blockdev --getsize64 $2)" = $SIZE ] || fail "$3 has another size"
}
detach() { blockdev --flushbufs $1; nbd-client -d $1 > /tmp/c 2>&1 3>&- || fail "nbd-client -d $1: $(cat /tmp/c)"; sleep 1; }
clean() { e2fsck -fn $1 > /tmp/e 2>&1 || fail "e2fsck of $2: $(cat /tmp/e)"; ok "e2fsck: $2 is clean"; }
replay() { mount -t ext4 $1 /mnt2 || fail "mount of $2"; sums /mnt2 "$3" > /tmp/s; umount /mnt2; clean $1 "$2"; }
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
i=0; until [ "$(cat /sys/class/net/eth0/operstate)" = up ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done
mkdir -p /mnt /mnt2
attach $PORT /dev/nbd0 vm
mkfs.ext4 -q -F /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt || fail "mkfs, mount"
files a; fsfreeze --freeze /mnt || fail fsfreeze
ask checkpoint/frozen; fsfreeze --unfreeze /mnt; ok "a checkpoint of the frozen file system"
sums /mnt a > /tmp/a; files b; sync; sums /mnt "a b" > /tmp/ab
(i=0; until [ -e /tmp/enough ]; do i=$((i+1)); dd if=/dev/urandom of=/mnt/busy$((i%7)) bs=4096 count=40 2>/dev/null; rm -f /mnt/busy$(((i+3)%7)); done) 3>&- &
writer=$!; sleep 2; ask checkpoint/live; sleep 1; touch /tmp/enough; wait $writer; ok "a checkpoint in the middle of writing"
rm -rf /mnt/a; files c; umount /mnt || fail umount
clean /dev/nbd0 "the disk"; detach /dev/nbd0
attach $PORT /dev/nbd1 vm@frozen
[ "$(blockdev --getro /dev/nbd1)" = 1 ] || fail "a checkpoint can be written"
clean /dev/nbd1 vm@frozen; mount -t ext4 -o ro /dev/nbd1 /mnt2 || fail "mount of vm@frozen"
sums /mnt2 a > /tmp/s; umount /mnt2; same /tmp/a /tmp/s vm@frozen; detach /dev/nbd1
ask ephemeral/live; attach $(tr -dc 0-9 < /tmp/answer) /dev/nbd1 live
replay /dev/nbd1 "vm@live, replayed into an ephemeral layer" "a b"; same /tmp/ab /tmp/s vm@live; detach /dev/nbd1
ask fork/live; attach $PORT /dev/nbd1 fork-live
replay /dev/nbd1 "a fork of vm@live" "a b"; same /tmp/ab /tmp/s "the fork of vm@live"; detach /dev/nbd1
ask forkOffline/frozen; attach $PORT /dev/nbd1 fork-frozen; clean /dev/nbd1 "a fork of vm@frozen"
mount -t ext4 /dev/nbd1 /mnt || fail "mount of a fork"; files d; umount /mnt; clean /dev/nbd1 "the fork, written"; detach /dev/nbd1
ask rollback/frozen; attach $PORT /dev/nbd0 vm
replay /dev/nbd0 "the disk after a rollback" a; same /tmp/a /tmp/s "the disk after a rollback"
mount -t ext4 /dev/nbd0 /mnt && files e && umount /mnt || fail "the disk cannot be written after a rollback"
clean /dev/nbd0 "the disk, written after a rollback"; detach /dev/nbd0
attach $PORT /dev/nbd1 fork-live; replay /dev/nbd1 "the fork of what was rolled back" "a b"; same /tmp/ab /tmp/s "that fork"; detach /dev/nbd1
dmesg | grep -q 'I/O error' && fail "I/O errors in dmesg"
echo "RESULT OK" >&3
`;

function say(text) {
  process.stdout.write(`${text}\n`);
}

function bash(script, ...args) {
  return spawnSync("bash", ["-c", script, "bash", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

function cowtool(...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(`cowtool ${args.join(" ")} ended with ${status}: ${stdout}${stderr}`);
  return stdout;
}

const running = new Set();

/** Starts a server; resolves with its port when it is ready. */
function serve(argv) {
  const child = spawn(process.execPath, [program, "serve", "--json", ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  child.once("close", () => running.delete(child));
  return new Promise((resolve, reject) => {
    let text = "";
    child.once("close", (status) => reject(new Error(`the server ended with ${status}: ${text}`)));
    child.stdout.on("data", (chunk) => {
      text += chunk;
      if (!text.trimEnd().endsWith("}")) return;
      const { uri } = JSON.parse(text);
      resolve({ child, port: Number(new URL(uri.replace("nbd:", "http:")).port) });
    });
  });
}

/** The server of the disk and its forks: each is added by its stack file. */
class Disks {
  #at;
  #names = ["vm"];
  #served;

  constructor(at) {
    this.#at = at;
  }

  async start(port = 0) {
    const exports = this.#names.flatMap((name) => ["--export", `${name}=stack:${this.#at(`${name}.stack`)}`]);
    this.#served = await serve(["--listen", `127.0.0.1:${port}`, "--control", this.#at("control"), ...exports]);
    return this.#served.port;
  }

  /** @returns the exit status */
  async stop() {
    const { child } = this.#served;
    child.removeAllListeners("close");
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGTERM");
    const status = await ended;
    running.delete(child);
    return status;
  }

  async #offline(...args) {
    await this.stop();
    cowtool(...args);
    await this.start(this.#served.port);
  }

  #ctl(...args) {
    cowtool("ctl", "--server", this.#at("control"), ...args);
  }

  checkpoint(name) {
    this.#ctl("checkpoint", "vm", "--as", name);
  }

  fork(name) {
    this.#ctl("fork", `vm@${name}`, `fork-${name}`);
    this.#names.push(`fork-${name}`);
  }

  rollback(name) {
    this.#ctl("rollback", "vm", name, "--discard");
  }

  /** A fork that is made without a server. */
  async forkOffline(name) {
    this.#names.push(`fork-${name}`);
    await this.#offline("fork", `${this.#at("vm.stack")}@${name}`, this.#at(`fork-${name}.stack`));
  }

  /** @returns the port of a server that lets clients write over a checkpoint, for a while */
  async ephemeral(name) {
    const base = `nbd://127.0.0.1:${this.#served.port}/vm@${name}`;
    const argv = ["--listen", "127.0.0.1:0", "--ephemeral", "--control", "none", "--export", `${name}=${base}`];
    return String((await serve(argv)).port);
  }
}

async function answer(disks, socket) {
  const [line] = await once(socket, "data");
  const [verb, name] = String(line).trim().split("/");
  try {
    socket.end(`ok ${(await disks[verb](name)) ?? ""}\n`);
  } catch (error) {
    say(`  ${verb} ${name}: ${error.message}`);
    socket.end("failed\n");
  }
}

async function main() {
  if (!existsSync(machine)) return say("SKIPPED: there is no ../shared/tools/vm");
  if (bash('. "$1" >&2 && vm_build >&2', machine).status !== 0)
    return say("SKIPPED: the virtual machine can't be made");
  const directory = mkdtempSync(join(tmpdir(), "cowtool-vm-checkpoint-"));
  const at = (name) => join(directory, name);
  try {
    writeFileSync(at("base.img"), "");
    truncateSync(at("base.img"), SIZE_BYTES);
    cowtool("create", "--stack", at("vm.stack"), at("base.img"), at("vm.cow"));
    const disks = new Disks(at);
    const port = await disks.start();
    const host = createServer({ allowHalfOpen: true }, (socket) => void answer(disks, socket));
    await new Promise((resolve) => host.listen(0, "127.0.0.1", resolve));
    const facts = `PORT=${port}\nHOST=${host.address().port}\nSIZE=${SIZE_BYTES}\n`;
    writeFileSync(at("run.sh"), facts + GUEST);
    const network = "-netdev user,id=n0 -device virtio-net-pci,netdev=n0,romfile=";
    const script = `. "$1"; vm_run ${GUEST_SECONDS} "$2" "$3" "$4" ${network}`;
    const names = [machine, at("run.sh"), at("res"), at("log")];
    const guest = spawn("bash", ["-c", script, "bash", ...names], { stdio: ["ignore", "ignore", "inherit"] });
    await new Promise((resolve) => guest.once("close", resolve));
    host.close();
    const said = readFileSync(at("res"), "utf8");
    for (const line of said.split("\n")) if (/^(ok|FAIL)/.test(line)) say(`  ${line}`);
    const status = await disks.stop();
    const isRight = /^RESULT OK/m.test(said) && status === 0;
    if (isRight) {
      cowtool("check", `stack:${at("vm.stack")}`);
      say("passed: checkpoints under ext4 on a real kernel");
      return;
    }
    say(`FAILED: the server ended with ${status}; ${readFileSync(at("log"), "utf8").slice(-2000)}`);
    process.exitCode = 1;
  } finally {
    for (const child of running) {
      child.removeAllListeners("close");
      child.kill("SIGKILL");
    }
    rmSync(directory, { recursive: true, force: true });
  }
}

await main();
