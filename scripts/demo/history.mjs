/**
 * Owns the demo's last act: a disk with a history. A file system under a client, a checkpoint, damage, the way back, a fork,
 * and a backup of what changed since the checkpoint, restored and compared.
 */
import { confirm } from "./ext4.mjs";
import { startServer, writeThroughQemu } from "./live-server.mjs";

const SERVER = ["serve", "--export", "vm2=stack:vm2.stack", "--socket", "vms.sock", "--control", "control.sock"];
const uriOf = (name) => `nbd+unix:///${name}?socket=vms.sock`;

/** @param contents what the images have: `monday`, `tuesday` */
export async function history(stage, contents) {
  stage.step("A disk with a history");
  stage.say("A stack file says which layers a disk has, so that they can change while it is served.");
  stage.cowtool(["create", "--stack", "vm2.stack", "golden.img", "vm2.cow"], { shows: ["vm2.stack"] });
  const server = await startServer(stage, SERVER);
  await damage(stage, contents.monday);
  await fork(stage, contents);
  incrementalBackup(stage, contents.tuesday);
  stage.show(`kill ${server.pid}`);
  const status = await server.end("SIGTERM");
  stage.expect(status === 0, `exit status 0 of the server, not ${status}`, server.output);
}

function ctl(stage, words, expected) {
  stage.cowtool(["ctl", ...words, "--server", "./control.sock"], expected);
}

async function damage(stage, monday) {
  stage.say("", "A client, QEMU's, makes Monday's file system of it. Then the instant gets a name.");
  stage.show(`qemu-io -f raw '${uriOf("vm2")}'`);
  const { client, bytes } = await writeThroughQemu(stage, uriOf("vm2"), "golden.img", "monday.img");
  stage.say(`${bytes} bytes written`);
  ctl(stage, ["checkpoint", "vm2", "--as", "monday"], { shows: ["vm2@monday", "paused for"] });
  stage.say("", "The client goes on, and ruins it: the first 256 KiB, where ext4 has what it needs most.");
  client.type("write -P 0xdb 0 256K");
  const isDone = await client.until((output) => output.includes("wrote 262144/262144 bytes"));
  stage.expect(isDone, "a reply to the write that ruins the file system", client.output);
  stage.say("", "Back it goes only when the client, which holds pages of what is gone, has left.");
  ctl(stage, ["rollback", "vm2", "monday"], { exit: 8, shows: ["client"] });
  await client.end("SIGTERM");
  await stage.until(() => connectionsOf(stage, "vm2") === 0, "a client that has left");
  ctl(stage, ["rollback", "vm2", "monday"], { shows: ["as of monday"] });
  copyOut(stage, "vm2", "back.img");
  confirm(stage, "back.img", monday);
}

async function fork(stage, { monday, tuesday }) {
  stage.step("A fork");
  stage.say("A second disk over the same checkpoint, at once: its writes are its own.");
  ctl(stage, ["fork", "vm2@monday", "vm3"], { shows: ["/vm3?socket="] });
  stage.show(`qemu-io -f raw '${uriOf("vm3")}'`);
  const { client, bytes } = await writeThroughQemu(stage, uriOf("vm3"), "monday.img", "tuesday.img");
  stage.say(`${bytes} bytes written`);
  await client.end("SIGTERM");
  copyOut(stage, "vm3", "forked.img");
  confirm(stage, "forked.img", tuesday);
  copyOut(stage, "vm2", "parent.img");
  confirm(stage, "parent.img", monday);
  ctl(stage, ["show", "vm3"], { shows: ["monday", "vm2"] });
}

function incrementalBackup(stage, tuesday) {
  stage.step("An incremental backup");
  stage.say("The checkpoint is an export by itself: copied once, it is a full backup.");
  copyOut(stage, "vm3@monday", "backup.img");
  ctl(stage, ["checkpoint", "vm3", "--as", "tuesday"], { shows: ["vm3@tuesday"] });
  stage.say("", "What changed since? The server tells by a dirty bitmap, as QEMU's clients know it.");
  const changed = changesOf(stage, "vm3@tuesday", "monday");
  const bytes = changed.reduce((sum, { length }) => sum + length, 0);
  stage.say(`${changed.length} parts, ${bytes} bytes of ${stage.read("backup.img").length}`);
  stage.expect(bytes > 300_000 && bytes < 4 << 20, `some of the image's bytes, not ${bytes}`);
  for (const { start, length } of changed) copyPart(stage, "vm3@tuesday", "backup.img", start, length);
  stage.say("", "Only these are copied into the backup. Is it Tuesday's disk?");
  confirm(stage, "backup.img", tuesday);
  const wanted = stage.read("tuesday.img");
  stage.expectSame(stage.read("backup.img"), wanted, "backup.img is tuesday.img, byte for byte");
}

function connectionsOf(stage, name) {
  const words = ["ctl", "show", name, "--server", "./control.sock", "--json"];
  return JSON.parse(stage.quietly(words)).connections;
}

function copyOut(stage, name, image) {
  stage.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uriOf(name), image]);
}

/** An export as QEMU's options name it. */
const optionsOf = (name) => `driver=nbd,server.type=unix,server.path=vms.sock,export=${name}`;

function changesOf(stage, name, checkpoint) {
  const options = `${optionsOf(name)},x-dirty-bitmap=qemu:dirty-bitmap:since-${checkpoint}`;
  const map = JSON.parse(stage.run(["qemu-img", "map", "--output=json", "--image-opts", options]));
  // QEMU shows what is dirty as if it held no data.
  return map.filter(({ data }) => !data);
}

function copyPart(stage, name, image, offset, size) {
  const part = `driver=raw,offset=${offset},size=${size}`;
  const from = `${part},${optionsOf(name).replaceAll(/(driver|server|export)/g, "file.$1")}`;
  const to = `${part},file.filename=${image}`;
  stage.run(["qemu-img", "convert", "-n", "--image-opts", from, "--target-image-opts", to], { quietly: true });
}
