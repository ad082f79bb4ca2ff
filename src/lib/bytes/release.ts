/**
 * Owns freeing the memory of large buffers at once. It is outside the heap, so the garbage collector notices it late,
 * and a stream of buffers would pile up to hundreds of megabytes.
 */

/** Frees a buffer that is no longer used; views of it become empty. Buffers that share their memory are left alone. */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) buffer.transfer(0);
}
