/**
 * Owns a file that is mapped into the process's memory, so that system calls can take bytes from the page cache which
 * nobody has copied before. JavaScript never looks into a mapping: what can't be had (an error of the disk, a file cut
 * short) would kill the process then, but is an EFAULT to a system call. There is no portable way: without native calls
 * nothing is mapped.
 */
import { libc } from "./libc.ts";

const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FIXED = 0x10;
/** No mapping lies beyond this on any 64-bit machine; what mmap returns when it fails does. */
const ADDRESSES_END = 2 ** 52;

/** What one page of page tables speaks for. */
const REGION_BYTES = 2 << 20;
/** Regions that are mapped at a time: their page tables take 32 MiB, for a file of 16 GiB or a part of a larger one. */
const REGIONS_AT_MOST = 8192;

/** A mapping, for all threads of the process. */
export interface MappingHandover {
  readonly address: number;
  readonly lengthBytes: number;
  readonly fd: number;
  /** A counter of regions in use, and then a byte for each region. */
  readonly regions: SharedArrayBuffer;
}

export class FileMapping {
  readonly handover: MappingHandover;
  readonly #address: number;
  readonly #length: number;
  readonly #count: Int32Array;
  readonly #used: Uint8Array;

  private constructor(handover: MappingHandover) {
    this.handover = handover;
    this.#address = handover.address;
    this.#length = handover.lengthBytes;
    this.#count = new Int32Array(handover.regions, 0, 1);
    this.#used = new Uint8Array(handover.regions, 4);
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
    const address = c.mmap(0, lengthBytes, PROT_READ, MAP_SHARED, fd);
    if (address >= ADDRESSES_END) return undefined;
    const regions = new SharedArrayBuffer(4 + Math.ceil(lengthBytes / REGION_BYTES));
    return new FileMapping({ address, lengthBytes, fd, regions });
  }

  /** A mapping that another thread made, and closes. */
  static receive(handover: MappingHandover): FileMapping {
    return new FileMapping(handover);
  }

  /** Where `[offset, offset + length)` of the file lies in memory; 0 if it does not lie in the mapping. */
  locate(offset: number, length: number): number {
    const end = offset + length;
    if (end > this.#length) return 0;
    const last = Math.floor((end - 1) / REGION_BYTES);
    for (let region = Math.floor(offset / REGION_BYTES); region <= last; region++) {
      if (this.#used[region] === 0) this.#use(region);
    }
    return this.#address + offset;
  }

  /** Page tables are memory that the kernel does not take back by itself: when there are too many, all begin anew. */
  #use(region: number): void {
    if (Atomics.add(this.#count, 0, 1) >= REGIONS_AT_MOST) {
      Atomics.store(this.#count, 0, 1);
      this.#used.fill(0);
      const { address, lengthBytes, fd } = this.handover;
      const c = libc();
      // In one step, so that no other thread finds the place empty or taken by something else.
      c?.mmap(address, lengthBytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd);
    }
    this.#used[region] = 1;
  }

  /** No thread uses it any more. */
  close(): void {
    libc()?.munmap(this.#address, this.#length);
  }
}
