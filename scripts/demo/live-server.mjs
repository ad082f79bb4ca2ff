/**
 * Owns the processes of the demo that go on while others run: cowtool as a server, and qemu-io as its client. Each is
 * ended by the process object that started it, whatever becomes of the demo. Must not know what is being shown.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

export const CLIENT_PROGRAMS = ["qemu-io", "qemu-img"];

/** Nothing here takes more than a second or two; a machine under load may need some more. */
const LIMIT_MS = 60_000;
const BLOCK_BYTES = 1024;

const running = new Set();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A process whose output can be waited for. */
class Companion {
  #child;
  #output = "";
  #ended;

  constructor(program, args, options) {
    this.#child = spawn(program, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
    running.add(this.#child);
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on("data", (chunk) => this.#hear(chunk));
    // Whoever is killed while we speak to it leaves a broken pipe.
    this.#child.stdin.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (error) => this.#hear(error.message));
      this.#child.once("close", (status, signal) => {
        running.delete(this.#child);
        resolve(status ?? signal);
      });
    });
  }

  #hear(chunk) {
    this.#output += chunk;
  }

  get pid() {
    return this.#child.pid;
  }

  get output() {
    return this.#output;
  }

  type(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Waits until `isThere(output)`, or the process has ended. @returns whether it is there */
  async until(isThere) {
    const stopMs = performance.now() + LIMIT_MS;
    while (!isThere(this.#output)) {
      if (!running.has(this.#child) || performance.now() > stopMs) return false;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return true;
  }

  /** @returns its exit status, or the name of the signal that ended it */
  end(signal) {
    this.#child.kill(signal);
    const tooLong = setTimeout(() => this.#child.kill("SIGKILL"), LIMIT_MS);
    return this.#ended.finally(() => clearTimeout(tooLong));
  }
}

/** Starts `cowtool serve …` and waits until it is ready. */
export async function startServer(stage, words) {
  const [program, args, options] = stage.commandOf(words);
  const server = new Companion(program, args, options);
  const isReady = await server.until((output) => /^nbd.*\n/m.test(output));
  process.stdout.write(server.output);
  stage.expect(isReady, "a server that says where it is", server.output);
  return server;
}

/** Where two images differ, as runs of blocks. */
function differences(before, after) {
  const [from, to] = [readFileSync(before), readFileSync(after)];
  const runs = [];
  for (let at = 0; at < to.length; at += BLOCK_BYTES) {
    const data = to.subarray(at, at + BLOCK_BYTES);
    if (data.equals(from.subarray(at, at + BLOCK_BYTES))) continue;
    const last = runs.at(-1);
    if (last?.end === at) last.end = at + BLOCK_BYTES;
    else runs.push({ at, end: at + BLOCK_BYTES });
  }
  return runs.map((run) => ({ ...run, data: to.subarray(run.at, run.end) }));
}

/**
 * Lets qemu-io write what differs between two images to a server. It waits for each reply, and asks for no flush.
 *
 * @returns the client, which is still connected, and how many bytes it wrote
 */
export async function writeThroughQemu(stage, uri, before, after) {
  const client = new Companion("qemu-io", ["-f", "raw", uri], stage.surroundings);
  const runs = differences(stage.path(before), stage.path(after));
  let bytes = 0;
  for (const [index, { at, data }] of runs.entries()) {
    const piece = stage.path("piece.bin");
    const fd = openSync(piece, "w");
    writeSync(fd, data);
    closeSync(fd);
    client.type(`write -s ${piece} ${at} ${data.length}`);
    const isDone = await client.until((output) => output.split(/^.*wrote \d+\/\d+ bytes/m).length - 1 > index);
    stage.expect(isDone, `a reply to the write at byte ${at}`, client.output);
    bytes += data.length;
  }
  return { client, bytes, writes: runs.length };
}
