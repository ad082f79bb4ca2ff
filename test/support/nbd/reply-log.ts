/**
 * Owns the log of what a served disk must hold: what was replied to is there, what was asked and not replied to may be
 * there byte by byte, and nothing else is. And the clients that keep such a log while they write at random. Knows neither
 * who serves the disk nor how it ends.
 */

import { noise, random } from "../random.ts";
import { type Ask, CMD, FLAG, type RawSession, succeed } from "./raw-session.ts";

const KIB = 1024;
/** What is written comes from anywhere in here: to draw it anew each time would take longer than to write it. */
const POOL = noise(4 << 20, 77);

/** A change under way. */
interface Change {
  readonly offset: number;
  readonly length: number;
  /** What it puts there; undefined for zeros. */
  readonly bytes: Uint8Array | undefined;
}

export class ReplyLog {
  /** What the disk holds if nothing is under way. */
  readonly image: Buffer;
  readonly #underWay = new Set<Change>();
  /** Changes that were replied to. */
  replied = 0;
  /** Changes that a killed server left unanswered. */
  unanswered = 0;

  constructor(image: Uint8Array) {
    this.image = Buffer.from(image);
  }

  begin(change: Change): void {
    this.#underWay.add(change);
  }

  /** @param seen what the disk holds in that place since then, where the change does not say so */
  reply(change: Change, seen: Uint8Array | undefined = change.bytes): void {
    this.#underWay.delete(change);
    this.replied++;
    if (seen) this.image.set(seen, change.offset);
    else this.image.fill(0, change.offset, change.offset + change.length);
  }

  /**
   * Compares the disk with the log, while nobody writes. What it shows of changes that were not replied to counts from
   * now on. Throws where it is wrong.
   */
  judge(disk: Uint8Array): void {
    const { image } = this;
    for (const { offset, length, bytes } of this.#underWay)
      for (let i = 0; i < length; i++) {
        const is = disk[offset + i];
        if (is === (bytes ? bytes[i] : 0)) image[offset + i] = is ?? 0;
      }
    this.unanswered += this.#underWay.size;
    this.#underWay.clear();
    if (image.equals(disk)) return;
    const first = image.findIndex((byte, i) => byte !== disk[i]);
    const count = image.reduce((sum, byte, i) => sum + Number(byte !== disk[i]), 0);
    throw new Error(`${count} bytes are lost; the first at ${first} is ${disk[first]}, and was to be ${image[first]}`);
  }
}

/** A part of the disk that one client writes. */
export interface Cell {
  readonly offset: number;
  readonly length: number;
}

/** Cuts a disk into cells whose ends are nowhere near those of blocks, for so many clients in turn. */
export function cellsFor(clients: number, sizeBytes: number, seed: number): readonly (readonly Cell[])[] {
  const next = random(seed);
  const cells = Array.from({ length: clients }, (): Cell[] => []);
  let turn = 0;
  for (let offset = 0; offset < sizeBytes; turn++) {
    // Some have room for payloads that are too long to be written in one piece.
    const wanted = turn % 40 === 7 ? 1_500_001 : 1 + Math.floor(next() ** 2 * 150_000);
    const length = Math.min(wanted, sizeBytes - offset);
    cells[turn % clients]?.push({ offset, length });
    offset += length;
  }
  return cells;
}

/** How long a request is: mostly short, sometimes as long as a cell. */
function lengthWithin(room: number, next: () => number): number {
  const most = [40, 512, 3 * KIB, 9 * KIB, 70 * KIB, room][Math.floor(next() ** 1.5 * 6)] ?? room;
  return 1 + Math.floor(next() * Math.min(most, room));
}

type Kind = "write" | "zeros" | "write-zeroes" | "trim" | "nothing" | "flush";
const KINDS: readonly Kind[] = [
  ...Array<Kind>(12).fill("write"),
  "zeros",
  "write-zeroes",
  "write-zeroes",
  "trim",
  "trim",
  "nothing",
  "flush",
];

/** One client that writes its own cells at random, a few requests at a time, until its server is gone. */
export class LoggingClient {
  readonly #session: RawSession;
  readonly #log: ReplyLog;
  readonly #cells: readonly Cell[];
  readonly #next: () => number;
  #isOver = false;

  constructor(session: RawSession, log: ReplyLog, cells: readonly Cell[], seed: number) {
    this.#session = session;
    this.#log = log;
    this.#cells = cells;
    this.#next = random(seed);
  }

  /** Returns when the connection has ended; throws for answers that are errors, or against the protocol. */
  async run(): Promise<void> {
    while (!this.#isOver) {
      const count = 1 + this.#upTo(8);
      const first = this.#upTo(this.#cells.length);
      // No two of them in one cell: what is under way together may be done in any order.
      const batch = Array.from({ length: count }, (_, i) => this.#cells[(first + i) % this.#cells.length]);
      await Promise.all(batch.map((cell) => cell && this.#change(cell)));
    }
  }

  #upTo(most: number): number {
    return Math.floor(this.#next() * most);
  }

  #drawn(length: number): Uint8Array {
    const from = this.#upTo(POOL.length - length);
    return POOL.subarray(from, from + length);
  }

  async #change(cell: Cell): Promise<void> {
    const kind = KINDS[this.#upTo(KINDS.length)] ?? "write";
    const length = lengthWithin(cell.length, this.#next);
    const offset = cell.offset + this.#upTo(cell.length - length + 1);
    const fua = this.#upTo(25) === 0 ? FLAG.FUA : 0;
    if (kind === "flush") {
      await this.#ask({ type: CMD.FLUSH });
    } else if (kind === "nothing") {
      await this.#ask({ type: CMD.WRITE, offset, payload: new Uint8Array(0), flags: fua });
    } else if (kind === "trim") {
      await this.#trim({ offset, length, bytes: undefined }, fua);
    } else if (kind === "write-zeroes") {
      const flags = fua | (this.#upTo(2) === 0 ? FLAG.NO_HOLE : 0);
      await this.#logged({ offset, length, bytes: undefined }, { type: CMD.WRITE_ZEROES, offset, length, flags });
    } else {
      const bytes = kind === "zeros" ? new Uint8Array(length) : this.#drawn(length);
      await this.#logged({ offset, length, bytes }, { type: CMD.WRITE, offset, payload: bytes, flags: fua });
    }
  }

  async #logged(change: Change, ask: Ask): Promise<void> {
    this.#log.begin(change);
    if (await this.#ask(ask)) this.#log.reply(change);
  }

  /** What was trimmed may be zero or stay; what it is since then has to be asked. */
  async #trim(change: Change, flags: number): Promise<void> {
    const { offset, length } = change;
    this.#log.begin(change);
    if (!(await this.#ask({ type: CMD.TRIM, offset, length, flags }))) return;
    const seen = await this.#ask({ type: CMD.READ, offset, length });
    if (!seen) return;
    for (const [i, byte] of seen.entries())
      if (byte !== 0 && byte !== this.#log.image[offset + i])
        throw new Error(`trimmed byte ${offset + i} is neither old nor zero`);
    this.#log.reply(change, seen);
  }

  /** The data of an answer, or undefined once there are none any more. */
  async #ask(ask: Ask): Promise<Buffer | undefined> {
    if (this.#isOver) return undefined;
    try {
      return succeed(await this.#session.ask(ask)).data;
    } catch (error) {
      if (!(error instanceof Error) || !/hung up/.test(error.message)) throw error;
      this.#isOver = true;
      return undefined;
    }
  }
}
