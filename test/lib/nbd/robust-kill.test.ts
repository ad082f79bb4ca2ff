/**
 * Proves that nothing that was replied to is ever lost: a real server is killed (SIGKILL) again and again while four
 * clients write, trim and zero at any offset, and is started anew, repaired, killed while it starts, or ended in order by
 * SIGTERM. Each time the disk is compared with the log of replies; after each orderly end the cowfile is clean.
 *
 * COWTOOL_KILL_ROUNDS says how many times.
 */
import { rmSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { atOnce, finish, pause } from "../../support/command/real-process.ts";
import { contentOf, expectClean } from "../../support/nbd/left-behind.ts";
import { launch, serveProgram } from "../../support/nbd/program.ts";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { RawSession } from "../../support/nbd/raw-session.ts";
import { cellsFor, LoggingClient, ReplyLog } from "../../support/nbd/reply-log.ts";
import { makeCowfile, makeImage } from "../../support/nbd/test-server.ts";
import { noise, random } from "../../support/random.ts";
import { HOW, isExhaustive, SEED } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
/** Small, since every round reads all of it: what is kept in memory, marked and flushed is the same as of a large one. */
const SIZE = 5 * MIB + 3 * 1024;
const CLIENTS = 4;
const ROUNDS = Number(process.env["COWTOOL_KILL_ROUNDS"] ?? (isExhaustive ? 1000 : 20));
/** Servers at a time, each with a cowfile and clients of its own. */
const SERVERS = 2;
/** After so many rounds the cowfile holds most of the disk, and a new one is begun. */
const ROUNDS_EACH = 10;
/** The start of a server takes most of a round. */
const MS_EACH = 15_000;
/** When to kill: after at most so many replies, and then up to so many ms, which is long before all are answered. */
const REPLIES_AT_MOST = 80;
const LATER_MS = 4;
const WAIT_MS = 2000;

const at = scratchDirectory();

/** Data and holes in turn. */
const base = Buffer.alloc(SIZE);
for (let offset = 0; offset < SIZE; offset += 512 * 1024)
  base.set(noise(200_000, offset).subarray(0, SIZE - offset), offset);
makeImage(at("base.img"), base);

type Ending = "killed" | "killed and repaired" | "killed while starting" | "ended";

/** The last round of each cowfile is one with `cowtool repair`. */
function endingOf(round: number): Ending {
  if (round % ROUNDS_EACH === ROUNDS_EACH - 1) return "killed and repaired";
  if (round % ROUNDS_EACH === 4) return "ended";
  return round % ROUNDS_EACH === 6 ? "killed while starting" : "killed";
}

/** One cowfile and its servers, one after another. */
class Campaign {
  readonly #cowfile: string;
  readonly #log = new ReplyLog(base);
  readonly #next: () => number;
  readonly #seed: number;
  /** How the next server has to find the cowfile. */
  #left: readonly string[] = ["clean"];

  constructor(cowfile: string, seed: number) {
    this.#cowfile = cowfile;
    this.#seed = seed;
    this.#next = random(seed);
  }

  get log(): ReplyLog {
    return this.#log;
  }

  get #argv(): string[] {
    return [at("base.img"), this.#cowfile, "--socket", `${this.#cowfile}.s`, "--json"];
  }

  /** A server, which finds all that was replied to, four clients, and its end. */
  async play(round: number): Promise<void> {
    const ending = endingOf(round);
    const env = round % 3 === 2 ? { COWTOOL_NO_FFI: "1" } : {};
    const server = await serveProgram(this.#argv, { env });
    const ready = JSON.parse(server.said()) as { exports: readonly { found: string }[] };
    expect(this.#left).toContain(ready.exports[0]?.found);
    const sessions = await Promise.all(
      Array.from({ length: CLIENTS }, (_, i) =>
        RawSession.open(`${this.#cowfile}.s`, STYLES[(i + round) % 3] ?? "simple"),
      ),
    );
    this.#log.judge((await sessions[0]?.read(0, SIZE)) ?? Buffer.alloc(0));

    const cells = cellsFor(CLIENTS, SIZE, this.#seed);
    const clients = sessions.map((session, i) => {
      return new LoggingClient(session, this.#log, cells[i] ?? [], this.#seed + 1000 * round + i);
    });
    const written = Promise.all(clients.map((client) => client.run()));
    await Promise.race([written, this.#someReplies()]);
    const { status, signal, stderr } = await server.stop(ending === "ended" ? "SIGTERM" : "SIGKILL");
    await written;
    for (const { client } of sessions) client.leave();
    if (ending === "ended") {
      expect([status, signal, stderr]).toEqual([0, undefined, expect.stringMatching(/^(?:cowtool: note: [^\n]*\n)*$/)]);
      await this.#judgeFiles();
    } else {
      expect(signal).toBe("SIGKILL");
      // Killed before the first change of a clean file there is nothing to recover.
      this.#left = ["recovered", ...(this.#left.includes("clean") ? ["clean"] : [])];
    }
    if (ending === "killed and repaired") await this.#repair();
    if (ending === "killed while starting") await this.#killWhileStarting();
  }

  async #someReplies(): Promise<void> {
    const wanted = this.#log.replied + this.#next() * REPLIES_AT_MOST;
    const startMs = performance.now();
    while (this.#log.replied < wanted && performance.now() - startMs < WAIT_MS) await pause(1);
    await pause(this.#next() * LATER_MS);
  }

  async #repair(): Promise<void> {
    const repaired = await finish(["repair", this.#cowfile]);
    expect(repaired.status, repaired.stderr).toBe(0);
    await this.#judgeFiles();
  }

  async #killWhileStarting(): Promise<void> {
    const server = launch(this.#argv);
    await pause(100 + this.#next() * 300);
    await server.stop("SIGKILL");
  }

  async #judgeFiles(): Promise<void> {
    await expectClean(this.#cowfile, at("base.img"));
    this.#log.judge(await contentOf(at("base.img"), this.#cowfile));
    this.#left = ["clean"];
  }
}

describe(`killed ${ROUNDS} times, with ${CLIENTS} clients writing (${HOW})`, {
  timeout: 60_000 + ROUNDS * MS_EACH,
}, () => {
  test("everything that was replied to is there at the next start, and after repair", async () => {
    const starts = Array.from({ length: Math.ceil(ROUNDS / ROUNDS_EACH) }, (_, i) => i * ROUNDS_EACH);
    let [replied, unanswered] = [0, 0];
    await atOnce(SERVERS, starts, async (first, i) => {
      const cowfile = await makeCowfile(at("base.img"), at(`${i}.cow`));
      const campaign = new Campaign(cowfile, SEED + i);
      for (let round = first; round < first + ROUNDS_EACH; round++)
        await campaign.play(round).catch((error: unknown) => {
          throw new Error(`seed ${SEED + i}, round ${round}`, { cause: error });
        });
      replied += campaign.log.replied;
      unanswered += campaign.log.unanswered;
      rmSync(cowfile);
    });
    process.stderr.write(`killed ${ROUNDS} times: ${replied} writes replied to, ${unanswered} not\n`);
    // The kills must have met the clients at work, or they prove nothing.
    expect(replied).toBeGreaterThan(10 * ROUNDS);
    expect(unanswered).toBeGreaterThan(ROUNDS);
  });
});
