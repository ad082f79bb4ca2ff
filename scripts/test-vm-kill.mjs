/**
 * Owns a trial of scripts/test-vm.mjs: a guest writes to ext4 through its kernel's NBD client while the server is killed
 * with SIGKILL, again and again. After each kill the guest attaches the next server, lets e2fsck replay the file system's
 * journal, has everything checked (which must find nothing), and reads back every file that it had fsynced.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const ROUNDS = 6;
const WATCH_MS = 50;
/** After the guest said that it writes, at most; machines without KVM are slow. */
const WRITES_AT_MOST_MS = 6000;
/** So many servers and no more are started without a kill in between. */
const LIMIT_MS = 600_000;

/** Runs in the guest once the device is attached. Files have names of their own, so that each is old or new. */
const GUEST_SCRIPT = `
# What a loaded machine is slow to answer is not lost.
attach() {
  i=0; until nbd-client $IP $PORT $DEV -b 4096 \${CONNS:+-C $CONNS} > /tmp/c 2>&1 3>&-; do
    i=$((i+1)); [ $i -lt 300 ] || fail "no server any more: $(cat /tmp/c)"; sleep 0.2; done
  i=0; until [ "$(blockdev --getsize64 $DEV)" -gt 0 ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done
}
sound() {
  e2fsck -p $DEV > /tmp/e 2>&1; rc=$?; [ $rc -le 1 ] || fail "round $1: e2fsck -p says $rc: $(cat /tmp/e)"
  e2fsck -fn $DEV > /tmp/e 2>&1 || fail "round $1: not clean after the journal was replayed: $(cat /tmp/e)"
  mount -t ext4 -o discard $DEV /mnt || fail "round $1: mount"
  [ ! -s /tmp/synced ] || (cd /mnt && sha256sum -c /tmp/synced > /tmp/e 2>&1) || fail "round $1: files that were fsynced: $(grep -v OK /tmp/e | head -3)"
}
mkfs.ext4 -q -F -b 4096 $DEV > /tmp/e 2>&1 || fail "mkfs: $(cat /tmp/e)"
sync; blockdev --flushbufs $DEV; : > /tmp/synced; n=0; total=0
for round in $(seq 1 $ROUNDS); do
  sound $round
  echo "WRITES $round" >&3
  # Without fsync, so that there is always something under way.
  (while dd if=/dev/urandom of=/mnt/loose bs=64k count=60 2>/dev/null && rm /mnt/loose; do :; done) &
  loose=$!
  while :; do
    n=$((n+1))
    [ $((n % 5)) = 0 ] && src=/dev/zero || src=/dev/urandom
    dd if=$src of=/tmp/x bs=$((1 + (n * 7919) % 30011)) count=$((1 + n % 17)) 2>/dev/null
    sum=$(sha256sum < /tmp/x); dd if=/tmp/x of=/mnt/f$n bs=8k conv=fsync 2>/dev/null || break
    echo "\${sum%% *}  f$n" >> /tmp/synced; total=$((total+1))
    if [ $(wc -l < /tmp/synced) -gt 40 ]; then
      old=$(head -1 /tmp/synced); sed -i 1d /tmp/synced; rm -f /mnt/\${old##* } || break
    fi
  done
  kill $loose 2>/dev/null; wait $loose 2>/dev/null
  echo "HEARD $round $total" >&3
  umount /mnt 2>/dev/null || umount -l /mnt; nbd-client -d $DEV > /dev/null 2>&1 3>&-
  [ $DEV = /dev/nbd0 ] && DEV=/dev/nbd1 || DEV=/dev/nbd0
  attach
done
sound last; umount /mnt || fail "umount"; sync; blockdev --flushbufs $DEV
ok "ext4: $ROUNDS kills, $total files fsynced, e2fsck found nothing, all of them there"
# The kernel has told of every kill; the tool would take that for a fault.
dmesg -c > /dev/null
`;

export const KILL_TRIAL = {
  name: "kernel, TCP, two connections, the server killed while the guest writes",
  over: "tcp",
  env: { NBD_RO: "1", NBD_BS: "4096", NBD_CONNS: "2", NBD_SCRIPT: "guest.sh", TIMEOUT: "580" },
  script: `ROUNDS=${ROUNDS}\n${GUEST_SCRIPT}`,
  /** What the tool keeps for itself lies here, and what the guest says while it runs. */
  ownTemporary: true,
  disturb: killAgainAndAgain,
};

/** What the guest has said so far. */
function saidIn(directory) {
  return readdirSync(directory)
    .map((name) => {
      try {
        return readFileSync(join(directory, name, "res"), "utf8");
      } catch {
        return "";
      }
    })
    .join("");
}

/**
 * Kills the server while the guest writes, and starts the next one on the same port.
 *
 * @param at.directory where the tool has its temporary files
 * @param at.server the first server; `at.next` starts another one
 * @param at.isOver has the guest ended?
 * @returns the last server
 */
async function killAgainAndAgain({ directory, server, next, isOver }) {
  let current = server;
  const until = performance.now() + LIMIT_MS;
  for (let round = 1; round <= ROUNDS; round++) {
    const isWriting = () => new RegExp(`^WRITES ${round}$`, "m").test(saidIn(directory));
    while (!isWriting()) {
      if (isOver() || performance.now() > until) return current;
      await pause(WATCH_MS);
    }
    await pause(Math.random() * WRITES_AT_MOST_MS);
    await current.kill();
    current = await next();
    if (!["recovered", "clean"].includes(current.found)) throw new Error(`the next server found it ${current.found}`);
  }
  return current;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
