/**
 * Owns reading and writing at a place of a file by the shortest way there is: Node's own calls check, trace and wrap for
 * longer than the kernel takes to copy a page. What goes wrong is left to them, since they have the words for it.
 */
import { libc } from "./libc.ts";

/** The address of each buffer that was used, as asking costs more than the call. */
const addresses = new WeakMap<ArrayBufferLike, number>();

/** Where bytes lie in memory, for system calls; undefined where there are none. They stay there while they are referenced. */
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

/** @returns the bytes read; -1 where the call failed, or can't be made */
export function readAt(fd: number, target: Uint8Array, offset: number): number {
  const address = addressOf(target);
  return address === undefined ? -1 : (libc()?.pread(fd, address, target.length, offset) ?? -1);
}

/** @returns the bytes written; -1 where the call failed, or can't be made */
export function writeAt(fd: number, source: Uint8Array, offset: number): number {
  const address = addressOf(source);
  return address === undefined ? -1 : (libc()?.pwrite(fd, address, source.length, offset) ?? -1);
}
