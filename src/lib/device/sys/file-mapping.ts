/**
 * Owns a file mapped into the process's memory, so that system calls can take bytes from the page cache without a copy.
 * JavaScript never reads a mapping: an unreadable page (a disk error, a file cut short) would kill the process, but is
 * an EFAULT to a system call. There is no portable way: without native calls nothing is mapped.
 *
 * Only pages in the page cache should be read this way: a page fault fetches worse than read(2) does. The kernel is
 * asked about 64 KiB at a time, and what it says of each page is believed until a fault had to wait for a disk: files of
 * layers are sparse, and of most of their chunks only some pages are ever in memory.
 */
import { libc } from "./libc.ts";

const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FIXED = 0x10;
const PAGE_BYTES = 4096;

/** The unit of asking: a page fault maps this much of the page cache. As many pages as a half word has bits. */
const CHUNK_BYTES = 64 << 10;
const ALL_PAGES = 0xffff;
/** The range of one page of page tables. */
const REGION_CHUNKS = 32;
const REGION_BYTES = REGION_CHUNKS * CHUNK_BYTES;
/** Regions that are mapped at a time: their page tables take 32 MiB, for a file of 16 GiB or a part of a larger one. */
const REGIONS_AT_MOST = 8192;
/** If the kernel's answers are wrong this often (for a file that we may not write they are), the mapping is given up. */
const DISAPPOINTMENTS_AT_MOST = 16;
/** This many cached chunks make up for a wrong answer: the kernel drops pages now and then. */
const CHUNKS_PER_PARDON = 1024;

/** More than any number of wrong answers: the mapping is no longer ours. */
const GIVEN_UP = 1 << 30;

/** Words before those of the regions. */
const USED = 0;
const DISAPPOINTMENTS = 1;
const HEAD_WORDS = 2;

/** A mapping, for all threads of the process. */
export interface PassedMapping {
  readonly address: number;
  readonly lengthBytes: number;
  readonly fd: number;
  /** Two counters, a word for each region that is 1 if it has cached pages, then for each chunk a bit for each cached page. */
  readonly words: SharedArrayBuffer;
}

export class FileMapping {
  readonly passed: PassedMapping;
  readonly #address: number;
  readonly #length: number;
  readonly #head: Int32Array;
  readonly #regions: Int32Array;
  readonly #chunks: Uint16Array;
  readonly #pages = new Uint8Array(CHUNK_BYTES / PAGE_BYTES);
  #found = 0;

  private constructor(passed: PassedMapping) {
    this.passed = passed;
    this.#address = passed.address;
    this.#length = passed.lengthBytes;
    this.#head = new Int32Array(passed.words, 0, HEAD_WORDS);
    const regions = Math.ceil(passed.lengthBytes / REGION_BYTES);
    this.#regions = new Int32Array(passed.words, HEAD_WORDS * 4, regions);
    this.#chunks = new Uint16Array(passed.words, (HEAD_WORDS + regions) * 4);
  }

  /**
   * Maps a file from its start, for reading. The mapping keeps the open file alive, with its locks, until close().
   *
   * @param lengthBytes may reach beyond the end of the file
   * @returns undefined where that can't be had
   */
  static map(fd: number, lengthBytes: number): FileMapping | undefined {
    const c = libc();
    if (!c || lengthBytes <= 0) return undefined;
    const address = c.mmap(0, lengthBytes, PROT_READ, MAP_SHARED, fd, 0);
    if (address === undefined) return undefined;
    const regions = Math.ceil(lengthBytes / REGION_BYTES);
    const words = new SharedArrayBuffer((HEAD_WORDS + regions) * 4 + regions * REGION_CHUNKS * 2);
    return new FileMapping({ address, lengthBytes, fd, words });
  }

  /** A mapping that another thread made, and closes. */
  static receive(passed: PassedMapping): FileMapping {
    return new FileMapping(passed);
  }

  /** The address of `[offset, offset + length)` of the file; 0 if it is not mapped, or not in the page cache. */
  locate(offset: number, length: number): number {
    const end = offset + length;
    if (end > this.#length) return 0;
    const last = Math.floor((end - 1) / CHUNK_BYTES);
    for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk <= last; chunk++) {
      const start = chunk * CHUNK_BYTES;
      const pages = pagesIn(Math.max(offset, start) - start, Math.min(end, start + CHUNK_BYTES) - start);
      if (((this.#chunks[chunk] ?? 0) & pages) !== pages && !this.#areCached(chunk, pages)) return 0;
    }
    return this.#address + offset;
  }

  /** Asks the kernel. If two threads record answers at once, one may get lost; it is asked again. */
  #areCached(chunk: number, wanted: number): boolean {
    if ((this.#head[DISAPPOINTMENTS] ?? 0) >= DISAPPOINTMENTS_AT_MOST) return false;
    const start = chunk * CHUNK_BYTES;
    const size = Math.min(CHUNK_BYTES, this.#length - start);
    if (libc()?.mincore(this.#address + start, size, this.#pages) !== 0) return false;
    const count = Math.ceil(size / PAGE_BYTES);
    let cached = 0;
    for (let page = 0; page < count; page++) cached |= ((this.#pages[page] ?? 0) & 1) << page;
    if ((cached & wanted) !== wanted) return false;
    const region = Math.floor(chunk / REGION_CHUNKS);
    // The kernel does not free page tables by itself: when there are too many, all are dropped.
    if (this.#regions[region] === 0 && Atomics.add(this.#head, USED, 1) >= REGIONS_AT_MOST) this.#beginAnew();
    this.#chunks[chunk] = cached;
    // Only now: whatever another thread clears meanwhile, no bits are left in a region that says it has none.
    this.#regions[region] = 1;
    this.#found++;
    if (this.#found % CHUNKS_PER_PARDON === 0 && (this.#head[DISAPPOINTMENTS] ?? 0) > 0)
      Atomics.sub(this.#head, DISAPPOINTMENTS, 1);
    return true;
  }

  #beginAnew(): void {
    const { address, lengthBytes, fd } = this.passed;
    // Only where there is something: the words of a large file are memory that was never touched.
    for (let region = this.#regions.indexOf(1); region >= 0; region = this.#regions.indexOf(1, region + 1)) {
      this.#regions[region] = 0;
      this.#chunks.fill(0, region * REGION_CHUNKS, (region + 1) * REGION_CHUNKS);
    }
    Atomics.store(this.#head, USED, 1);
    // In one step, so that no other thread finds the address range empty or taken by something else.
    const got = libc()?.mmap(address, lengthBytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    // It is unknown what is mapped there now, if anything.
    if (got !== address) Atomics.store(this.#head, DISAPPOINTMENTS, GIVEN_UP);
  }

  /** Data that locate() had found had to be waited for, or could not be read. */
  invalidate(): void {
    if ((this.#head[DISAPPOINTMENTS] ?? 0) >= DISAPPOINTMENTS_AT_MOST) return;
    Atomics.add(this.#head, DISAPPOINTMENTS, 1);
    this.#beginAnew();
  }

  /** No thread uses it any more. */
  close(): void {
    if ((this.#head[DISAPPOINTMENTS] ?? 0) < GIVEN_UP) libc()?.munmap(this.#address, this.#length);
  }
}

/** The bits of the pages of a chunk that `[from, end)` is in, which are offsets in the chunk. */
function pagesIn(from: number, end: number): number {
  const first = Math.floor(from / PAGE_BYTES);
  const last = Math.floor((end - 1) / PAGE_BYTES);
  return (ALL_PAGES >>> (15 - last + first)) << first;
}
