/**
 * Proves attach and detach against a kernel and a sysfs tree of the test's own: what is attached is listed with who keeps and
 * who uses it, a connection that died is made again, another disk never takes the place of the first, and nothing that is in
 * use is detached. The real kernel is in scripts/test-vm-attach.mjs.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { ConnectionLost } from "../../../src/lib/device/remote/failures.ts";
import type { KernelSocket } from "../../../src/lib/device/remote/kernel-socket.ts";
import type { NbdKernel } from "../../../src/lib/device/sys/nbd-kernel.ts";
import { processIdentity } from "../../../src/lib/device/sys/process-info.ts";
import type { Notice } from "../../../src/lib/index.ts";
import { type AttachResult, attach } from "../../../src/lib/operations/attach/attach.ts";
import { detach, listAttached } from "../../../src/lib/operations/attach/detach.ts";
import type { AttachSystem } from "../../../src/lib/operations/attach/system.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const URI = "nbd://localhost/vm1";
const READ_ONLY = 2;
const folder = scratchDirectory();
let round = 0;
const at = (name: string): string => folder(`${round}/${name}`);

/** A kernel whose devices are in a tree of files. */
class FakeKernel implements NbdKernel {
  readonly calls: string[] = [];
  readonly dead: (readonly number[] | undefined)[] = [];

  put(index: number, backend: string, sizeBytes: number): void {
    const name = `sys/block/nbd${index}`;
    mkdirSync(at(`${name}/queue`), { recursive: true });
    for (const [file, text] of Object.entries({
      pid: "1",
      backend,
      size: sizeBytes / 512,
      ro: 0,
      dev: `43:${index * 32}`,
    }))
      writeFileSync(at(`${name}/${file}`), `${text}\n`);
  }
  connect({ index = 0, ...device }: Parameters<NbdKernel["connect"]>[0]): number {
    this.calls.push(`connect ${index} ${device.sizeBytes} ${device.blockBytes} ${device.flags} ${device.waitSeconds}`);
    this.put(index, device.backend, device.sizeBytes);
    return index;
  }
  reconnect(index: number, { socket, backend }: Parameters<NbdKernel["reconnect"]>[1]): boolean {
    this.calls.push(`reconnect ${index} ${socket} ${backend}`);
    return true;
  }
  disconnect(index: number): void {
    this.calls.push(`disconnect ${index}`);
    rmSync(at(`sys/block/nbd${index}/pid`));
  }
  async nextDead(): Promise<readonly number[] | undefined> {
    await new Promise((resolve) => setImmediate(resolve));
    return this.dead.length > 0 ? this.dead.shift() : [];
  }
  close(): void {
    this.calls.push("close");
  }
}

let kernel: FakeKernel;
let system: AttachSystem;
let answers: (Partial<KernelSocket> | Error)[];
let sockets: number;
let notices: Notice[];

beforeEach(() => {
  round++;
  for (const name of ["proc/self", "sys/block", "sys/dev/block", "run"]) mkdirSync(at(name), { recursive: true });
  kernel = new FakeKernel();
  answers = [];
  sockets = 0;
  notices = [];
  const blockSizes = { minimum: 1, preferred: 4096, maximum: 1 << 25 };
  system = {
    roots: { proc: at("proc"), sys: at("sys"), run: at("run") },
    isRoot: true,
    openKernel: () => kernel,
    dial: async () => {
      const answer = answers.shift() ?? {};
      if (answer instanceof Error) throw answer;
      const fd = 100 + sockets++;
      return { fd, sizeBytes: 1 << 20, flags: 1, blockSizes, close: () => void sockets--, ...answer };
    },
  };
});

/** Attaches, and lets `during` do something while it is kept; then it is stopped. */
async function attached(
  during: (result: AttachResult) => void | Promise<void> = () => undefined,
  device?: string,
  uri = URI,
): Promise<AttachResult | undefined> {
  const stop = new AbortController();
  let ready: AttachResult | undefined;
  const onReady = async (result: AttachResult): Promise<void> => {
    ready = result;
    await during(result);
    // Everything that happened is looked at before the end.
    void (async () => {
      while (kernel.dead.length > 0) await new Promise((resolve) => setImmediate(resolve));
      stop.abort();
    })();
  };
  const context = { signal: stop.signal, onNotice: (notice: Notice) => void notices.push(notice) };
  await attach(uri, { device, onReady, waitSeconds: 7 }, context, system);
  return ready;
}

const mount = (index: number): void =>
  writeFileSync(at("proc/self/mountinfo"), `30 1 43:${index * 32} / /mnt rw - ext4 /dev/nbd${index} rw\n`);

describe("attach", () => {
  it("connects, is listed with its keeper while it lasts, and detaches at the end", async () => {
    const result = await attached(() => {
      const [device] = listAttached(system);
      expect(device).toEqual({
        device: "/dev/nbd0",
        uri: URI,
        virtual_size: 1 << 20,
        read_only: false,
        state: "attached",
        pid: process.pid,
        in_use: null,
      });
      expect(readFileSync(at("sys/block/nbd0/queue/io_timeout"), "utf8")).toBe("600\n");
    });
    expect(result).toMatchObject({ device: "/dev/nbd0", uri: URI, state: "attached", taken_over: false });
    expect(kernel.calls).toEqual(["connect 0 1048576 512 1 7", "disconnect 0", "close"]);
    expect(readdirSync(at("run"))).toEqual([]);
    expect(sockets).toBe(0);
  });

  it("gives a dead connection a new socket, however long the server takes, and no other device's", async () => {
    await attached(() => {
      kernel.dead.push([3], [0, 1], undefined);
      answers.push(new ConnectionLost("gone"), new ConnectionLost("gone"), {}, {});
    }, "/dev/nbd0");
    expect(kernel.calls.filter((call) => call.startsWith("re"))).toEqual([
      `reconnect 0 100 ${URI}`,
      `reconnect 0 100 ${URI}`,
    ]);
    const died = "its connection died: requests wait";
    const again = expect.stringMatching(/^reconnected after \d+ ms$/);
    expect(notices.map(({ message }) => message)).toEqual([died, again, died, again]);
  });

  it.each([
    ["of another size", { sizeBytes: 2 << 20 }, /has 2097152 bytes now, not 1048576/],
    ["that is read-only now", { flags: 1 | READ_ONLY }, /is read-only/],
  ])("never connects it to a disk %s", async (_, other, message) => {
    const refused = attached(() => {
      kernel.dead.push([0]);
      answers.push(other);
    });
    await expect(refused).rejects.toMatchObject({ code: "unsuitable", message: expect.stringMatching(message) });
    expect(kernel.calls).not.toContainEqual(expect.stringMatching(/^reconnect/));
  });

  it("leaves nothing attached if it cannot say so, or the note cannot be written", async () => {
    const gone = new Error("the reader has gone");
    await expect(attach(URI, { onReady: () => Promise.reject(gone) }, {}, system)).rejects.toBe(gone);
    rmSync(at("run"), { recursive: true });
    writeFileSync(at("run"), "");
    await expect(attach(URI, {}, {}, system)).rejects.toMatchObject({ file: at("run") });
    expect(kernel.calls.filter((call) => call === "disconnect 0")).toHaveLength(2);
    expect(listAttached(system)).toEqual([]);
  });

  it("ends when the device is detached by another process", async () => {
    await attached(() => kernel.disconnect(0));
    expect(kernel.calls).toEqual(["connect 0 1048576 512 1 7", "disconnect 0", "close"]);
  });

  it("leaves a device that is in use attached, and says how to take it over", async () => {
    await attached(() => mount(0));
    expect(kernel.calls).not.toContain("disconnect 0");
    expect(notices.at(-1)?.message).toMatch(/^is mounted at \/mnt, and stays attached.*cowtool attach .* \/dev\/nbd0/);
    expect(listAttached(system)).toMatchObject([{ state: "orphan", pid: null, in_use: "is mounted at /mnt" }]);
    expect(await attached(() => undefined, "nbd0")).toMatchObject({ taken_over: true });
    expect(kernel.calls.at(-2)).toBe(`reconnect 0 100 ${URI}`);
    const other = attached(() => undefined, "/dev/nbd0", "nbd://localhost/other");
    await expect(other).rejects.toMatchObject({ code: "locked", file: "/dev/nbd0" });
    answers.push({ sizeBytes: 4096 });
    await expect(attached(() => undefined, "/dev/nbd0")).rejects.toMatchObject({ code: "unsuitable" });
  });

  it("does not take a device from its keeper", async () => {
    kernel.put(2, URI, 1 << 20);
    const { startTicks: start_ticks } = processIdentity(process.ppid) ?? {};
    writeFileSync(at("run/nbd2.json"), JSON.stringify({ cowtool_attach: 1, pid: process.ppid, start_ticks }));
    await expect(attached(undefined, "/dev/nbd2")).rejects.toMatchObject({
      code: "locked",
      message: `is attached to ${URI} already, by pid ${process.ppid}`,
    });
  });

  it.each([
    ["blocks of 8192 bytes", { blockSizes: { minimum: 8192, preferred: 8192, maximum: 8192 } }],
    ["less than a block", { sizeBytes: 500 }],
  ])("refuses %s", async (_, answer) => {
    answers.push(answer);
    await expect(attached()).rejects.toMatchObject({ code: "unsupported" });
  });

  it("takes whole blocks only, as large as the server wants them", async () => {
    answers.push({ sizeBytes: 10_000, blockSizes: { minimum: 4096, preferred: 4096, maximum: 1 << 20 } });
    await attached();
    expect(kernel.calls[0]).toBe("connect 0 8192 4096 1 7");
  });

  it("says what is missing, and offers nbdfuse with the line to type", async () => {
    const hint = expect.stringContaining(`nbdfuse disk/img ${URI}`);
    const without = { ...system, openKernel: () => undefined };
    const user = { ...system, isRoot: false };
    await expect(attach(URI, {}, {}, without)).rejects.toMatchObject({
      code: "unsupported",
      hints: [expect.stringMatching(/modprobe nbd/), hint],
    });
    await expect(attach(URI, {}, {}, user)).rejects.toMatchObject({
      code: "permission",
      hints: [hint, expect.anything()],
    });
    await expect(attach("nbds://host/x", {}, {}, system)).rejects.toMatchObject({ code: "unsupported" });
    await expect(attach(URI, { device: "/dev/sda" }, {}, system)).rejects.toMatchObject({
      code: "usage",
      file: "/dev/sda",
    });
    answers.push(new ConnectionLost("no server listens there"));
    await expect(attached()).rejects.toMatchObject({ code: "io", file: URI });
  });
});

describe("detach", () => {
  it("finds a device by its name, its URI or its export", async () => {
    for (const name of ["/dev/nbd1", "nbd1", URI, "vm1"]) {
      kernel.put(1, URI, 1 << 20);
      expect(await detach(name, {}, system)).toMatchObject({
        detached: [{ device: "/dev/nbd1" }],
        left: [],
        dry_run: false,
      });
      expect(kernel.calls.splice(0)).toEqual(["disconnect 1", "close"]);
    }
    await expect(detach("/dev/nbd1", {}, system)).rejects.toMatchObject({ code: "not-found" });
    await expect(detach("vm1", {}, system)).rejects.toMatchObject({ code: "not-found" });
    for (const index of [1, 2]) kernel.put(index, URI, 1 << 20);
    await expect(detach("vm1", {}, system)).rejects.toMatchObject({ code: "usage" });
  });

  it.each([
    ["is mounted", () => mount(1)],
    ["is a part of /dev/mapper/data", () => undefined],
    ["is open in pid 77", () => undefined],
  ])("refuses what %s", async (what, use) => {
    kernel.put(1, URI, 1 << 20);
    use();
    if (what.includes("mapper")) {
      mkdirSync(at("sys/block/nbd1/holders/dm-0/dm"), { recursive: true });
      writeFileSync(at("sys/block/nbd1/holders/dm-0/dm/name"), "data\n");
      symlinkSync(at("sys/block/nbd1"), at("sys/dev/block/43:32"));
    }
    if (what.includes("open")) {
      mkdirSync(at("proc/77/fd"), { recursive: true });
      symlinkSync("/dev/nbd1p2", at("proc/77/fd/5"));
    }
    await expect(detach("/dev/nbd1", {}, system)).rejects.toMatchObject({
      code: "locked",
      file: "/dev/nbd1",
      message: expect.stringContaining(what),
    });
    expect(kernel.calls).toEqual([]);
  });

  it("detaches orphans that nothing uses, and names the others", async () => {
    for (const index of [1, 2, 10]) kernel.put(index, URI, 1 << 20);
    mount(2);
    const dry = await detach(undefined, { orphans: true, dryRun: true }, system);
    expect(dry.detached.map(({ device }) => device)).toEqual(["/dev/nbd1", "/dev/nbd10"]);
    expect(kernel.calls).toEqual([]);
    expect(await detach(undefined, { orphans: true }, system)).toMatchObject({ left: [{ device: "/dev/nbd2" }] });
    expect(kernel.calls).toEqual(["disconnect 1", "disconnect 10", "close"]);
  });

  it.each([
    [undefined, false],
    ["/dev/nbd0", true],
  ])("needs one device or --orphans", async (name, orphans) => {
    await expect(detach(name, { orphans }, system)).rejects.toMatchObject({ code: "usage" });
  });
});
