/**
 * Owns what a process with many threads and large buffers asks of the C library's memory: to give back what is free.
 * Without native calls it keeps what it likes.
 */
import { libc } from "./libc.ts";

const MMAP_THRESHOLD = -3;
const ARENA_MAX = -8;
/** Buffers of this size and more are given back as soon as they are free; the C library would raise the limit by itself. */
const LARGE_BYTES = 128 * 1024;
/** Threads that come and go would each leave a heap of their own behind. */
const ARENAS = 2;

/** To be called once, before threads are started. */
export function preferSmallMemory(): void {
  const c = libc();
  c?.mallocOption(MMAP_THRESHOLD, LARGE_BYTES);
  c?.mallocOption(ARENA_MAX, ARENAS);
}

/** Gives free memory back. Costs some milliseconds. */
export function trimMemory(): void {
  libc()?.mallocTrim();
}
