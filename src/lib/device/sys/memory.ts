/**
 * Owns settings of the C library's memory for a process with many threads and large buffers: to return free memory.
 * Does nothing without native calls. Also owns files that exist only in memory.
 */
import { libc } from "./libc.ts";

const MMAP_THRESHOLD = -3;
const ARENA_MAX = -8;
/**
 * Buffers of this size and more take only the memory that is touched, and are returned as soon as they are free; the C
 * library would raise the limit by itself.
 *
 * @internal
 */
export const LARGE_BYTES = 128 * 1024;
/** Each thread that comes and goes would leave a heap of its own behind. */
const ARENAS = 2;

/** Must be called once, before threads are started. */
export function preferSmallMemory(): void {
  const c = libc();
  c?.mallocOption(MMAP_THRESHOLD, LARGE_BYTES);
  c?.mallocOption(ARENA_MAX, ARENAS);
}

/** Returns free memory to the system. Costs some milliseconds. */
export function trimMemory(): void {
  libc()?.mallocTrim();
}

/** An empty file in memory, gone when its descriptor is closed; undefined where there can be none. */
export function openMemoryFile(name: string): number | undefined {
  const fd = libc()?.memfdCreate(name) ?? -1;
  return fd < 0 ? undefined : fd;
}
