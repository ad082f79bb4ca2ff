/**
 * Owns giving the memory of large buffers back at once. The garbage collector sees them late, since they lie outside of
 * its heap, and a stream of them would pile up to hundreds of megabytes.
 */

/** Frees a buffer that nobody uses any more; views of it become empty. Buffers that share their memory are left alone. */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) buffer.transfer(0);
}
