/**
 * Proves what a disk that fails can do to a cowfile that is being served, whichever of its operations fails, and however
 * the server then ends: nothing that was replied to is damaged, an fsync that failed is told to every later flush until the
 * file is opened anew, everything stays readable, a disk that has room again is written again, and after the next start
 * everything is there that was replied to (after the death of the process) or flushed (after a power cut). A file that is
 * marked clean has no data in blocks without a mark.
 */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CowError, create, MemoryStorage, SparseBytes } from "../../src/lib/index.ts";
import type { LiveImage } from "../../src/lib/stack/live/image.ts";
import { ServedStack } from "../../src/lib/stack/live/served-stack.ts";
import { RawCowfile } from "../explore/foreign.ts";
import { noise, random } from "../support/random.ts";
import { HOW, sampleOf } from "../support/sample.ts";
import { type Fault, FaultyStorage, type Judge, TAKES_SPACE } from "../support/storage/faulty-storage.ts";
import type { Step } from "../support/storage/stepped-storage.ts";

const BLOCK = 1024;
/** More than one region of the bitmap's locks. */
const BLOCKS = 300;
const SIZE = BLOCKS * BLOCK;
const SECTOR_BYTES = 512;
/** For a machine that does much else. */
const LIMIT_MS = 240_000;
const BOOT = new Uint8Array(16).fill(7);
const NEXT_BOOT = new Uint8Array(16).fill(8);

/** Data and holes in turn, which zeros and trims treat differently. */
const base = Buffer.alloc(SIZE);
for (let block = 0; block < BLOCKS; block += 40) base.set(noise(20 * BLOCK, block), block * BLOCK);

type Request =
  | { readonly kind: "write"; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: "zero"; readonly offset: number; readonly length: number; readonly mayPunch: boolean }
  | { readonly kind: "trim"; readonly offset: number; readonly length: number }
  | { readonly kind: "flush" };

const REGION = 256 * BLOCK;
let seed = 1;
const write = (offset: number, length: number): Request => ({ kind: "write", offset, bytes: noise(length, seed++) });

/** Whole blocks, parts of blocks, over regions, over what is there, zeros of both kinds, trims; a flush now and then. */
const WORK: readonly Request[] = [
  write(0, BLOCK),
  write(3 * BLOCK + 100, 700),
  write(10 * BLOCK + 5, 5 * BLOCK),
  { kind: "flush" },
  write(0, 300),
  write(REGION - 2 * BLOCK - 7, 4 * BLOCK),
  { kind: "zero", offset: 41 * BLOCK, length: 6 * BLOCK, mayPunch: true },
  { kind: "zero", offset: 80 * BLOCK + 10, length: 3 * BLOCK, mayPunch: false },
  { kind: "trim", offset: 10 * BLOCK, length: 3 * BLOCK },
  { kind: "flush" },
  { kind: "write", offset: 200 * BLOCK, bytes: new Uint8Array(2 * BLOCK) },
  write(299 * BLOCK, BLOCK),
  write(10 * BLOCK + 1, 2 * BLOCK),
  { kind: "flush" },
  write(270 * BLOCK + 1023, 2),
  { kind: "zero", offset: 0, length: REGION + 9, mayPunch: true },
  write(5, 40 * BLOCK),
  { kind: "trim", offset: 290 * BLOCK, length: 10 * BLOCK },
  write(240 * BLOCK, 30 * BLOCK),
  { kind: "flush" },
  write(285 * BLOCK - 1, 3),
];

/** Bytes that a request was to put somewhere; where `counts` is 0, a later one was replied to. */
interface Attempt {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly counts: Uint8Array;
}

function mayBe({ offset, bytes, counts }: Attempt, at: number, byte: number | undefined): boolean {
  return counts[at - offset] === 1 && bytes[at - offset] === byte;
}

/** What the image may read as, byte by byte. */
class Ledger {
  readonly image = Buffer.from(base);
  #flushed = Buffer.from(base);
  /** Requests that failed: they may have been done in part. */
  readonly #failed: Attempt[] = [];
  /** What was done, or begun, since the last flush. */
  #since: Attempt[] = [];

  begin(offset: number, bytes: Uint8Array): void {
    this.#since.push({ offset, bytes, counts: new Uint8Array(bytes.length).fill(1) });
  }

  replied(offset: number, bytes: Uint8Array): void {
    this.image.set(bytes, offset);
    for (const { offset: from, counts } of this.#failed)
      counts.fill(0, Math.max(0, offset - from), Math.max(0, offset + bytes.length - from));
  }

  failed(offset: number, bytes: Uint8Array): void {
    this.#failed.push({ offset, bytes, counts: new Uint8Array(bytes.length).fill(1) });
  }

  flushed(): void {
    this.#flushed = Buffer.from(this.image);
    this.#since = this.#failed.map((attempt) => ({ ...attempt, counts: attempt.counts.slice() }));
  }

  /** While the server lives, and after its death. */
  judge(seen: Buffer, where: string): void {
    for (const i of differences(seen, this.image)) {
      if (!this.#failed.some((attempt) => mayBe(attempt, i, seen[i])))
        throw new Error(`${where}: byte ${i} is ${seen[i]}, and was to be ${this.image[i]}`);
    }
  }

  /** After a power cut. */
  judgeFlushed(seen: Buffer, where: string): void {
    for (const i of differences(seen, this.#flushed)) {
      if (!this.#since.some((attempt) => mayBe(attempt, i, seen[i])))
        throw new Error(
          `${where}: byte ${i} is ${seen[i]}, was flushed as ${this.#flushed[i]}, and never anything else`,
        );
    }
  }
}

/** The bytes in which two images differ. */
function* differences(a: Buffer, b: Buffer): Generator<number> {
  for (let at = 0; at < SIZE; at += SECTOR_BYTES) {
    if (a.compare(b, at, at + SECTOR_BYTES, at, at + SECTOR_BYTES) === 0) continue;
    for (let i = at; i < at + SECTOR_BYTES; i++) if (a[i] !== b[i]) yield i;
  }
}

function contentOf(image: LiveImage): Buffer {
  const bytes = Buffer.alloc(SIZE);
  image.read(bytes, 0);
  return bytes;
}

async function readAgain(storage: MemoryStorage, boot: Uint8Array): Promise<Buffer> {
  const stack = await ServedStack.open(storage, "base,cow", { access: "writable", boot });
  const seen = contentOf(stack.image());
  stack.close();
  const again = await ServedStack.open(storage, "base,cow", { access: "read-only" });
  expect(contentOf(again.image()).equals(seen), "the same once it is clean").toBe(true);
  again.close();
  return seen;
}

function perform(image: LiveImage, request: Exclude<Request, { kind: "flush" }>): void {
  if (request.kind === "write") image.write(request.bytes, request.offset);
  else if (request.kind === "zero") image.zero(request.offset, request.length, { mayPunch: request.mayPunch });
  else image.trim(request.offset, request.length);
  image.commit();
}

/** What a request makes of its place. A trim's whole blocks are zeros. */
function effectOf(request: Exclude<Request, { kind: "flush" }>): {
  readonly offset: number;
  readonly bytes: Uint8Array;
} {
  const bytes = request.kind === "write" ? request.bytes : new Uint8Array(request.length);
  return { offset: request.offset, bytes };
}

interface Story {
  readonly storage: MemoryStorage;
  readonly before: MemoryStorage;
  readonly ledger: Ledger;
  readonly where: string;
}

/** One session on a disk that fails as `judge` says, until the work is done or the server would end. */
class Session {
  readonly memory: MemoryStorage;
  readonly faulty: FaultyStorage;
  readonly ledger = new Ledger();
  stack: ServedStack | undefined;
  /** A commit failed: the server has to end. */
  isLost = false;
  /** How often each sort of request was refused. */
  readonly refused = { flush: 0, change: 0 };
  readonly #where: string;

  constructor(start: MemoryStorage, judge: Judge, where: string, isOfSpace = false) {
    // Generations come by the clock: here one with every batch, so that a session is the same each time.
    let milliseconds = 0;
    vi.spyOn(Date, "now").mockImplementation(() => ++milliseconds);
    this.memory = start.clone();
    this.faulty = new FaultyStorage(this.memory, isOfSpace ? roomFor(this, judge) : judge);
    this.#where = where;
  }

  #refusal(error: unknown): CowError {
    if (!(error instanceof CowError)) throw new Error(this.#where, { cause: error });
    expect(["io", "no-space"], `${this.#where}: ${error.message}`).toContain(error.code);
    expect(error.file, this.#where).toMatch(/^(?:base|cow)/);
    return error;
  }

  /** @returns false if it could not even be opened */
  async open(): Promise<boolean> {
    try {
      this.stack = await ServedStack.open(this.faulty, "base,cow", { access: "writable", boot: BOOT });
      return true;
    } catch (error) {
      this.#refusal(error);
      expect(this.faulty.openCount, `${this.#where}: open files`).toBe(0);
      return false;
    }
  }

  /** @param isCutShort it ends with the first request that meets a fault, and what is asked again */
  work(requests: readonly Request[], isCutShort = false): void {
    const { stack } = this;
    if (!stack) throw new Error("not open");
    // Two connections, one after the other.
    const images = [stack.image(), stack.image()];
    for (const [i, request] of requests.entries()) {
      const image = images[i % 2];
      if (!image || this.isLost || (isCutShort && this.refused.flush + this.refused.change > 0)) return;
      this.#one(image, request);
      this.isLost = image.failed;
    }
  }

  #one(image: LiveImage, request: Request): void {
    if (request.kind === "flush") {
      // Who is refused asks again, and may then be told that all is well.
      if (!this.#flush(image)) this.#flush(image);
      return;
    }
    const { offset, bytes } = effectOf(request);
    this.ledger.begin(offset, bytes);
    try {
      perform(image, request);
      this.ledger.replied(offset, bytes);
    } catch (error) {
      this.#refusal(error);
      this.refused.change++;
      // Whatever was held goes out before the error is replied.
      this.#commit(image);
      this.ledger.failed(offset, bytes);
    }
  }

  #flush(image: LiveImage): boolean {
    try {
      image.flush();
    } catch (error) {
      this.#refusal(error);
      this.refused.flush++;
      return false;
    }
    this.ledger.flushed();
    return true;
  }

  /** A commit that fails is the end: no reply goes out any more. */
  #commit(image: LiveImage): void {
    try {
      image.commit();
    } catch (error) {
      this.#refusal(error);
      expect(image.failed, this.#where).toBe(true);
    }
  }

  /** Everything can be read, and is right. */
  expectReadable(): void {
    if (this.isLost || !this.stack) return;
    const image = this.stack.image();
    let seen: Buffer;
    try {
      seen = contentOf(image);
    } catch (error) {
      // This read was the one to fail; the next one is not.
      this.#refusal(error);
      seen = contentOf(image);
    }
    this.ledger.judge(seen, `${this.#where}, while it is served`);
  }
}

const ENDINGS = [
  "killed",
  "killed at once",
  "power cut, everything kept",
  "power cut, nothing kept",
  "power cut at once, nothing kept",
  "power cut",
  "closed",
] as const;

/** How many of them an operation's failure is tried with; the operations between them have all. */
const ENDINGS_EACH = 1;

async function expectAfterwards(
  { storage, before, ledger, where }: Story,
  ending: (typeof ENDINGS)[number],
): Promise<void> {
  const told = `${where}, ${ending}`;
  if (ending === "closed") expectNothingUnmarked(storage, told);
  if (ending === "killed" || ending === "killed at once" || ending === "closed") {
    ledger.judge(await readAgain(storage.clone(), BOOT), told);
    return;
  }
  const next = random(where.length);
  const keep = ending.endsWith("everything kept") ? 1 : ending.endsWith("nothing kept") ? 0 : 0.5;
  const after = storage.powerCut(before, () => next() < keep);
  ledger.judgeFlushed(await readAgain(after, NEXT_BOOT), told);
}

/** What a write that failed has left is not to be found in a file that is marked clean. */
function expectNothingUnmarked(storage: MemoryStorage, told: string): void {
  const cowfile = new RawCowfile(storage.content("cow") ?? new SparseBytes());
  if (!cowfile.isDirty) expect([...cowfile.unmarked()], `${told}: blocks with data and without a mark`).toEqual([]);
}

interface Kind {
  readonly title: string;
  readonly isOfSpace?: boolean;
  readonly concerns: (operation: Step) => boolean;
  readonly fault: (operation: Step, isFirst: boolean, past: number) => Fault | undefined;
}

const half = ({ length = 0 }: Step): number => Math.floor(length / 2 / SECTOR_BYTES) * SECTOR_BYTES;

const KINDS: readonly Kind[] = [
  { title: "EIO, once", concerns: () => true, fault: (_, isFirst) => (isFirst ? { errno: "EIO" } : undefined) },
  {
    title: "EIO in the middle of a write",
    concerns: ({ kind }) => kind === "write",
    fault: (operation, isFirst) => (isFirst ? { errno: "EIO", doneBytes: half(operation) } : undefined),
  },
  {
    title: "the device takes nothing more",
    concerns: ({ kind }) => ["write", "punch", "flush", "resize", "create", "commit", "remove"].includes(kind),
    fault: () => ({ errno: "EIO" }),
  },
  {
    title: "the place of the bitmap cannot be written",
    concerns: ({ kind, path, offset = 0 }) =>
      kind === "write" && path === "cow" && offset >= BLOCK && offset < 4 * BLOCK,
    fault: () => ({ errno: "EIO" }),
  },
  {
    title: "full for a while, in the middle of a write",
    isOfSpace: true,
    concerns: ({ kind }) => TAKES_SPACE.has(kind),
    fault: (operation, isFirst, past) =>
      past < 6 ? { errno: "ENOSPC", doneBytes: isFirst ? half(operation) : 0 } : undefined,
  },
  {
    title: "the quota is used up",
    isOfSpace: true,
    concerns: ({ kind }) => TAKES_SPACE.has(kind),
    fault: (_, _isFirst, past) => (past < 3 ? { errno: "EDQUOT" } : undefined),
  },
  {
    title: "larger than files may be, for good",
    concerns: ({ kind, path, offset = 0, length = 0 }) =>
      kind === "write" && path === "cow" && offset + length > 30 * BLOCK,
    fault: () => ({ errno: "EFBIG" }),
  },
];

let start: MemoryStorage;
let [trials, refused] = [0, 0];
beforeAll(async () => {
  const storage = new MemoryStorage();
  storage.put("base", base);
  await create("base", "cow", { identity: "none" }, { storage });
  start = storage.clone();
});
afterAll(
  () =>
    void process.stderr.write(`a served cowfile's disk made to fail ${trials} times, ${refused} requests refused\n`),
);

async function operationsOf(): Promise<readonly Step[]> {
  const operations: Step[] = [];
  const session = new Session(start, (operation) => void operations.push(operation), "sound");
  await session.open();
  session.work(WORK);
  session.expectReadable();
  session.stack?.close();
  expect([session.refused, session.faulty.openCount]).toEqual([{ flush: 0, change: 0 }, 0]);
  return operations;
}

function judgeFor(kind: Kind, chosen: number): Judge {
  let past = 0;
  return (operation, index) => {
    if (index < chosen || !kind.concerns(operation)) return undefined;
    return kind.fault(operation, index === chosen, past++);
  };
}

/** Needs space that nobody has taken yet. Room for the journal's entries is taken before they are written. */
function isNew(memory: MemoryStorage, { kind, path, offset = 0, length = 0 }: Step): boolean {
  const content = memory.content(path);
  if (!content || kind !== "write") return TAKES_SPACE.has(kind);
  for (let page = Math.floor(offset / 4096); page * 4096 < offset + length; page++)
    if (!content.pages.has(page)) return true;
  return false;
}

function roomFor(session: Session, judge: Judge): Judge {
  return (operation, index) => (isNew(session.memory, operation) ? judge(operation, index) : undefined);
}

describe.each(KINDS)(`$title (endings: ${HOW})`, { timeout: LIMIT_MS }, (kind) => {
  test("nothing that was replied to is lost, and what fails is told", async () => {
    const operations = await operationsOf();
    const numbers = [...operations.keys()].filter((i) => kind.concerns(operations[i] as Step));
    expect(numbers.length).toBeGreaterThan(4);
    for (const chosen of numbers) {
      for (const ending of sampleOf(ENDINGS, ENDINGS_EACH, chosen)) {
        const where = `${kind.title}: operation ${chosen} ${JSON.stringify(operations[chosen])}`;
        const session = new Session(start, judgeFor(kind, chosen), where, kind.isOfSpace);
        const story = { storage: session.memory, before: start, ledger: session.ledger, where };
        trials++;
        if (await session.open()) {
          session.work(WORK, ending.includes("at once"));
          session.expectReadable();
          if (ending === "closed" && !session.isLost) {
            try {
              session.stack?.close();
            } catch (error) {
              expect(error, where).toBeInstanceOf(CowError);
            }
          } else session.stack?.abandon();
          expect(session.faulty.openCount, `${where}: open files`).toBe(0);
        }
        refused += session.refused.change + session.refused.flush;
        await expectAfterwards(story, ending);
      }
    }
  });
});

describe("an fsync that fails", () => {
  test("is told to every later flush, whatever comes, until the file is opened anew", async () => {
    const operations = await operationsOf();
    const flushes = [...operations.keys()].filter(
      (i) => operations[i]?.kind === "flush" && operations[i]?.path === "cow",
    );
    // The last ones are those of the orderly end.
    expect(flushes.length).toBeGreaterThan(6);
    for (const chosen of flushes.slice(0, -3)) {
      const where = `fsync, operation ${chosen}`;
      const judge: Judge = (_, index) => (index === chosen ? { errno: "EIO" } : undefined);
      const session = new Session(start, judge, where);
      expect(await session.open()).toBe(true);
      session.work(WORK);
      expect(session.faulty.failed, where).toHaveLength(1);
      expect(session.refused.flush + session.refused.change, where).toBeGreaterThan(0);
      const image = session.stack?.image();
      if (!image) throw new Error("not open");
      for (let tries = 0; tries < 3; tries++)
        expect(() => image.flush(), where).toThrow(/an earlier write or fsync failed/);
      session.expectReadable();
      expect(() => session.stack?.close(), where).toThrow(CowError);
      expect(session.faulty.openCount, where).toBe(0);

      const next = new Session(session.memory, () => undefined, `${where}, opened anew`);
      expect(await next.open()).toBe(true);
      session.ledger.judge(contentOf(next.stack?.image() as LiveImage), where);
      next.stack?.image().flush();
      next.stack?.close();
    }
  });
});

describe("a disk that has room again", { timeout: LIMIT_MS }, () => {
  test("takes everything, without a new start", async () => {
    const operations = await operationsOf();
    const first = operations.findIndex(
      ({ kind, path, offset = 0 }) => kind === "write" && path === "cow" && offset > 4096,
    );
    for (let chosen = first; chosen < operations.length - 6; chosen++) {
      let isOver = false;
      const full: Judge = (operation, index) =>
        !isOver && index >= chosen && TAKES_SPACE.has(operation.kind)
          ? { errno: "ENOSPC", doneBytes: half(operation) }
          : undefined;
      const where = `full from operation ${chosen}`;
      const session = new Session(start, full, where, true);
      expect(await session.open()).toBe(true);
      session.work(WORK);
      session.expectReadable();
      if (session.isLost) continue;
      isOver = true;
      const before = session.refused.change + session.refused.flush;
      session.work(WORK);
      expect(session.refused.change + session.refused.flush, `${where}: refused once there was room`).toBe(before);
      session.expectReadable();
      session.stack?.close();
      const seen = await readAgain(session.memory, NEXT_BOOT);
      session.ledger.judge(seen, where);
      trials++;
    }
  });
});
