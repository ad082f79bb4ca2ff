/**
 * Owns servers of disks with a history: cowtool over a stack file, and qemu-storage-daemon over qcow2, each with the same
 * verbs: checkpoint, fork, and for cowtool rollback.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ask, openQmp } from "./control.mjs";
import { must } from "./measure.mjs";
import { cowtoolCommand, launch } from "./servers.mjs";

const EXPORT = "disk";

function fresh(context, name) {
  const dir = join(context.work, name);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir);
  return dir;
}

async function startCowtool(context, base) {
  const dir = fresh(context, "chain-cowtool");
  const stack = join(dir, "disk.stack");
  const [command, ...args] = cowtoolCommand("create", "--stack", stack, base, join(dir, "disk.cow"));
  await must(command, args);
  const [socket, control] = [join(dir, "s"), join(dir, "control")];
  const serve = cowtoolCommand(
    "serve",
    "--export",
    `${EXPORT}=stack:${stack}`,
    "--socket",
    socket,
    "--control",
    control,
  );
  const started = await launch(serve, { listen: { unix: socket }, log: join(context.work, "chain-cowtool.log") });
  const verb = (name, body) => ask(control, "POST", `/v1/exports/${EXPORT}/${name}`, body);
  return {
    ...started,
    dir,
    exportName: EXPORT,
    checkpoint: (as) => ask(control, "POST", "/v1/checkpoints", { names: [EXPORT], as }),
    fork: (as, checkpoint) => verb("fork", { as, checkpoint }),
    rollback: (checkpoint, keep) => verb("rollback", { checkpoint, keep, force: true }),
  };
}

const blockdev = (options) => [
  "--blockdev",
  Object.entries(options)
    .map(([key, value]) => `${key}=${value}`)
    .join(","),
];

async function startQemu(context, base) {
  const dir = fresh(context, "chain-qemu");
  const overlay = (name) => ["create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", join(dir, name)];
  await must("qemu-img", overlay("disk.qcow2"));
  const [socket, monitor] = [join(dir, "s"), join(dir, "qmp")];
  const daemon = ["qemu-storage-daemon", "--chardev", `socket,path=${monitor},server=on,wait=off,id=qmp`];
  const command = [
    ...[...daemon, "--monitor", "chardev=qmp"],
    ...["--nbd-server", `addr.type=unix,addr.path=${socket},max-connections=0`],
    ...blockdev({ driver: "file", "node-name": "file0", filename: join(dir, "disk.qcow2") }),
    ...blockdev({ driver: "qcow2", "node-name": "node0", file: "file0" }),
    ...["--export", `type=nbd,id=export0,node-name=node0,name=${EXPORT},writable=on`],
  ];
  const started = await launch(command, { listen: { unix: socket }, log: join(context.work, "chain-qemu.log") });
  const qmp = await openQmp(monitor);
  let top = "node0";
  const checkpoint = async (as) => {
    const node = `node-${as}`;
    const names = { "node-name": top, "snapshot-node-name": node };
    await qmp.command("blockdev-snapshot-sync", {
      ...names,
      "snapshot-file": join(dir, `${as}.qcow2`),
      format: "qcow2",
    });
    top = node;
    return {};
  };
  const fork = async (as) => {
    await must("qemu-img", overlay(`${as}.qcow2`));
    const file = { driver: "file", filename: join(dir, `${as}.qcow2`) };
    await qmp.command("blockdev-add", { driver: "qcow2", "node-name": `node-${as}`, file });
    const what = { type: "nbd", id: `export-${as}`, "node-name": `node-${as}`, name: as, writable: true };
    await qmp.command("block-export-add", what);
  };
  const stop = async () => {
    qmp.close();
    await started.stop();
  };
  return { ...started, dir, exportName: EXPORT, checkpoint, fork, stop };
}

/** Those that are measured. */
export const CHAIN_SERVERS = [
  {
    name: "qsd",
    title: "qemu-storage-daemon",
    kind: "peer",
    needs: ["qemu-storage-daemon", "qemu-img"],
    start: startQemu,
  },
  { name: "cowtool", title: "cowtool", kind: "ours", needs: [], start: startCowtool },
];

/** Does `work` with a server over a fresh disk, and removes it. */
export async function withChain(context, server, base, work) {
  const started = await server.start(context, base);
  try {
    return await work(started);
  } finally {
    await started.stop();
    rmSync(started.dir, { recursive: true, force: true });
  }
}
