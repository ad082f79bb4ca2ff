/**
 * Owns the part of the cowloop driver: it writes into a cowfile as the driver does, and dies before it can close it.
 * Must not use cowtool's own code, which it is to be a witness against.
 *
 * The driver writes the data of a block where it belongs, then marks the head dirty, but keeps the bit that says "this
 * block is here" in memory until the next sync. Only for a new block of nothing but zeros, which no repair could ever
 * find, it writes that part of the bitmap at once. The head's count stays that of the last sync.
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";

const BLOCK_BYTES = 1024;
const FLAGS_AT = 6;
const MAP_SIZE_AT = 16;
const DATA_OFFSET_AT = 24;
const MAP_AT = 1024;
const DIRTY = 1;

/**
 * Writes what differs between the images `before` and `after` into `cowfile` (of ABI le64), which shows `before`.
 *
 * @returns blocks written, and of these: blocks whose bit died with the driver
 */
export function writeAndDie(cowfile, before, after) {
  const [from, to] = [readFileSync(before), readFileSync(after)];
  const fd = openSync(cowfile, "r+");
  const head = Buffer.alloc(BLOCK_BYTES);
  readSync(fd, head, 0, BLOCK_BYTES, 0);
  const map = Buffer.alloc(Number(head.readBigUInt64LE(MAP_SIZE_AT)));
  readSync(fd, map, 0, map.length, MAP_AT);
  const dataOffset = Number(head.readBigUInt64LE(DATA_OFFSET_AT));
  const onlyInMemory = new Set();
  let written = 0;
  for (let block = 0; block < to.length / BLOCK_BYTES; block++) {
    const data = to.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    if (data.equals(from.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES))) continue;
    written++;
    writeSync(fd, data, 0, data.length, dataOffset + block * BLOCK_BYTES);
    const [byte, bit] = [block >> 3, 1 << (block & 7)];
    if (map[byte] & bit) continue;
    map[byte] |= bit;
    onlyInMemory.add(block);
    head.writeUInt16LE(head.readUInt16LE(FLAGS_AT) | DIRTY, FLAGS_AT);
    writeSync(fd, head, 0, BLOCK_BYTES, 0);
    if (data.every((value) => value === 0)) flushPartOf(map, byte, fd, onlyInMemory);
  }
  closeSync(fd);
  return { written, unmarked: onlyInMemory.size };
}

/** Writes the KiB of the bitmap that holds `byte`, and with it every other bit there. */
function flushPartOf(map, byte, fd, onlyInMemory) {
  const part = byte - (byte % BLOCK_BYTES);
  writeSync(fd, map, part, BLOCK_BYTES, MAP_AT + part);
  for (const block of onlyInMemory) {
    if (block >> 3 >= part && block >> 3 < part + BLOCK_BYTES) onlyInMemory.delete(block);
  }
}
