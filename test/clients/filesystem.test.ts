/**
 * A real file system on a stack of ours: an ext4 image as the base, mounted as a file by nbdfuse, files written into it,
 * the server killed, the file system checked.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, openSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { cowtool, isClean, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients, runClient } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { pause, skipsLoudly } from "../support/command/real-process.ts";
import { scratchDirectory, sha256 } from "../support/scratch.ts";

const SIZE = 48 * MIB;
const MOUNTED_MS = 10_000;
const NBDFUSE = "nbdfuse";

function mayUseFuse(): boolean {
  try {
    openSync("/dev/fuse", "r+");
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}

const what = "no file system is mounted by nbdfuse";
const isSkipped =
  missesClients(what, NBDFUSE, "mkfs.ext4", "e2fsck", "debugfs", "umount") ||
  skipsLoudly(!mayUseFuse(), `${what}: /dev/fuse can't be opened, or we are not root`);

const path = scratchDirectory();
let served: Served | undefined;
const mounted = new Set<string>();

async function unmount(directory: string): Promise<void> {
  if (!mounted.delete(directory)) return;
  await runClient("umount", ["-l", directory]);
}

afterEach(async () => {
  for (const directory of [...mounted]) await unmount(directory);
  await served?.stop("SIGKILL");
});

/** The export as a file; its path. */
async function mount(directory: string, uri: string): Promise<string> {
  mkdirSync(directory, { recursive: true });
  const file = `${directory}/disk`;
  spawn(NBDFUSE, [file, uri], { stdio: "ignore" });
  mounted.add(directory);
  for (let waitedMs = 0; spawnSync("test", ["-s", file]).status !== 0; waitedMs += 50) {
    if (waitedMs > MOUNTED_MS) throw new Error("nbdfuse has mounted nothing");
    await pause(50);
  }
  return file;
}

describe.skipIf(isSkipped)("ext4 over nbdfuse", () => {
  test("has every file that was synced before the server was killed, and e2fsck finds nothing", async () => {
    const [base, cowfile, socket, directory] = [path("base"), path("top.cow"), path("s.sock"), path("mnt")];
    makeBase(base, SIZE);
    await client("mkfs.ext4", "-q", "-F", base);
    const before = sha256(base);
    await cowtool("create", base, cowfile);
    served = await startServe([base, cowfile, "--socket", socket]);
    const file = await mount(directory, served.uri);
    for (let i = 0; i < 8; i++) {
      const name = path(`file-${i}`);
      writeFileSync(name, Buffer.alloc(300_000 + i * 1111, i + 1));
      await client("debugfs", "-w", "-R", `write ${name} /file-${i}`, file);
    }
    await client("sync", file);
    await served.stop("SIGKILL");
    await unmount(directory);

    served = await startServe([base, cowfile, "--socket", socket]);
    const again = await mount(path("mnt-again"), served.uri);
    expect((await runClient("e2fsck", ["-fn", again])).status).toBe(0);
    for (let i = 0; i < 8; i++) {
      await client("debugfs", "-R", `dump /file-${i} ${path("dumped")}`, again);
      expect(sha256(path("dumped")), `file-${i}`).toBe(sha256(path(`file-${i}`)));
    }
    await unmount(path("mnt-again"));
    expect(await served.stop()).toMatchObject({ status: 0 });
    expect(await isClean(base, cowfile)).toBe(true);
    expect(sha256(base)).toBe(before);
  });
});
