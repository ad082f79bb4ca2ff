/**
 * Owns making small qcow2 files by hand whose tables promise much more than there is.
 */
import { SparseBytes } from "../../../src/lib/index.ts";

const CLUSTER = 65536;
/** Bytes of image that one L2 table maps. */
export const PER_TABLE = (CLUSTER / 8) * CLUSTER;

/**
 * A file of version 3 with an L1 table of `count` entries.
 *
 * @param tableOf which L2 table an entry names, from 0 on; the file has room for all, and they are holes
 */
export function qcow2Of(count: number, tableOf: (entry: number) => number): SparseBytes {
  const l1Bytes = Math.ceil((count * 8) / CLUSTER) * CLUSTER;
  const first = 2 * CLUSTER + l1Bytes;
  const head = Buffer.alloc(104);
  head.write("QFI\xfb", 0, "latin1");
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(BigInt(count) * BigInt(PER_TABLE), 24);
  head.writeUInt32BE(count, 36);
  head.writeBigUInt64BE(BigInt(2 * CLUSTER), 40);
  head.writeBigUInt64BE(BigInt(CLUSTER), 48);
  head.writeUInt32BE(1, 56);
  head.writeUInt32BE(4, 96);
  head.writeUInt32BE(104, 100);
  const l1 = Buffer.alloc(count * 8);
  let end = first;
  for (let i = 0; i < count; i++) {
    const at = first + tableOf(i) * CLUSTER;
    end = Math.max(end, at + CLUSTER);
    l1.writeUInt32BE((0x8000_0000 | Math.floor(at / 2 ** 32)) >>> 0, i * 8);
    l1.writeUInt32BE(at % 2 ** 32, i * 8 + 4);
  }
  const bytes = new SparseBytes();
  bytes.resize(end);
  bytes.write(head, 0);
  bytes.write(l1, 2 * CLUSTER);
  return bytes;
}

/** Where the L2 table of that number is, in a file with an L1 table of one cluster. */
export function tableAt(number: number): number {
  return (3 + number) * CLUSTER;
}
