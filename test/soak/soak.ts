/**
 * Owns the soak: many exports of one server whose clients write and verify, while exports are added, removed, closed and
 * opened again at random, and while the server itself is killed and started again. A client may see an error only where the
 * soak itself brought it about, and then each write that was not answered may have happened or not; everything else is
 * remembered and compared, at the end in the cowfiles themselves.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ControlClient, check, connect, create, nodeStorage, openStack, StackSpec } from "../../src/lib/index.ts";
import { ROOT } from "../support/command/run-command.ts";
import { CMD, RawSession } from "../support/nbd/raw-session.ts";
import { noise, random } from "../support/random.ts";

const BLOCK = 4096;
const BLOCKS = 1024;

export interface SoakOptions {
  readonly seed: number;
  readonly exports: number;
  readonly clients: number;
  readonly seconds: number;
  /** Kill the server this often; 0 for never. */
  readonly killSeconds: number;
  readonly say: (line: string) => void;
}

export interface Soaked {
  readonly answered: number;
  readonly changes: number;
  readonly kills: number;
  readonly failures: readonly string[];
  /** Resident memory of the server after a tenth of the time, and at the end. */
  readonly earlyMib: number;
  readonly lateMib: number;
}

/** What is known of one export. */
class Disk {
  readonly name: string;
  readonly cowfile: string;
  /** By block: what it may hold, by the number of the write; 0 is the base. */
  readonly may = new Map<number, Set<number>>();
  isInUse = false;
  /** Connections broken on purpose so far. */
  disturbed = 0;
  /** Being changed by the soak. */
  isBusy = false;

  constructor(name: string, cowfile: string) {
    this.name = name;
    this.cowfile = cowfile;
  }
}

/** The content of write number `n`: tells one from every other. */
function content(n: number): Buffer {
  const bytes = Buffer.alloc(BLOCK, n % 251);
  bytes.writeDoubleLE(n, 0);
  bytes.writeDoubleLE(n, BLOCK - 8);
  return bytes;
}

export async function soak(options: SoakOptions): Promise<Soaked> {
  const directory = mkdtempSync(join(tmpdir(), "cowtool-soak-"));
  try {
    return await new Soak(options, directory).run();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

class Soak {
  readonly #options: SoakOptions;
  readonly #at: (name: string) => string;
  readonly #random: () => number;
  readonly #base = noise(BLOCK * BLOCKS, 7);
  readonly #disks: Disk[] = [];
  readonly #failures: string[] = [];
  #server: ChildProcess | undefined;
  #control: ControlClient | undefined;
  #nextWrite = 1;
  #answered = 0;
  #changes = 0;
  #kills = 0;
  #isOver = false;
  /** The server is being started again. */
  #starting: Promise<void> | undefined;

  constructor(options: SoakOptions, directory: string) {
    this.#options = options;
    this.#at = (name) => join(directory, name);
    this.#random = random(options.seed);
  }

  async run(): Promise<Soaked> {
    const { exports, clients, seconds, killSeconds, say } = this.#options;
    writeFileSync(this.#at("base.img"), this.#base);
    for (let i = 0; i < exports; i++) {
      const disk = new Disk(`d${i}`, this.#at(`d${i}.cow`));
      await create(this.#at("base.img"), disk.cowfile, {}, {});
      this.#disks.push(disk);
    }
    await this.#start();
    for (const disk of this.#disks) await this.#add(disk);
    say(`${exports} exports`);
    const work = [...Array.from({ length: clients }, () => this.#client()), this.#chaos()];
    if (killSeconds > 0) work.push(this.#killer(killSeconds));
    await pause((seconds * 1000) / 10);
    const earlyMib = this.#rssMib();
    const begun = performance.now();
    while (performance.now() - begun < seconds * 900) {
      await pause(Math.min(10_000, seconds * 100));
      say(
        `${this.#answered} answered, ${this.#changes} changes, ${this.#kills} kills, ${this.#rssMib().toFixed(0)} MiB`,
      );
    }
    this.#isOver = true;
    await Promise.all(work);
    const lateMib = this.#rssMib();
    await this.#control?.stop();
    const server = this.#server;
    if (server && server.exitCode === null) await once(server, "exit");
    if (server?.exitCode !== 0) this.#failures.push(`the server ended with ${server?.exitCode ?? server?.signalCode}`);
    for (const disk of this.#disks) await this.#judge(disk);
    return {
      answered: this.#answered,
      changes: this.#changes,
      kills: this.#kills,
      failures: this.#failures,
      earlyMib,
      lateMib,
    };
  }

  async #start(): Promise<void> {
    const socket = ["--socket", this.#at("nbd.sock"), "--control", this.#at("control.sock")];
    const argv = [...socket, "--state", this.#at("state"), "--max-connections", "1000"];
    const server = spawn(process.execPath, [join(ROOT, "bin/run.js"), "serve", ...argv], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#server = server;
    let said = "";
    server.stderr?.on("data", (bytes: Buffer) => {
      said = (said + bytes.toString()).slice(-2000);
    });
    server.stdout?.resume();
    server.once("exit", (code) => {
      if (code !== null && code !== 0) this.#failures.push(`the server ended with ${code}: ${said}`);
    });
    for (let tries = 0; ; tries++) {
      try {
        this.#control = await connect({ server: this.#at("control.sock") });
        return;
      } catch (error) {
        if (tries > 600 || server.exitCode !== null) throw error;
        await pause(50);
      }
    }
  }

  async #add({ name, cowfile }: Disk): Promise<void> {
    await this.#control?.add({ name, stack: `${this.#at("base.img")},${cowfile}` });
  }

  /** One client after the other. */
  async #client(): Promise<void> {
    while (!this.#isOver) {
      await this.#starting;
      const free = this.#disks.filter(({ isInUse, isBusy }) => !isInUse && !isBusy);
      const disk = free[Math.floor(this.#random() * free.length)];
      if (!disk) {
        await pause(5);
        continue;
      }
      disk.isInUse = true;
      const disturbed = disk.disturbed;
      try {
        await this.#use(disk);
      } catch (error) {
        if (disk.disturbed === disturbed) this.#failures.push(`${disk.name}: ${String(error)}`);
      }
      disk.isInUse = false;
    }
  }

  async #use(disk: Disk): Promise<void> {
    const session = await RawSession.open(this.#at("nbd.sock"), "extended", { name: disk.name });
    try {
      for (let i = 0; i < 50 && !this.#isOver; i++) {
        const block = Math.floor(this.#random() * BLOCKS);
        const chance = this.#random();
        if (chance < 0.5) await this.#write(session, disk, block);
        else if (chance < 0.9) this.#compare(disk, block, await session.read(block * BLOCK, BLOCK));
        else await succeed(session.ask({ type: CMD.FLUSH }));
        this.#answered++;
      }
      await session.goodbye();
    } finally {
      session.client.leave();
    }
  }

  async #write(session: RawSession, disk: Disk, block: number): Promise<void> {
    const number = this.#nextWrite++;
    const may = disk.may.get(block) ?? new Set([0]);
    may.add(number);
    disk.may.set(block, may);
    await session.write(block * BLOCK, content(number));
    disk.may.set(block, new Set([number]));
  }

  #compare(disk: Disk, block: number, found: Buffer): void {
    const may = disk.may.get(block) ?? new Set([0]);
    const base = this.#base.subarray(block * BLOCK, (block + 1) * BLOCK);
    const number = [...may].find((n) => found.equals(n === 0 ? base : content(n)));
    if (number === undefined)
      this.#failures.push(
        `${disk.name}: block ${block} holds none of ${[...may].join(", ")}, but ${found.readDoubleLE(0)}`,
      );
    // What was read once stays.
    else disk.may.set(block, new Set([number]));
  }

  /** Exports come and go. */
  async #chaos(): Promise<void> {
    while (!this.#isOver) {
      await pause(10);
      await this.#starting;
      const disk = this.#disks[Math.floor(this.#random() * this.#disks.length)];
      if (!disk || disk.isBusy) continue;
      // One in use is only now and then taken from its client.
      if (disk.isInUse && this.#random() < 0.8) continue;
      disk.isBusy = true;
      const kills = this.#kills;
      try {
        await this.#change(disk);
        this.#changes++;
      } catch (error) {
        if (this.#kills === kills && !this.#starting) this.#failures.push(`${disk.name}: ${String(error)}`);
        else await this.#putBack(disk);
      }
      disk.isBusy = false;
    }
  }

  async #change(disk: Disk): Promise<void> {
    const control = this.#control;
    disk.disturbed++;
    if (this.#random() < 0.5) {
      await control?.close(disk.name);
      await control?.reopen(disk.name);
    } else {
      await control?.remove(disk.name, { force: true });
      await this.#add(disk);
    }
  }

  /** After a kill in the middle of a change. */
  async #putBack(disk: Disk): Promise<void> {
    await this.#starting;
    const { exports = [] } = (await this.#control?.list()) ?? {};
    const found = exports.find(({ name }) => name === disk.name);
    if (!found) await this.#add(disk);
    else if (found.state !== "open") await this.#control?.reopen(disk.name);
  }

  async #killer(seconds: number): Promise<void> {
    for (;;) {
      for (let waited = 0; waited < seconds * 10 && !this.#isOver; waited++) await pause(100);
      if (this.#isOver) return;
      for (const disk of this.#disks) disk.disturbed++;
      this.#kills++;
      this.#starting = this.#restart();
      await this.#starting;
      const { exports = [] } = (await this.#control?.list()) ?? {};
      for (const { name, state, error } of exports)
        if (state === "failed") this.#failures.push(`${name} did not come back: ${error?.message}`);
      for (const disk of this.#disks) disk.disturbed++;
      this.#starting = undefined;
    }
  }

  async #restart(): Promise<void> {
    const server = this.#server;
    server?.kill("SIGKILL");
    if (server && server.exitCode === null && server.signalCode === null) await once(server, "exit");
    await this.#start();
  }

  /** Everything answered is in the cowfile, which is clean. */
  async #judge(disk: Disk): Promise<void> {
    const text = `${this.#at("base.img")},${disk.cowfile}`;
    const report = await check(disk.cowfile, {}, {});
    const problems = [...report.problems].map(({ id }) => id);
    if (problems.length > 0) this.#failures.push(`${disk.name}: ${problems.join(", ")}`);
    const stack = await openStack(nodeStorage, StackSpec.parse(nodeStorage, text), {});
    try {
      const found = Buffer.alloc(BLOCK);
      for (let block = 0; block < BLOCKS; block++) {
        stack.device.read(found, block * BLOCK);
        this.#compare(disk, block, found);
      }
    } finally {
      stack.close();
    }
  }

  #rssMib(): number {
    const status = readFileSync(`/proc/${this.#server?.pid}/status`, "latin1");
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
  }
}

async function succeed(answer: ReturnType<RawSession["ask"]>): Promise<void> {
  const { error, text } = await answer;
  if (error !== 0) throw new Error(`refused with ${error}: ${text}`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
