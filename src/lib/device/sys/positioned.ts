/**
 * Owns reading and writing at an offset of a file by the shortest way: Node's own calls check, trace and wrap for
 * longer than the kernel takes to copy a page. Errors are left to Node, which has the messages.
 */
import { libc } from "./libc.ts";

/** The address of each buffer used so far: asking costs more than the call. */
const addresses = new WeakMap<ArrayBufferLike, number>();

/** The address of bytes, for system calls; undefined without native calls. It is valid while they are referenced. */
export function addressOf(bytes: Uint8Array): number | undefined {
  const { buffer } = bytes;
  let address = addresses.get(buffer);
  if (address === undefined) {
    const c = libc();
    if (!c || !(buffer instanceof ArrayBuffer)) return undefined;
    address = Number(c.addressOf(buffer));
    addresses.set(buffer, address);
  }
  return address + bytes.byteOffset;
}

/** @returns the bytes read; -1 if the call failed or is impossible */
export function readAt(fd: number, target: Uint8Array, offset: number): number {
  const address = addressOf(target);
  return address === undefined ? -1 : (libc()?.pread(fd, address, target.length, offset) ?? -1);
}

/** @returns the bytes written; -1 if the call failed or is impossible */
export function writeAt(fd: number, source: Uint8Array, offset: number): number {
  const address = addressOf(source);
  return address === undefined ? -1 : (libc()?.pwrite(fd, address, source.length, offset) ?? -1);
}
